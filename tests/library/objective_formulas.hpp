// The formulas of all objectives written out plainly, loops over i and j in extended precision, and the table of
// objectives that the tests go through.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/mma.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "reference.hpp"

namespace reference {

/// For each row the smallest f(i, j) over the others.
template <typename Function>
std::vector<Real> smallest(const Rows& rows, const Function& f) {
  std::vector<Real> result(rows.size(), std::numeric_limits<Real>::infinity());
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < rows.size(); ++j) {
      if (i != j) result[i] = std::min(result[i], f(rows[i], rows[j]));
    }
  }
  return result;
}

inline Real mean(const std::vector<Real>& values) {
  Real sum = 0;
  for (const Real value : values) sum += value;
  return sum / static_cast<Real>(values.size());
}

inline Real smallest_of(const std::vector<Real>& values) { return *std::min_element(values.begin(), values.end()); }

inline Real line_angle(const std::vector<Real>& a, const std::vector<Real>& b) {
  const Real theta = angle(a, b), mirrored = 2 * std::atan2(length_of_sum(a, b, 1), length_of_sum(a, b, -1));
  return std::min(theta, mirrored);
}

/// Eq 6, and Eq 6 between lines.
inline Real minimal_angle(const Rows& w) { return -mean(smallest(units(w), angle)); }
inline Real minimal_line_angle(const Rows& w) { return -mean(smallest(units(w), line_angle)); }

/// Eq 5 and Eq 2.
inline Real maximal_cosine(const Rows& w) {
  return -mean(smallest(units(w), [](const auto& a, const auto& b) { return -dot(a, b); }));
}
inline Real closest_cosine(const Rows& w) {
  return -smallest_of(smallest(units(w), [](const auto& a, const auto& b) { return -dot(a, b); }));
}

inline Real mutual_coherence(const Rows& w) {
  return -smallest_of(smallest(units(w), [](const auto& a, const auto& b) { return -std::abs(dot(a, b)); }));
}

/// Eq 9, or Eq 11 for s = 0, of one distance; below `closest` along the tangent there.
inline Real potential(Real r, Real s, Real closest) {
  const Real at = std::max(r, closest);
  const Real value = s == 0 ? -std::log(at) : std::pow(at, -s);
  const Real slope = s == 0 ? -1 / at : -s * std::pow(at, -s - 1);
  return value + slope * (r - at);
}

inline Real energy(const Rows& w, Real s, Real closest) {
  const Rows rows = units(w);
  Real sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < rows.size(); ++j) {
      if (i != j) sum += potential(length_of_sum(rows[i], rows[j], -1), s, closest);
    }
  }
  return sum / static_cast<Real>(rows.size() * (rows.size() - 1));
}

/// The energy of the 2n points w and -w.
inline Real half_space_energy(const Rows& w, Real s, Real closest) {
  Rows both = w;
  for (auto row : w) {
    for (Real& value : row) value = -value;
    both.push_back(row);
  }
  return energy(both, s, closest);
}

/// factor * sum_{i != j} (cos_ij - target)^2: Eq 14, and the distance from Eq 4's matrix.
inline Real squared_excess(const Rows& w, Real factor, Real target) {
  const Rows rows = units(w);
  Real sum = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < rows.size(); ++j) {
      if (i != j) sum += (dot(rows[i], rows[j]) - target) * (dot(rows[i], rows[j]) - target);
    }
  }
  return factor * sum;
}
inline Real orthogonal(const Rows& w) { return squared_excess(w, Real{1} / 2, 0); }
inline Real simplex_target(const Rows& w) { return squared_excess(w, 1, -1 / (static_cast<Real>(w.size()) - 1)); }

inline Rows transposed(const Rows& w) {
  Rows result(w.front().size(), std::vector<Real>(w.size()));
  for (size_t i = 0; i < w.size(); ++i) {
    for (size_t k = 0; k < w[i].size(); ++k) result[k][i] = w[i][k];
  }
  return result;
}

