// The gradient of one layer's value as an expression that autograd can differentiate again. The angles are made anew
// from the rows, which neighbour is nearest stays as it was found.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <utility>

#include "../../pairs/angles.hpp"
#include "../../pairs/gradient.hpp"
#include "../../rows/norms.hpp"
#include "../engine.hpp"

namespace mma::detail::nearest::portable {

/// Of a weight with g matrices of n rows: Found's vectors as [g, n].
struct FoundOfWeight {
  at::Tensor norms, nearest, angles;
  bool groups_are_layers;  ///< each matrix is a layer; else they are one

  FoundOfWeight(const Found& found, int64_t first_row, int64_t groups, int64_t n, bool each_a_layer)
      : norms(part(found.norms, first_row, groups, n)),
        nearest(part(found.nearest, first_row, groups, n).to(at::kLong)),
        angles(part(found.angles, first_row, groups, n)),
        groups_are_layers(each_a_layer) {}

  /// t [g, ...] with the matrices of a layer together, [layers, g / layers, ...].
  at::Tensor by_layer(const at::Tensor& t) const { return t.unsqueeze(groups_are_layers ? 1 : 0); }

 private:
  static at::Tensor part(const at::Tensor& vector, int64_t first_row, int64_t groups, int64_t n) {
    return vector.narrow(0, first_row, groups * n).view({groups, n});
  }
};

/// Angles [g, n] between each row of rows [g, n, d] and its nearest, 0 for a row without one; differentiable.
inline at::Tensor angles_to_nearest(const at::Tensor& rows, const FoundOfWeight& found) {
  const int64_t groups = rows.size(0), n = rows.size(1);
  const at::Tensor own = at::arange(n, found.nearest.options()).expand({groups, n});
  const at::Tensor has = found.nearest.ne(own);
  // A row without a nearest one is put in its place by a unit vector: what a zero row would give is NaN to autograd.
  const at::Tensor axis = at::zeros_like(rows.detach());
  axis.select(2, 0).fill_(1);
  const at::Tensor vectors = at::where(has.unsqueeze(2), rows, axis);
  const at::Tensor angles = pairs::pair_angles(vectors.reshape({groups * n, -1}), rows::row_norms(vectors).reshape(-1),
                                               pairs::flat_index(own), pairs::flat_index(found.nearest));
  return at::where(has, angles.reshape({groups, n}), 0.0);
}

/// share_m weight_r [g, n] of the rows: see Found.
inline at::Tensor weights_of(const FoundOfWeight& found, const Objective& f) {
  const at::Tensor usable = found.norms.lt(pairs::zero_norm).logical_not();
  const at::Tensor share = rows::group_shares(found.by_layer(usable)).reshape({-1, 1});
  if (!f.closest_only) {
    return at::where(usable, share / rows::usable_count(usable).clamp_min(1).unsqueeze(1), 0.0);
  }
  const at::Tensor left_out = usable.logical_and(found.norms.isfinite()).logical_not();
  const at::Tensor theta = f.half_space ? at::minimum(found.angles, pairs::pi - found.angles) : found.angles;
  const at::Tensor closest = theta.masked_fill(left_out, 2 * pairs::pi).argmin(-1, true);
  return at::zeros_like(found.angles).scatter_(1, closest, share);
}

/// sum_l factors_l d values_l/d rows [g, n, d] of a weight, differentiable in rows [g, n, d] (float32 or float64) and
/// factors [layers] (float64).
inline at::Tensor differentiable_gradient(const at::Tensor& rows, const FoundOfWeight& found, const Objective& f,
                                          const at::Tensor& factors) {
  const bool graph = at::GradMode::is_enabled() && rows.requires_grad();
  const at::Tensor angles = graph ? angles_to_nearest(rows, found) : found.angles;
  const at::Tensor obtuse = f.half_space ? angles > pairs::pi / 2 : at::zeros_like(angles).to(at::kBool);
  const at::Tensor theta = at::where(obtuse, pairs::pi - angles, angles);
  at::Tensor slope = at::full_like(theta, f.of_angle);
  if (f.of_cosine != 0) {
    slope = slope - theta.sin() * f.of_cosine;
  }
  const at::Tensor weights = weights_of(found, f);
  const at::Tensor not_finite = rows::nan_where_infinite(found.by_layer(found.norms).flatten(1));
  const at::Tensor strength = at::where(obtuse, -slope, slope) * (factors + not_finite).unsqueeze(1);
  return pairs::nearest_angle_gradient(rows, found.nearest, -at::where(weights > 0, strength * weights, 0.0));
}

}  // namespace mma::detail::nearest::portable
