// The exact gradient of sum_i -c_i theta(i, nearest(i)), by gather and scatter over the n chosen pairs (Eq 8: each pair
// pulls with 1/|w|, at every angle). Written in differentiable operations, so that double backward works.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include "../rows/norms.hpp"
#include "angles.hpp"
#include "lists.hpp"
#include "math.hpp"

namespace mma::detail::pairs {

/// Row indices [b, n] of matrices -> indices [b * n] into all their rows laid end to end.
inline at::Tensor flat_index(const at::Tensor& index) {
  const int64_t batch = index.size(0), n = index.size(1);
  return (index + at::arange(batch, index.options()).mul_(n).unsqueeze(1)).reshape(-1);
}

/// target[index[k]] += source[k], in the same order every time on every device.
inline void add_rows(at::Tensor& target, const at::Tensor& index, const at::Tensor& source) {
  // index_add is atomic on CUDA; index_put sorts there, but is atomic on the CPU.
  target.is_cuda() ? target.index_put_({index}, source, true) : target.index_add_(0, index, source);
}

/// The direction in which exact duplicates part: a coordinate axis chosen by the two indices, the same for (i, j) and
/// (j, i); the second choice is for a row that points along the first. [p, 1].
inline at::Tensor parting_axis(const at::Tensor& unit, const at::Tensor& first, const at::Tensor& second) {
  const int64_t dimension = unit.size(1);
  const at::Tensor mixed = at::minimum(first, second) * 73856093 + at::maximum(first, second) * 19349663;
  const at::Tensor axis = at::remainder(mixed, dimension).unsqueeze(1);
  return at::where(unit.detach().gather(1, axis).abs() > 0.9, at::remainder(axis + 1, dimension), axis);
}

/// What a list of pairs adds to the gradient: first_part [p, d] at rows `first`, second_part at rows `second`, and
/// for exact duplicates a number at one coordinate `axis` [p, 1] of each.
struct PairGradient {
  at::Tensor first_part, second_part, axis, first_axis_part, second_axis_part;
};

/// d(-weight * theta)/d(w_i), d/d(w_j) for rows w_i, w_j [p, d] in float64 and weight [p, 1].
/// The tangent at a towards b is (b - a cos)/sin; it is taken from b - a (or b + a beyond a right angle), without
/// cancellation: b - a cos = (b - a) + a |b - a|^2 / 2 = (b + a) - a |b + a|^2 / 2.
inline PairGradient pair_gradient(const at::Tensor& w_i, const at::Tensor& w_j, const at::Tensor& weight,
                                  const at::Tensor& first, const at::Tensor& second, double duplicate) {
  const at::Tensor norm_i = rows::row_norms(w_i).unsqueeze(1), norm_j = rows::row_norms(w_j).unsqueeze(1);
  // Zero rows have no pair (weight 0): keep them from dividing by zero.
  const at::Tensor safe_i = at::where(norm_i < zero_norm, 1.0, norm_i);
  const at::Tensor safe_j = at::where(norm_j < zero_norm, 1.0, norm_j);
  const at::Tensor a = w_i / safe_i, b = w_j / safe_j;
  const at::Tensor difference = length(b - a), sum = length(b + a);
  const at::Tensor pairs = first.ne(second).unsqueeze(1);
  const at::Tensor duplicates = (difference <= duplicate).logical_and(pairs).logical_and(weight > 0);
  const at::Tensor antipodes = (sum <= duplicate).logical_and(pairs).logical_and(weight < 0);
  const at::Tensor ordinary = (difference > duplicate).logical_and(sum > duplicate);

  const at::Tensor acute = difference <= sum;
  const at::Tensor sine = at::where(ordinary, difference * sum / 2, 1.0);
  const at::Tensor bend = at::where(acute, difference.square(), -sum.square()) / 2;
  const at::Tensor strength = at::where(ordinary, weight / sine, 0.0);
  const at::Tensor at_i = (at::where(acute, b - a, b + a) + a * bend) * (strength / safe_i);
  const at::Tensor at_j = (at::where(acute, a - b, a + b) + b * bend) * (strength / safe_j);

  // Exact duplicates, as lines also antipodes: t(i, j) = +-(e_k - a_k a)/|e_k - a_k a|; none for d = 1. Duplicates part
  // in opposite directions, the sign by the order of the indices; antipodes in the same one, whichever is first.
  const at::Tensor axis = parting_axis(a, first, second);
  const at::Tensor a_k = a.gather(1, axis);
  const at::Tensor rest = 1 - a_k.square();
  const at::Tensor parts = duplicates.logical_or(antipodes).logical_and(rest > 1e-12);
  const at::Tensor sign = at::where((first < second).unsqueeze(1).logical_or(antipodes), 1.0, -1.0);
  const at::Tensor push = at::where(parts, weight.abs() * sign / at::sqrt(at::where(parts, rest, 1.0)), 0.0);
  const at::Tensor mirrored = at::where(antipodes, push, -push);
  return {at_i - a * (a_k * push) / safe_i, at_j - a * (a_k * mirrored) / safe_j, axis, push / safe_i,
          mirrored / safe_j};
}

/// What each pair of a list gives its first row [p, d] float64: d(-weight theta)/d w_first, for rows [m, d] of matrices
/// of n rows laid end to end. Differentiable.
inline at::Tensor first_parts(const at::Tensor& rows, const at::Tensor& first, const at::Tensor& second, int64_t n,
                              const at::Tensor& weight) {
  const PairGradient part = pair_gradient(
      rows.index_select(0, first).to(at::kDouble), rows.index_select(0, second).to(at::kDouble), weight.unsqueeze(1),
      first.remainder(n), second.remainder(n), duplicate_distance(rows.scalar_type()));
  return part.first_part.scatter_add(1, part.axis, part.first_axis_part);
}

/// Adds |w_first| d(-weight theta)/d w_first for each pair of such a list, `first` ascending, to force [m, d]; norms
/// [m].
inline void add_pair_forces(at::Tensor& force, const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& first,
                            const at::Tensor& second, int64_t n, const at::Tensor& weight) {
  if (rows.is_cpu()) {
    cpu_add_pair_forces(force, rows, norms, first, second, n, weight);
    return;
  }
  const int64_t chunk = pairs_per_chunk(rows.size(1), rows.device());
  for (int64_t begin = 0; begin < first.size(0); begin += chunk) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, std::min(chunk, t.size(0) - begin)); };
    const at::Tensor index = part(first), size = norms.index_select(0, index).unsqueeze(1);
    add_rows(force, index, (first_parts(rows, index, part(second), n, part(weight)) * size).to(force.scalar_type()));
  }
}

