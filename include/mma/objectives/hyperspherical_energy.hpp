// Energies of unit charges on the sphere: RieszFisher (Eq 9), Logarithmic (Eq 11), and HypersphericalEnergy (MHE),
// which is the same formula over all rows, a random share of them, or the rows and their negatives.
#pragma once

#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../detail/all_pairs/sums.hpp"
#include "../detail/rows/sample.hpp"
#include "../objective.hpp"
#include "../random_draws.hpp"

namespace mma {

namespace detail {

/// f(r) = r^-s or -log r of the distance r = |w^_i - w^_j| = sqrt(2 - 2c) = 2 sin(theta/2).
struct EnergyKernel {
  double s = 0;
  bool half_space = false;
  double closest = 0;

  std::vector<double> parameters() const { return {s, half_space ? 1.0 : 0.0, closest}; }
  static EnergyKernel from(const std::vector<double>& p) { return {p[0], p[1] != 0, p[2]}; }

  at::Tensor value(const at::Tensor& c, const at::Tensor&) const {
    return half_space ? one_value(c) + one_value(-c) : one_value(c);
  }
  at::Tensor slope(const at::Tensor& c, const at::Tensor&) const {
    return half_space ? one_slope(c) - one_slope(-c) : one_slope(c);
  }

  /// Over the half-space 2n points: each ordered pair of rows stands for two at the angle and two at its supplement.
  at::Tensor scale(const at::Tensor& n) const { return half_space ? 1 / (n * (2 * n - 1)) : 1 / (n * (n - 1)); }

  /// Each row and its own negative, at the distance 2.
  at::Tensor offset(const at::Tensor& n) const {
    return half_space ? (s == 0 ? -std::log(2.0) : std::pow(2.0, -s)) / (2 * n - 1) : at::zeros_like(n);
  }

  /// Where a cosine's rounding is felt: r^2 = 2 - 2c is off by some 1e-7 in float32, 1e-16 in float64.
  double near_distance(at::ScalarType type) const { return std::max(closest, type == at::kDouble ? 1e-3 : 0.1); }

  at::Tensor value_at(const at::Tensor& theta) const {
    const at::Tensor near = value_at_distance(at::sin(theta / 2) * 2);
    return half_space ? near + value_at_distance(at::cos(theta / 2) * 2) : near;
  }
  at::Tensor slope_at(const at::Tensor& theta) const {
    const at::Tensor sine = at::sin(theta / 2), cosine = at::cos(theta / 2);
    const at::Tensor near = slope_at_distance(sine * 2) * cosine;
    return half_space ? near - slope_at_distance(cosine * 2) * sine : near;
  }

 private:
  at::Tensor one_value(const at::Tensor& c) const {
    const at::Tensor square = 2 - 2 * c;
    return s == 0 ? square.log() * -0.5 : power(square, -s / 2);
  }
  at::Tensor one_slope(const at::Tensor& c) const {
    const at::Tensor square = 2 - 2 * c;
    return s == 0 ? square.reciprocal() : power(square, -s / 2 - 1) * s;
  }
  static at::Tensor power(const at::Tensor& square, double exponent) {
    return exponent == -0.5 ? square.rsqrt() : exponent == -1 ? square.reciprocal() : square.pow(exponent);
  }

  /// f(r), below `closest` its tangent there.
  at::Tensor value_at_distance(const at::Tensor& r) const {
    const at::Tensor safe = r.clamp_min(closest);
    return (s == 0 ? -safe.log() : safe.pow(-s)) + slope_at_distance(r) * (r - safe);
  }
  at::Tensor slope_at_distance(const at::Tensor& r) const {
    const at::Tensor safe = r.clamp_min(closest);
    return s == 0 ? -safe.reciprocal() : safe.pow(-s - 1) * -s;
  }
};

}  // namespace detail

/// The energy of unit charges on the sphere (Eq 9, Eq 11), over all rows, a random share of them, or the rows and their
/// negatives (MHE).
///
///     l = 1/(n(n-1)) sum_{i != j} |w^_i - w^_j|^-s        s = 0: -log |w^_i - w^_j|
///
/// At a duplicate the formula diverges. Below the distance `closest` the energy therefore goes on along its tangent: a
/// pair's gradient is never above s closest^(-s-1) / |w_i| (1 / (closest |w_i|) for s = 0), and exact duplicates part.
/// Wang et al.: MMA Regularization, NeurIPS 2020. Liu, Lin, Liu, Liu, Yu, Dai, Song: Learning towards Minimum
/// Hyperspherical Energy, NeurIPS 2018 (MHE, its mini-batch and half-space versions).
///
/// DefaultPower is the s of a value-initialised one; any s >= 0 can be given: RieszFisher{.s = 1}.
template <int DefaultPower>
struct PairEnergy {
  double s = DefaultPower;  ///< 0: logarithmic
  bool half_space = false;  ///< the energy of the 2n points w^_i and -w^_i
  double share = 1;         ///< of the rows, drawn anew at each call (at least 2); the paper's mini-batch takes 0.3
  double closest = 1e-2;    ///< below this distance (0.6 degrees) the energy is continued linearly
  RandomDraws random = {};  ///< of the mini-batch: RieszFisher{.share = 0.3, .random = {.seed = 7}}

  /// rows [b, n, d], usable [b, n] -> [b]; 0 for fewer than two usable rows. Twice differentiable.
  /// Throws c10::Error for a negative s, a share outside (0, 1], a `closest` that is not positive.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) {
    const auto sample = detail::rows::RowSample::draw(random, share, rows);
    return detail::all_pairs::pair_sum(kernel(), sample.of(rows), sample.of(usable));
  }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph (mma::HasGradient).
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) {
    const auto sample = detail::rows::RowSample::draw(random, share, rows);
    const auto [value, part] =
        detail::all_pairs::pair_sum_and_gradient(kernel(), sample.of(rows), sample.of(usable), grad_output);
    return {value, sample.spread(part, rows)};
  }

  /// How many draws were made (mma::HasState), for a checkpoint.
  std::map<std::string, at::Tensor> state() const { return random.state(); }
  /// Goes on after the draws of state(). Throws c10::Error for a state that lacks them.
  void load_state(const std::map<std::string, at::Tensor>& state) { random.load_state(state); }

 private:
  detail::EnergyKernel kernel() const {
    TORCH_CHECK(s >= 0 && std::isfinite(s), "mma: an energy's power s is ", s, "; expected 0 or more.");
    TORCH_CHECK(closest > 0 && closest < 2, "mma: an energy's closest distance is ", closest,
                "; expected more than 0, less than 2.");
    return {s, half_space, closest};
  }
};

using RieszFisher = PairEnergy<2>;           ///< Eq 9; the paper's Table 1 takes s = 2, its Figure 2 s = 1
using Logarithmic = PairEnergy<0>;           ///< Eq 11
using HypersphericalEnergy = PairEnergy<2>;  ///< MHE, with .s = 0, 1 or 2

/// Eq 9 of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss(). The objective is a
/// copy: with a share of the rows each call makes the same draw, where Regularizer's makes the next.
inline at::Tensor riesz_fisher_loss(const at::Tensor& weight, RieszFisher objective = {}) {
  return detail::loss_of(objective, weight, "riesz_fisher_loss");
}

/// Eq 11 of a matrix [n, d] or a batch [b, n, d]; as riesz_fisher_loss().
inline at::Tensor logarithmic_loss(const at::Tensor& weight, Logarithmic objective = {}) {
  return detail::loss_of(objective, weight, "logarithmic_loss");
}

}  // namespace mma
