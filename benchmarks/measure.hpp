// What the benchmarks share: the paper's formula as it is written, weights of a network, medians of rounds.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "network_shapes.hpp"

namespace mma::benchmarks {

using Weights = std::vector<at::Tensor>;
using Step = std::function<void()>;

/// Normal random weights with a .grad of zeros, the same at each call.
inline Weights random_weights(const WeightShapes& shapes, c10::Device device) {
  auto generator = at::detail::createCPUGenerator(1);
  Weights weights;
  for (const auto& shape : shapes) {
    weights.push_back(at::randn(shape, generator, at::TensorOptions(at::kFloat)).to(device).requires_grad_());
    weights.back().mutable_grad() = at::zeros(shape, at::TensorOptions(device));
  }
  return weights;
}

/// Eq 6 as it is written: all cosines, the largest of each row.
inline at::Tensor paper_formula(const at::Tensor& weight) {
  const at::Tensor rows = weight.flatten(1), unit = rows / rows.norm(2, {1}, true);
  at::Tensor cosines = unit.mm(unit.t());
  cosines = cosines - 2 * at::eye(cosines.size(0), cosines.options());
  return -std::get<0>(cosines.max(1)).clamp(-1 + 1e-6, 1 - 1e-6).acos().mean();
}

/// Its gradient, added to .grad by autograd.
inline Step paper_step(const Weights& weights) {
  return [&weights] {
    at::Tensor total = at::zeros({}, weights.front().options());
    for (const at::Tensor& weight : weights) total = total + paper_formula(weight);
    total.backward();
  };
}

inline double milliseconds_of(const Step& step) {
  const auto start = std::chrono::steady_clock::now();
  step();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// The median over the rounds of a[k] / b[k].
inline double median_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (size_t k = 0; k < a.size(); ++k) ratios.push_back(a[k] / b[k]);
  return median(ratios);
}

}  // namespace mma::benchmarks
