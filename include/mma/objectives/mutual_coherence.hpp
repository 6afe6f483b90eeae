// MutualCoherence, and its functional form.
#pragma once

#include "../objective.hpp"

namespace mma {

/// The largest |cosine| between two rows, the cosine of the smallest angle between lines.
///
///     l = max_{i != j} |cos_ij|
///
/// At best it is the Welch bound sqrt((n - d) / (d (n - 1))).
/// Donoho, Huo: Uncertainty Principles and Ideal Atomic Decomposition, IEEE Trans. Inf. Theory 47 (2001); as a
/// regularizer in Bansal, Chen, Wang: Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?,
/// NeurIPS 2018.
struct MutualCoherence {
  /// rows [b, n, d], usable [b, n] -> [b] in [0, 1]; 0 for fewer than two usable rows. Twice differentiable. Of several
  /// closest pairs the one with the lowest index carries the gradient; exact duplicates never part.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::nearest::values_of(detail::nearest::only_usable(rows, usable), nearest());
  }

  /// @cond detail
  /// f(theta) = cos theta of the closest pair of lines.
  using OverNearestRows = MutualCoherence;
  detail::nearest::Objective nearest() const {
    return {.of_angle = 0, .of_cosine = 1, .half_space = true, .closest_only = true};
  }
  /// @endcond
};

/// MutualCoherence of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss().
inline at::Tensor mutual_coherence_loss(const at::Tensor& weight) {
  return detail::loss_of(MutualCoherence{}, weight, "mutual_coherence_loss");
}

}  // namespace mma
