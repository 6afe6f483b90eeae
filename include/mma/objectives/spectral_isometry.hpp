// SpectralIsometry (SRIP), and its functional form.
#pragma once

#include <ATen/ops/bmm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>

#include <map>
#include <string>

#include "../detail/rows/norms.hpp"
#include "../objective.hpp"
#include "../random_draws.hpp"

namespace mma {

/// SRIP: the spectral norm of the Gram matrix's distance from the identity, of the rows as they are, not normalised.
///
///     l = sigma(W W^T - I)  for n <= d,   sigma(W^T W - I)  for n > d, where the first could not reach 0
///
/// sigma is by power iteration from a random vector. O(n d) memory.
/// Bansal, Chen, Wang: Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?, NeurIPS 2018.
struct SpectralIsometry {
  int64_t iterations = 2;   ///< two as in its paper; more come closer to the true norm from below
  RandomDraws random = {};  ///< of the vector, drawn anew at each call

  /// rows [b, n, d], usable [b, n] -> [b], at least 0; 0 for fewer than two usable rows. Twice differentiable.
  /// Throws c10::Error for fewer than one iteration.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) {
    TORCH_CHECK(iterations >= 1, "mma: SpectralIsometry has ", iterations, " iterations; expected 1 or more.");
    const detail::rows::FullPrecisionGuard guard;
    const bool by_rows = rows.size(1) <= rows.size(2);
    const at::Tensor used = at::where(usable.unsqueeze(-1), rows, 0.0);
    const at::Tensor left = by_rows ? used : used.transpose(1, 2);
    const at::Tensor right = left.transpose(1, 2);
    // Rows that do not count are no dimensions of W W^T; W^T W does not see them as they are zero.
    const at::Tensor counts =
        by_rows ? usable.unsqueeze(-1).to(rows.scalar_type()) : at::ones_like(left.narrow(2, 0, 1));
    at::Tensor vector = random.normal({rows.size(0), left.size(1), 1}).to(rows.options()) * counts;
    at::Tensor norm;
    for (int64_t k = 0; k < iterations; ++k) {
      vector = unit(vector);
      vector = at::bmm(left, at::bmm(right, vector)) - vector;
      norm = at::linalg_vector_norm(vector, 2, at::IntArrayRef{1, 2});
    }
    return at::where(detail::rows::usable_count(usable) >= 2, norm, 0.0) +
           detail::rows::nan_where_not_finite(rows).to(norm.scalar_type());
  }

  /// How many draws were made (mma::HasState), for a checkpoint.
  std::map<std::string, at::Tensor> state() const { return random.state(); }
  /// Goes on after the draws of state(). Throws c10::Error for a state that lacks them.
  void load_state(const std::map<std::string, at::Tensor>& state) { random.load_state(state); }

 private:
  /// [b, m, 1] to unit length; zero, where the matrix already is an isometry, stays zero.
  static at::Tensor unit(const at::Tensor& vector) {
    const at::Tensor norm = at::linalg_vector_norm(vector, 2, 1, true);
    return vector / at::where(norm > 0, norm, 1.0);
  }
};

/// SRIP of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss(). The objective is a
/// copy: each call makes the same draw, where Regularizer's makes the next.
inline at::Tensor spectral_isometry_loss(const at::Tensor& weight, SpectralIsometry objective = {}) {
  return detail::loss_of(objective, weight, "spectral_isometry_loss");
}

}  // namespace mma
