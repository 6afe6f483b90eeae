// Orthogonal (Eq 14) and SimplexTarget (Eq 4): the cosines of all pairs drawn to one value, 0 or -1/(n-1).
#pragma once

#include <ATen/ops/full_like.h>

#include <utility>
#include <vector>

#include "../detail/all_pairs/sums.hpp"
#include "../objective.hpp"

namespace mma {

namespace detail {

/// f(c) = factor (c - target)^2, where the target is 0 or -1/(n-1).
struct SquareKernel {
  double factor = 1;
  bool simplex = false;

  std::vector<double> parameters() const { return {factor, simplex ? 1.0 : 0.0}; }
  static SquareKernel from(const std::vector<double>& p) { return {p[0], p[1] != 0}; }

  at::Tensor value(const at::Tensor& c, const at::Tensor& n) const { return excess(c, n).square() * factor; }
  at::Tensor slope(const at::Tensor& c, const at::Tensor& n) const { return excess(c, n) * (2 * factor); }
  at::Tensor scale(const at::Tensor& n) const { return at::ones_like(n); }
  at::Tensor offset(const at::Tensor& n) const { return at::zeros_like(n); }

 private:
  at::Tensor excess(const at::Tensor& c, const at::Tensor& n) const { return simplex ? c + 1 / (n - 1) : c; }
};

}  // namespace detail

/// Cosines of all pairs towards 0 (Eq 14).
///
///     l = 1/2 |U U^T - I|_F^2        U: the rows as unit vectors
///
/// As a cosine's, the gradient fades at a duplicate, so exact duplicates never part: see MinimalAngle.
/// Wang et al.: MMA Regularization, NeurIPS 2020, after Rodriguez et al.: Regularizing CNNs with Locally Constrained
/// Decorrelations, ICLR 2017.
struct Orthogonal {
  /// rows [b, n, d], usable [b, n] -> [b]; 0 for fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::all_pairs::pair_sum(kernel, rows, usable);
  }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph (mma::HasGradient).
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return detail::all_pairs::pair_sum_and_gradient(kernel, rows, usable, grad_output);
  }

 private:
  static constexpr detail::SquareKernel kernel{.factor = 0.5};
};

/// Cosines of all pairs towards the simplex's (Eq 4).
///
///     l = |U U^T - C|_F^2,  C_ij = -1/(n-1) off the diagonal
///
/// n is the number of usable rows; 0 can be reached for d >= n - 1. At a duplicate as Orthogonal.
struct SimplexTarget {
  /// rows [b, n, d], usable [b, n] -> [b]; 0 for fewer than two usable rows. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return detail::all_pairs::pair_sum(kernel, rows, usable);
  }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph (mma::HasGradient).
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return detail::all_pairs::pair_sum_and_gradient(kernel, rows, usable, grad_output);
  }

 private:
  static constexpr detail::SquareKernel kernel{.factor = 1, .simplex = true};
};

/// Eq 14 of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss().
inline at::Tensor orthogonal_loss(const at::Tensor& weight) {
  return detail::loss_of(Orthogonal{}, weight, "orthogonal_loss");
}

/// SimplexTarget of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss().
inline at::Tensor simplex_target_loss(const at::Tensor& weight) {
  return detail::loss_of(SimplexTarget{}, weight, "simplex_target_loss");
}

}  // namespace mma
