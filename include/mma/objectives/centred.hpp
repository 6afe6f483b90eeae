// Centred<Objective>: any objective of the rows minus their mean.
#pragma once

#include <ATen/ops/where.h>

#include <map>
#include <string>
#include <utility>

#include "../detail/rows/norms.hpp"
#include "../objective.hpp"
#include "minimal_angle.hpp"

namespace mma {

/// Any objective of the rows minus their mean, as work on neural collapse measures a classifier.
///
///     l(w_i - (1/n) sum_j w_j)
///
/// At its optimum the centred rows form a simplex, where plain rows might only do so around another point.
/// Papyan, Han, Donoho: Prevalence of Neural Collapse during the Terminal Phase of Deep Learning Training, PNAS 2020.
template <ObjectiveFunction Objective = MinimalAngle>
struct Centred {
  Objective objective = {};  ///< of the centred rows

  /// rows [b, n, d], usable [b, n] -> [b]. The mean is over the usable rows; one that equals it has no direction and is
  /// left out.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) {
    const at::Tensor moved = minus_mean(rows, usable);
    return objective(moved, still_usable(moved, rows, usable)).to(rows.scalar_type());
  }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph (mma::HasGradient).
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) {
    const at::Tensor moved = minus_mean(rows, usable);
    const auto [value, gradient] =
        detail::value_and_gradient(objective, moved, still_usable(moved, rows, usable), grad_output);
    // The centring is its own transpose.
    return {value.to(rows.scalar_type()), minus_mean(gradient, usable).to(rows.scalar_type())};
  }

  /// The objective's own state, where it has one.
  std::map<std::string, at::Tensor> state() const requires HasState<Objective> { return objective.state(); }
  /// Gives the objective its state.
  void load_state(const std::map<std::string, at::Tensor>& state) requires HasState<Objective> {
    objective.load_state(state);
  }

 private:
  /// In float64: rounded to float32 again, rows that are near would lose their angle.
  static at::Tensor minus_mean(const at::Tensor& rows, const at::Tensor& usable) {
    const at::Tensor used = usable.unsqueeze(-1), wide = rows.to(at::kDouble);
    const at::Tensor count = detail::rows::usable_count(usable).clamp_min(1).reshape({-1, 1, 1});
    const at::Tensor mean = at::where(used, wide, 0.0).sum(1, true) / count;
    return at::where(used, wide - mean, 0.0);
  }

  /// What rounding leaves of a row that equals the mean is no direction.
  static at::Tensor still_usable(const at::Tensor& moved, const at::Tensor& rows, const at::Tensor& usable) {
    const at::Tensor rounding =
        detail::rows::row_norms(rows.detach()) * detail::pairs::duplicate_distance(rows.scalar_type());
    return usable.logical_and((detail::rows::row_norms(moved.detach()) <= rounding).logical_not());
  }
};

}  // namespace mma
