// Norms of rows in float64, and which rows count: a zero row (a pruned filter) has no direction, a row with NaN or Inf
// makes the loss NaN. What a matrix's usable rows weigh in its layer. The constants are pairs/math.hpp's.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "../pairs/lists.hpp"
#include "../pairs/loops.hpp"
#include "../pairs/math.hpp"
#include "../threads.hpp"

namespace mma::detail::rows {

using pairs::zero_norm;

/// |w| in float64. Squares of float64 overflow at 1e154: scaled there by a power of two near the largest entry.
template <typename T>
double norm_of(const T* w, int64_t dimension) {
  double scale = 1;
  if constexpr (std::is_same_v<T, double>) {
    const double largest =
        std::abs(*std::max_element(w, w + dimension, [](T a, T b) { return std::abs(a) < std::abs(b); }));
    scale = pairs::is_finite(largest) && largest > zero_norm ? std::exp2(std::floor(std::log2(largest))) : 1;
  }
  return scale * std::sqrt(pairs::square_sum(w, 1 / scale, dimension));
}

/// Norms [...] of rows [..., d], float64, in plain loops.
inline at::Tensor cpu_row_norms(const at::Tensor& rows) {
  const at::Tensor contiguous = rows.contiguous();
  const int64_t dimension = rows.size(-1), count = rows.numel() / dimension;
  at::Tensor norms = at::empty(rows.sizes().slice(0, static_cast<size_t>(rows.dim() - 1)), at::kDouble);
  auto* norm = norms.mutable_data_ptr<double>();
  pairs::with_data(contiguous, [&](const auto* w) {
    for_each_range(count, pairs::rows_per_thread(dimension), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        norm[r] = norm_of(w + r * dimension, dimension);
      }
    });
  });
  return norms;
}

/// Norms [...] of rows [..., d] of float64, whose squares overflow at 1e154: scaled by the largest entry, which is a
/// constant to the derivative.
inline at::Tensor scaled_norms(const at::Tensor& rows) {
  const at::Tensor largest = rows.detach().abs().amax(-1, true);
  const at::Tensor scale = at::where((largest > 0).logical_and(largest.isfinite()), largest, 1.0);
  return (at::linalg_vector_norm(rows / scale, 2, -1, true) * scale).squeeze(-1);
}

/// Norms [..., n] in float64 of rows [..., n, d]; differentiable.
inline at::Tensor row_norms(const at::Tensor& rows) {
  if (pairs::takes_cpu_loops(rows) && rows.numel() > 0) {
    return cpu_row_norms(rows);
  }
  return rows.scalar_type() == at::kDouble ? scaled_norms(rows)
                                           : at::linalg_vector_norm(rows, 2, -1, false, at::kDouble);
}

/// Rows [b, n, d] over their norms, in their own dtype. Scaled by a power of two first, which is exact, because the
/// inverse of a tiny or a huge norm is not a normal float32.
inline at::Tensor unit_rows(const at::Tensor& rows, const at::Tensor& norms) {
  const at::Tensor scale = at::exp2(at::log2(norms).floor().neg().clamp(-149, 127));
  return rows.mul(scale.to(rows.scalar_type()).unsqueeze(-1))
      .div_((norms * scale).to(rows.scalar_type()).unsqueeze(-1));
}

/// Which rows count [..., n]. A row with NaN or Inf does: it must make the loss NaN, as everywhere in LibTorch.
inline at::Tensor usable_among(const at::Tensor& norms) { return (norms < zero_norm).logical_not(); }

inline at::Tensor usable_rows(const at::Tensor& rows) { return usable_among(row_norms(rows.detach())); }

/// How many rows count in each matrix [...] of usable [..., n], float64.
inline at::Tensor usable_count(const at::Tensor& usable) { return usable.sum(-1).to(at::kDouble); }

/// usable [layers, groups, n] -> [layers, groups] float64: each group's share of its layer's one mean over the usable
/// rows of all groups that have at least two.
inline at::Tensor group_shares(const at::Tensor& usable) {
  const at::Tensor count = usable_count(usable);
  const at::Tensor counted = count.masked_fill(count < 2, 0.0);
  return counted / counted.sum(-1, true).clamp_min(1.0);
}

/// NaN for each matrix [b] with NaN or Inf in its norms [b, n], 0 for the others: added to a loss it makes it NaN, as
/// in LibTorch.
inline at::Tensor nan_where_infinite(const at::Tensor& norms) { return norms.sum(-1).mul_(0); }

inline at::Tensor nan_where_not_finite(const at::Tensor& rows) { return nan_where_infinite(row_norms(rows.detach())); }

}  // namespace mma::detail::rows