/// rows [b, n, d], nearest [b, n] (int64, a row without one its own), weight [b, n] float64
/// -> d(sum_bi -weight_bi theta(i, nearest(i)))/d rows. Differentiable in rows and weight.
inline at::Tensor nearest_angle_gradient(const at::Tensor& rows, const at::Tensor& nearest, const at::Tensor& weight) {
  const int64_t batch = rows.size(0), n = rows.size(1), dimension = rows.size(2);
  const at::Tensor flat_rows = rows.reshape({batch * n, dimension});
  const at::Tensor first = flat_index(at::arange(n, nearest.options()).expand({batch, n}));
  const at::Tensor second = flat_index(nearest);
  const at::Tensor flat_weight = weight.reshape({batch * n, 1});
  const double duplicate = duplicate_distance(rows.scalar_type());

  at::Tensor gradient = at::zeros_like(flat_rows);
  const int64_t chunk = pairs_per_chunk(dimension, rows.device());
  for (int64_t begin = 0; begin < batch * n; begin += chunk) {
    const int64_t size = std::min(chunk, batch * n - begin);
    const at::Tensor i = first.narrow(0, begin, size), j = second.narrow(0, begin, size);
    const PairGradient part =
        pair_gradient(flat_rows.narrow(0, begin, size).to(at::kDouble), flat_rows.index_select(0, j).to(at::kDouble),
                      flat_weight.narrow(0, begin, size), i.remainder(n), j.remainder(n), duplicate);
    const at::Tensor first_part = part.first_part.scatter_add_(1, part.axis, part.first_axis_part);
    const at::Tensor second_part = part.second_part.scatter_add_(1, part.axis, part.second_axis_part);
    gradient.narrow(0, begin, size).add_(first_part);
    add_rows(gradient, j, second_part.to(rows.scalar_type()));
  }
  return gradient.reshape(rows.sizes());
}

}  // namespace mma::detail::pairs
