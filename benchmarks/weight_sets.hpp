// The weights at which MMA's cost is measured: random ones, MMA's optimum, and rows that all lie close together. What a
// search costs may depend on them, and a figure on random weights alone says nothing about a training.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <mma/regularizer.hpp>
#include <mma/simplex.hpp>

#include <string>
#include <utility>
#include <vector>

#include "measure.hpp"

namespace mma::benchmarks {

/// n orthonormal rows [n, d], n <= d.
inline at::Tensor frame(int64_t n, int64_t d, at::Generator& generator) {
  return std::get<0>(at::linalg_qr(at::randn({d, n}, generator, at::TensorOptions(at::kDouble)))).t();
}

/// Rows of other lengths, a little off.
inline at::Tensor disturbed(const at::Tensor& rows, at::Generator& generator) {
  const auto doubles = at::TensorOptions(at::kDouble);
  const at::Tensor noise = at::randn(rows.sizes(), generator, doubles) * (1e-7 / std::sqrt(double(rows.size(1))));
  return (rows + noise) * (0.5 + at::rand({rows.size(0), 1}, generator, doubles));
}

/// Rows [n, d] where MMA alone takes them in a few hundred steps.
inline at::Tensor after_steps(int64_t n, int64_t d, at::Generator& generator) {
  at::Tensor rows = at::randn({n, d}, generator, at::TensorOptions(at::kDouble)).to(at::kFloat);
  rows = (rows / rows.norm(2, {1}, true)).requires_grad_();
  mma::Regularizer<> regularizer(mma::Options().coefficient(1.0));
  regularizer.add("rows", rows);
  constexpr int steps = 400;
  for (int step = 0; step < steps; ++step) {
    rows.mutable_grad() = at::Tensor();
    regularizer.accumulate_gradient();
    const at::NoGradGuard no_grad;
    rows.sub_(rows.grad(), 0.1 * static_cast<double>(n) * (1.0 - double(step) / steps * 0.99));
  }
  return rows.detach();
}

enum class WeightSet { Random, Simplex, Orthogonal, Cone };

inline constexpr std::pair<WeightSet, const char*> weight_sets[] = {{WeightSet::Random, "random"},
                                                                    {WeightSet::Simplex, "optimum (simplex)"},
                                                                    {WeightSet::Orthogonal, "optimum (orthogonal)"},
                                                                    {WeightSet::Cone, "within 0.05 rad"}};

/// One matrix [n, d] of a set. An optimum that the dimension does not allow is where MMA's own steps lead.
inline at::Tensor rows_of(WeightSet set, int64_t n, int64_t d, at::Generator& generator) {
  const auto doubles = at::TensorOptions(at::kDouble);
  switch (set) {
    case WeightSet::Simplex:
      if (d < n - 1 || n < 2) return after_steps(n, d, generator);
      return disturbed(n == 2 ? mma::simplex(n, d) : mma::simplex(n, n - 1).mm(frame(n - 1, d, generator)), generator);
    case WeightSet::Orthogonal:
      return d < n ? after_steps(n, d, generator) : disturbed(frame(n, d, generator), generator);
    case WeightSet::Cone: {  // 0.025 rad from a common direction
      const at::Tensor centre = frame(1, d, generator), away = at::randn({n, d}, generator, doubles);
      return centre + 0.025 * away / away.norm(2, {1}, true);
    }
    default:
      return at::randn({n, d}, generator, doubles);
  }
}

/// Weights of these shapes with a .grad of zeros, the same at each call.
inline Weights weights_of(WeightSet set, const WeightShapes& shapes, c10::Device device) {
  auto generator = at::detail::createCPUGenerator(1);
  Weights weights;
  for (const auto& shape : shapes) {
    int64_t d = 1;
    for (size_t k = 1; k < shape.size(); ++k) d *= shape[k];
    weights.push_back(rows_of(set, shape[0], d, generator).to(at::kFloat).reshape(shape).to(device).requires_grad_());
    weights.back().mutable_grad() = at::zeros(shape, at::TensorOptions(device));
  }
  return weights;
}

}  // namespace mma::benchmarks
