// Sampled<Objective>: any objective of a random share of the rows, drawn anew at each call.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "../detail/rows/sample.hpp"
#include "../objective.hpp"
#include "../random_draws.hpp"
#include "minimal_angle.hpp"

namespace mma {

/// Any objective of a random share of the rows, drawn anew at each call, for a classifier with very many classes: a
/// tenth of the rows costs a hundredth of the search.
///
///     l(w_i : i in a random subset)
///
/// A row's nearest row is then its nearest in the sample: angles are larger than those of the whole matrix. The
/// mini-batch of Liu et al.: Learning towards Minimum Hyperspherical Energy, NeurIPS 2018, for any objective.
template <ObjectiveFunction Objective = MinimalAngle>
struct Sampled {
  double share = 0.1;        ///< of the rows, at least 2
  Objective objective = {};  ///< of the rows that are drawn
  RandomDraws random = {};   ///< Sampled<>{.share = 0.3, .random = {.seed = 7}}

  /// rows [b, n, d], usable [b, n] -> [b]; only the rows that are drawn get a gradient.
  /// Throws c10::Error for a share outside (0, 1].
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) {
    const auto sample = detail::rows::RowSample::draw(random, share, rows);
    return objective(sample.of(rows), sample.of(usable));
  }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph (mma::HasGradient).
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) {
    const auto sample = detail::rows::RowSample::draw(random, share, rows);
    const auto [value, part] = detail::value_and_gradient(objective, sample.of(rows), sample.of(usable), grad_output);
    return {value, sample.spread(part, rows)};
  }

  /// How many draws were made, and the objective's own state under "sampled." (mma::HasState).
  std::map<std::string, at::Tensor> state() const {
    std::map<std::string, at::Tensor> result = random.state();
    if constexpr (HasState<Objective>) {
      for (const auto& [key, value] : objective.state()) result.emplace(inner + key, value);
    }
    return result;
  }

  /// Goes on after state(). Throws c10::Error for a state that lacks the draws.
  void load_state(const std::map<std::string, at::Tensor>& state) {
    random.load_state(state);
    if constexpr (HasState<Objective>) {
      std::map<std::string, at::Tensor> own;
      for (const auto& [key, value] : state) {
        if (key.starts_with(inner)) own.emplace(key.substr(std::string(inner).size()), value);
      }
      objective.load_state(own);
    }
  }

 private:
  static constexpr const char* inner = "sampled.";
};

}  // namespace mma
