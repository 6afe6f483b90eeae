// MaximalCosine, the paper's cosine loss (Eq 5 and Eq 2), and its functional form.
#pragma once

#include "../objective.hpp"

namespace mma {

/// The paper's cosine loss (Eq 5), and its form with the one global maximum (Eq 2).
///
///     l = (1/n) sum_i max_{j != i} cos_ij        closest_only: l = max_{i != j} cos_ij
///
/// Its gradient fades as sin theta where rows are near (Eq 7), so exact duplicates never part: see MinimalAngle.
/// Wang, Xiang, Zou, Xu: MMA Regularization, NeurIPS 2020.
struct MaximalCosine {
  bool closest_only = false;  ///< Eq 2: the closest pair alone; of several the one with the lowest index

  /// rows [b, n, d], usable [b, n] -> [b] in [-1, 1]; 0 for fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::nearest::values_of(detail::nearest::only_usable(rows, usable), nearest());
  }

  /// @cond detail
  /// f(theta) = cos theta.
  using OverNearestRows = MaximalCosine;
  detail::nearest::Objective nearest() const {
    return {.of_angle = 0, .of_cosine = 1, .half_space = false, .closest_only = closest_only};
  }
  /// @endcond
};

/// Eq 5 of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss().
inline at::Tensor maximal_cosine_loss(const at::Tensor& weight, const MaximalCosine& objective = {}) {
  return detail::loss_of(objective, weight, "maximal_cosine_loss");
}

}  // namespace mma
