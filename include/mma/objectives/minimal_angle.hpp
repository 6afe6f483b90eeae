// MinimalAngle, the paper's objective: minus the mean angle between each row and its nearest (Eq 6), in radians.
//   l = -(1/n) sum_i min_{j != i} theta_ij
// Wang, Xiang, Zou, Xu: MMA Regularization: Decorrelating Weights of Neural Networks by Maximizing the Minimal Angles,
// NeurIPS 2020. Only the n chosen pairs carry gradient, so value and gradient are O(n d) once they are found.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "../detail/full_precision.hpp"
#include "../detail/minimal_angle_gradient.hpp"
#include "../detail/nearest_rows.hpp"
#include "../detail/pair_angles.hpp"
#include "../detail/row_norms.hpp"
#include "../objective.hpp"

namespace mma {

namespace detail {

/// Value [b] of Eq 6 and the nearest rows [b, n] that it chose.
struct MinimalAngleValue {
  at::Tensor value;
  at::Tensor nearest;
};

/// How many rows count in each matrix [b], float64.
inline at::Tensor usable_count(const at::Tensor& usable) { return usable.sum(-1).to(at::kDouble); }

inline MinimalAngleValue minimal_angle_value(const at::Tensor& rows, const at::Tensor& usable) {
  const int64_t batch = rows.size(0), n = rows.size(1);
  const at::Tensor norms = row_norms(rows);
  const at::Tensor nearest = nearest_rows(rows, norms, usable);
  const at::Tensor angles =
      pair_angles(rows.reshape({batch * n, -1}), norms.reshape(-1).masked_fill(usable.reshape(-1).logical_not(), 1.0),
                  flat_index(at::arange(n, nearest.options()).expand({batch, n})), flat_index(nearest))
          .reshape({batch, n});
  const at::Tensor count = usable_count(usable);
  const at::Tensor mean = angles.masked_fill(usable.logical_not(), 0.0).sum(-1).neg_().div_(count);
  // A NaN or Inf anywhere makes the loss NaN: its norm is not finite, and 0 times that is NaN.
  const at::Tensor not_finite = norms.sum(-1).mul_(0);
  return {at::where(count >= 2, mean, 0.0).add_(not_finite).to(rows.scalar_type()), nearest};
}

/// d(grad_output . l)/d rows, given the chosen pairs; differentiable in rows and grad_output.
inline at::Tensor minimal_angle_backward(const at::Tensor& rows, const at::Tensor& usable, const at::Tensor& nearest,
                                         const at::Tensor& grad_output) {
  const at::Tensor not_finite = row_norms(rows.detach()).sum(-1).mul_(0);
  const at::Tensor per_row = grad_output.to(at::kDouble).div(usable_count(usable)).add(not_finite).unsqueeze(-1);
  const at::Tensor counts = usable.logical_and(usable_count(usable).ge(2).unsqueeze(-1));
  return nearest_angle_gradient(rows, nearest, at::where(counts, per_row, 0.0));
}

class MinimalAngleFunction : public torch::autograd::Function<MinimalAngleFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows,
                            const at::Tensor& usable) {
    const MinimalAngleValue result = minimal_angle_value(rows, usable);
    context->save_for_backward({rows, usable, result.nearest});
    return result.value;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    return {minimal_angle_backward(saved[0], saved[1], saved[2], grad_outputs[0]), at::Tensor()};
  }
};

}  // namespace detail

struct MinimalAngle {
  /// rows [b, n, d] (float32 or float64, as they are, not normalised), usable [b, n] (bool: which rows count)
  /// -> [b], in [-pi, 0] radians; 0 for a matrix with fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::MinimalAngleFunction::apply(rows, usable);
  }

  /// The value [b] and d(grad_output . value)/d rows [b, n, d] without an autograd graph.
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    const auto result = detail::minimal_angle_value(rows, usable);
    return {result.value, detail::minimal_angle_backward(rows, usable, result.nearest, grad_output)};
  }
};

/// Eq 6 of one matrix [n, d] (a scalar) or of a batch [b, n, d] (a vector [b]), differentiable, in the weight's dtype
/// (float16 and bfloat16 give float32). For a convolution's weight pass mma::weight_rows(weight).
/// Throws c10::Error for anything that is not a dense floating-point tensor of two or three dimensions.
inline at::Tensor minimal_angle_loss(const at::Tensor& weight) {
  return detail::loss_of(MinimalAngle{}, weight, "minimal_angle_loss");
}

}  // namespace mma
