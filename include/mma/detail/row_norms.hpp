// Norms of rows in float64, and which rows count: a zero row (a pruned filter) has no direction.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/where.h>

#include "cpu_pairs.hpp"

namespace mma::detail {

/// Norms [..., n] in float64 of rows [..., n, d]; differentiable.
inline at::Tensor row_norms(const at::Tensor& rows) {
  if (takes_cpu_loops(rows) && rows.numel() > 0) {
    return cpu_row_norms(rows);
  }
  if (rows.scalar_type() != at::kDouble) {
    return at::linalg_vector_norm(rows, 2, -1, false, at::kDouble);
  }
  // Squares of float64 overflow at 1e154: scale by the largest entry, which is a constant to the derivative.
  const at::Tensor largest = rows.detach().abs().amax(-1, true);
  const at::Tensor scale = at::where((largest > 0).logical_and(largest.isfinite()), largest, 1.0);
  return (at::linalg_vector_norm(rows / scale, 2, -1, true) * scale).squeeze(-1);
}

/// Rows [b, n, d] over their norms, in their own dtype. Scaled by a power of two first, which is exact, because the
/// inverse of a tiny or a huge norm is not a normal float32.
inline at::Tensor unit_rows(const at::Tensor& rows, const at::Tensor& norms) {
  const at::Tensor scale = at::exp2(at::log2(norms).floor().neg().clamp(-149, 127));
  return rows.mul(scale.to(rows.scalar_type()).unsqueeze(-1))
      .div_((norms * scale).to(rows.scalar_type()).unsqueeze(-1));
}

/// Which rows count [..., n]. A row with NaN or Inf does: it must make the loss NaN, as everywhere in LibTorch.
inline at::Tensor usable_rows(const at::Tensor& rows) { return (row_norms(rows.detach()) < zero_norm).logical_not(); }

/// usable [layers, groups, n] -> [layers, groups] float64: each group's share of its layer's one mean over the usable
/// rows of all groups that have at least two.
inline at::Tensor group_shares(const at::Tensor& usable) {
  const at::Tensor count = usable.sum(-1).to(at::kDouble);
  const at::Tensor counted = count.masked_fill(count < 2, 0.0);
  return counted / counted.sum(-1, true).clamp_min(1.0);
}

}  // namespace mma::detail