/// |W W^T - I|_F^2
inline Real gram_excess(const Rows& w) {
  Real sum = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    for (size_t j = 0; j < w.size(); ++j) {
      const Real entry = dot(w[i], w[j]) - (i == j ? 1 : 0);
      sum += entry * entry;
    }
  }
  return sum;
}
inline Real double_soft_orthogonality(const Rows& w) { return gram_excess(w) + gram_excess(transposed(w)); }

/// The power iteration of W W^T - I, or W^T W - I for more rows than dimensions: v <- (W W^T - I) v / |v|.
inline Real spectral_isometry(const Rows& rows, std::vector<Real> v, int iterations) {
  const Rows w = rows.size() <= rows.front().size() ? rows : transposed(rows);
  for (int k = 0; k < iterations; ++k) {
    v = unit(v);
    std::vector<Real> product(w.size()), through(w.front().size(), 0);
    for (size_t i = 0; i < w.size(); ++i) {
      for (size_t d = 0; d < through.size(); ++d) through[d] += w[i][d] * v[i];
    }
    for (size_t i = 0; i < w.size(); ++i) product[i] = dot(w[i], through) - v[i];
    v = product;
  }
  return norm(v);
}

inline Rows centred(Rows w) {
  for (size_t k = 0; k < w.front().size(); ++k) {
    Real sum = 0;
    for (const auto& row : w) sum += row[k];
    for (auto& row : w) row[k] -= sum / static_cast<Real>(w.size());
  }
  return w;
}

/// An objective and its formula.
struct Case {
  std::string name;
  std::function<mma::AnyObjective()> make;
  std::function<Real(const Rows&)> formula;
  bool directions = true;  ///< only the rows' directions count, not their lengths
  bool parts = false;      ///< exact duplicates part
  bool lines = false;      ///< w and -w are duplicates
};

template <typename Objective>
std::function<mma::AnyObjective()> maker(const Objective& objective = {}) {
  return [objective] { return mma::AnyObjective(objective); };
}

/// SpectralIsometry's first draw for one matrix.
inline std::vector<Real> first_draw(size_t count, uint64_t seed) {
  mma::RandomDraws draws{.seed = seed};
  return rows_of(draws.normal({1, static_cast<int64_t>(count), 1})[0].t())[0];
}

inline std::vector<Case> cases() {
  using namespace mma;
  const auto energy_of = [](Real s, Real closest = 1e-2) {
    return [=](const Rows& w) { return energy(w, s, closest); };
  };
  const auto mirrored = [](Real s) { return [=](const Rows& w) { return half_space_energy(w, s, 1e-2); }; };
  const auto srip = [](const Rows& w) {
    return spectral_isometry(w, first_draw(std::min(w.size(), w.front().size()), 5), 2);
  };
  return {
      {.name = "MinimalAngle", .make = maker<MinimalAngle>(), .formula = minimal_angle, .parts = true},
      {.name = "MinimalAngleOfLines",
       .make = maker<MinimalAngle>({.half_space = true}),
       .formula = minimal_line_angle,
       .parts = true,
       .lines = true},
      {.name = "MaximalCosine", .make = maker<MaximalCosine>(), .formula = maximal_cosine},
      {.name = "ClosestCosine", .make = maker<MaximalCosine>({.closest_only = true}), .formula = closest_cosine},
      {.name = "MutualCoherence", .make = maker<MutualCoherence>(), .formula = mutual_coherence, .lines = true},
      {.name = "RieszFisher1", .make = maker<RieszFisher>({.s = 1}), .formula = energy_of(1), .parts = true},
      {.name = "RieszFisher2", .make = maker<RieszFisher>(), .formula = energy_of(2), .parts = true},
      {.name = "RieszFisher3p5", .make = maker<RieszFisher>({.s = 3.5}), .formula = energy_of(3.5), .parts = true},
      {.name = "RieszFisherFar",
       .make = maker<RieszFisher>({.s = 1, .closest = 0.7}),
       .formula = energy_of(1, 0.7L),
       .parts = true},
      {.name = "Logarithmic", .make = maker<Logarithmic>(), .formula = energy_of(0), .parts = true},
      {.name = "RieszFisherOfLines",
       .make = maker<HypersphericalEnergy>({.half_space = true}),
       .formula = mirrored(2),
       .parts = true,
       .lines = true},
      {.name = "LogarithmicOfLines",
       .make = maker<HypersphericalEnergy>({.s = 0, .half_space = true}),
       .formula = mirrored(0),
       .parts = true,
       .lines = true},
      {.name = "Orthogonal", .make = maker<Orthogonal>(), .formula = orthogonal},
      {.name = "SimplexTarget", .make = maker<SimplexTarget>(), .formula = simplex_target},
      {.name = "DoubleSoftOrthogonality",
       .make = maker<DoubleSoftOrthogonality>(),
       .formula = double_soft_orthogonality,
       .directions = false},
      {.name = "SpectralIsometry",
       .make = maker<SpectralIsometry>({.iterations = 2, .random = {.seed = 5}}),
       .formula = srip,
       .directions = false},
      {.name = "CentredMinimalAngle",
       .make = maker<Centred<MinimalAngle>>(),
       .formula = [](const Rows& w) { return minimal_angle(centred(w)); },
       .directions = false,
       .parts = true},
      {.name = "CentredRieszFisher",
       .make = maker<Centred<RieszFisher>>(),
       .formula = [](const Rows& w) { return energy(centred(w), 2, 1e-2); },
       .directions = false,
       .parts = true},
      {.name = "CentredOrthogonal",
       .make = maker<Centred<Orthogonal>>(),
       .formula = [](const Rows& w) { return orthogonal(centred(w)); },
       .directions = false},
  };
}

