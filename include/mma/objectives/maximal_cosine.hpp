// MaximalCosine, the paper's cosine loss (Eq 5), and its form with the one global maximum (Eq 2):
//   l = (1/n) sum_i max_{j != i} cos_ij        closest_only: l = max_{i != j} cos_ij
// Its gradient fades as sin theta where rows are near (Eq 7), so exact duplicates never part: see MinimalAngle.
// Wang, Xiang, Zou, Xu: MMA Regularization, NeurIPS 2020.
#pragma once

#include <utility>

#include "../detail/nearest_pairs.hpp"
#include "../objective.hpp"

namespace mma {

struct MaximalCosine {
  bool closest_only = false;  ///< Eq 2: the closest pair alone; of several the one with the lowest index

  /// rows [b, n, d], usable [b, n] -> [b] in [-1, 1]; 0 for fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return Pairs::apply(rows, usable, choice());
  }

  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return Pairs::value_and_gradient(rows, usable, grad_output, choice());
  }

  /// For Regularizer, which takes all layers in one pass.
  using OverNearestPairs = MaximalCosine;
  detail::PairObjective pair_objective() const { return {detail::PairFunction::Cosine, choice()}; }

 private:
  using Pairs = detail::NearestPairs<detail::CosineOfAngle>;
  detail::PairChoice choice() const { return {.closest_only = closest_only}; }
};

/// Eq 5 of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss.
inline at::Tensor maximal_cosine_loss(const at::Tensor& weight, const MaximalCosine& objective = {}) {
  return detail::loss_of(objective, weight, "maximal_cosine_loss");
}

}  // namespace mma
