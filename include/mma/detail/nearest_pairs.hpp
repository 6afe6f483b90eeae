// Objectives over each row's nearest row, or over the closest pair alone: l = mean_i f(theta_i) or f(min_i theta_i).
// Only the chosen pairs carry gradient, so value and gradient are O(n d) once they are found.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <numbers>
#include <utility>

#include "full_precision.hpp"
#include "nearest_rows.hpp"
#include "network_pairs.hpp"
#include "pair_angles.hpp"
#include "pair_gradient.hpp"
#include "row_norms.hpp"

namespace mma::detail {

/// How many rows count in each matrix [b], float64.
inline at::Tensor usable_count(const at::Tensor& usable) { return usable.sum(-1).to(at::kDouble); }

/// NaN for each matrix [b] with NaN or Inf in its norms [b, n], 0 for the others: added to a loss it makes it NaN, as
/// in LibTorch.
inline at::Tensor nan_where_infinite(const at::Tensor& norms) { return norms.sum(-1).mul_(0); }

inline at::Tensor nan_where_not_finite(const at::Tensor& rows) { return nan_where_infinite(row_norms(rows.detach())); }

/// Angles [b, n] (float64, from 0 to pi) between each row of rows [b, n, d], with norms [b, n], and row nearest [b, n];
/// differentiable.
inline at::Tensor angles_to(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& usable,
                            const at::Tensor& nearest) {
  const int64_t batch = rows.size(0), n = rows.size(1);
  const at::Tensor safe = norms.reshape(-1).masked_fill(usable.reshape(-1).logical_not(), 1.0);
  const at::Tensor own = flat_index(at::arange(n, nearest.options()).expand({batch, n}));
  return pair_angles(rows.reshape({batch * n, -1}), safe, own, flat_index(nearest)).reshape({batch, n});
}

/// What each row weighs in its matrix's value [b, n]: 1/n, or 1 at the closest pair's first row; 0 for matrices with
/// fewer than two usable rows. `angles` are folded where lines are meant.
inline at::Tensor pair_weights(const at::Tensor& angles, const at::Tensor& usable, const PairChoice& choice) {
  const at::Tensor count = usable_count(usable).unsqueeze(-1);
  const at::Tensor counts = usable.logical_and(count >= 2);
  if (!choice.closest_only) {
    return at::where(counts, 1 / count, 0.0);
  }
  const at::Tensor first =
      angles.detach().masked_fill(usable.logical_not(), std::numeric_limits<double>::infinity()).argmin(-1, true);
  return at::where(counts, at::zeros_like(count).expand_as(usable).scatter(-1, first, 1.0), 0.0);
}

/// An angle as the choice means it, and the sign of its derivative by the angle between the rows.
struct FoldedAngle {
  at::Tensor angle, sign;
};

inline FoldedAngle folded(const at::Tensor& angles, const PairChoice& choice) {
  if (!choice.half_space) {
    return {angles, at::ones_like(angles)};
  }
  const at::Tensor obtuse = angles > std::numbers::pi / 2;
  return {at::where(obtuse, std::numbers::pi - angles, angles), at::where(obtuse, -1.0, 1.0)};
}

/// Function: static value(angle) and slope(angle), tensors of angles in radians to tensors, twice differentiable.
template <typename Function>
struct NearestPairs : torch::autograd::Function<NearestPairs<Function>> {
  struct Found {
    at::Tensor value;    ///< [b]
    at::Tensor nearest;  ///< [b, n]
    at::Tensor angles;   ///< [b, n] float64, between the rows
    at::Tensor norms;    ///< [b, n] float64
  };

  static Found find(const at::Tensor& rows, const at::Tensor& usable, const PairChoice& choice) {
    const at::Tensor norms = row_norms(rows);
    const at::Tensor nearest = nearest_rows(rows, norms, usable, choice.half_space);
    const at::Tensor angles = angles_to(rows, norms, usable, nearest);
    const at::Tensor angle = folded(angles, choice).angle;
    const at::Tensor weights = pair_weights(angle, usable, choice);
    const at::Tensor value = at::where(weights > 0, Function::value(angle) * weights, 0.0).sum(-1);
    return {(value + nan_where_infinite(norms)).to(rows.scalar_type()), nearest, angles, norms};
  }

  /// d(grad_output . value)/d rows, differentiable in rows and grad_output where a graph is asked for.
  static at::Tensor gradient(const at::Tensor& rows, const at::Tensor& usable, const Found& found,
                             const at::Tensor& grad_output, const PairChoice& choice) {
    const bool graph = at::GradMode::is_enabled() && rows.requires_grad();
    const auto [angle, sign] =
        folded(graph ? angles_to(rows, row_norms(rows), usable, found.nearest) : found.angles, choice);
    const at::Tensor weights = pair_weights(angle, usable, choice);
    const at::Tensor per_matrix = (grad_output.to(at::kDouble) + nan_where_infinite(found.norms)).unsqueeze(-1);
    const at::Tensor slopes = at::where(weights > 0, Function::slope(angle) * sign * weights, 0.0);
    return nearest_angle_gradient(rows, found.norms, found.nearest, found.angles, -slopes * per_matrix);
  }

  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows, const at::Tensor& usable,
                            const PairChoice& choice) {
    const Found found = find(rows, usable, choice);
    context->save_for_backward({rows, usable, found.nearest, found.angles, found.norms});
    context->saved_data["half_space"] = choice.half_space;
    context->saved_data["closest_only"] = choice.closest_only;
    return found.value;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    const PairChoice choice{context->saved_data["half_space"].toBool(), context->saved_data["closest_only"].toBool()};
    return {gradient(saved[0], saved[1], {{}, saved[2], saved[3], saved[4]}, grad_outputs[0], choice), at::Tensor(),
            at::Tensor()};
  }

  static std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                              const at::Tensor& grad_output, const PairChoice& choice) {
    const Found found = find(rows, usable, choice);
    return {found.value, gradient(rows, usable, found, grad_output, choice)};
  }
};

/// f(theta) = -theta: Eq 6.
struct MinusAngle {
  static at::Tensor value(const at::Tensor& angle) { return -angle; }
  static at::Tensor slope(const at::Tensor& angle) { return at::full_like(angle, -1.0); }
};

/// f(theta) = cos theta: Eq 5.
struct CosineOfAngle {
  static at::Tensor value(const at::Tensor& angle) { return angle.cos(); }
  static at::Tensor slope(const at::Tensor& angle) { return -angle.sin(); }
};

}  // namespace mma::detail