inline bool all(const Case&) { return true; }

/// A test over all objectives that are `wanted`, with `entry` for each; one test, because a process starts slowly.
#define FOR_EACH_OBJECTIVE(Suite, Name, wanted)    \
  void Name##Of(const reference::Case& entry);     \
  TEST(Suite, Name) {                              \
    for (const auto& entry : reference::cases()) { \
      SCOPED_TRACE(entry.name);                    \
      if (wanted(entry)) Name##Of(entry);          \
    }                                              \
  }                                                \
  void Name##Of(const reference::Case& entry)

}  // namespace reference

/// Value and gradients of an objective over a weight [n, d] or [b, n, d].
namespace measured {

inline at::Tensor random_rows(at::IntArrayRef sizes, uint64_t seed, at::ScalarType type = at::kFloat) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(sizes, generator, at::kDouble).to(type);
}

inline at::Tensor loss(const mma::AnyObjective& objective, const at::Tensor& weight) {
  return mma::detail::loss_of(objective, weight, "objective");
}

/// By autograd, of the sum over a batch.
inline at::Tensor gradient(const mma::AnyObjective& objective, const at::Tensor& weight) {
  const at::Tensor leaf = weight.detach().clone(at::MemoryFormat::Preserve).requires_grad_();
  loss(objective, leaf).sum().backward();
  return leaf.grad();
}

/// Without autograd, likewise.
inline std::pair<at::Tensor, at::Tensor> value_and_gradient(const mma::AnyObjective& objective,
                                                            const at::Tensor& weight) {
  const at::Tensor rows = weight.dim() == 2 ? weight.unsqueeze(0) : weight;
  const auto [value, gradient] = objective.value_and_gradient(rows, mma::detail::rows::usable_rows(rows),
                                                              at::ones({rows.size(0)}, rows.options()));
  return {value.reshape(weight.sizes().slice(0, static_cast<size_t>(weight.dim() - 2))),
          gradient.reshape(weight.sizes())};
}

/// |value - expected| over |expected|.
inline double relative_error(const at::Tensor& value, const at::Tensor& expected) {
  const at::Tensor wide = expected.to(at::kDouble);
  return ((value.to(at::kDouble) - wide).norm() / wide.norm().clamp_min(1e-300)).item<double>();
}

}  // namespace measured
