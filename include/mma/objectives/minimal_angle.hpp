// MinimalAngle, the paper's objective (Eq 6), and its functional form.
#pragma once

#include "../objective.hpp"

namespace mma {

/// The paper's objective (Eq 6): minus the mean angle between each row and its nearest, in radians.
///
///     l = -(1/n) sum_i min_{j != i} theta_ij
///
/// A pair's gradient is 1/(n |w_i|) at every angle (Eq 8), and exact duplicates part.
/// Wang, Xiang, Zou, Xu: MMA Regularization: Decorrelating Weights of Neural Networks by Maximizing the Minimal Angles,
/// NeurIPS 2020.
struct MinimalAngle {
  /// Angles between lines instead of rays: a row and the negative of another count as near. In [0, pi/2].
  bool half_space = false;

  /// rows [b, n, d] (float32 or float64, as they are, not normalised), usable [b, n] (bool: which rows count)
  /// -> [b], in [-pi, 0] radians; 0 for a matrix with fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::nearest::values_of(detail::nearest::only_usable(rows, usable), nearest());
  }

  /// @cond detail
  /// f(theta) = -theta.
  using OverNearestRows = MinimalAngle;
  detail::nearest::Objective nearest() const {
    return {.of_angle = -1, .of_cosine = 0, .half_space = half_space, .closest_only = false};
  }
  /// @endcond
};

/// Eq 6 of one matrix [n, d] (a scalar) or of a batch [b, n, d] (a vector [b]), differentiable, in the weight's dtype
/// (float16 and bfloat16 give float32). For a convolution's weight pass mma::weight_rows(weight).
/// Throws c10::Error for anything that is not a dense floating-point tensor of two or three dimensions.
inline at::Tensor minimal_angle_loss(const at::Tensor& weight, const MinimalAngle& objective = {}) {
  return detail::loss_of(objective, weight, "minimal_angle_loss");
}

}  // namespace mma
