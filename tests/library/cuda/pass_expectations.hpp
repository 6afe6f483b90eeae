// Matrices for a pass over a network, and what it must give for them: shared by the tests on the emulator and on a GPU.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <mma/detail/nearest_pairs.hpp>
#include <mma/detail/network_pairs.hpp>

#include <utility>
#include <vector>

#include "objective_formulas.hpp"

namespace expectations {

using mma::detail::FoundPairs;
using mma::detail::PairFunction;
using mma::detail::PairObjective;
using mma::detail::PairPlan;

inline constexpr at::ScalarType types[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};

inline const PairObjective objectives[] = {
    {PairFunction::MinusAngle, {}},
    {PairFunction::MinusAngle, {.half_space = true}},
    {PairFunction::Cosine, {}},
    {PairFunction::Cosine, {.closest_only = true}},
    {PairFunction::Cosine, {.half_space = true, .closest_only = true}},
};

inline at::Tensor random_rows(int64_t rows, int64_t dimension, uint64_t seed, at::ScalarType type) {
  return measured::random_rows({rows, dimension}, seed, type);
}

/// A layer each, coefficients 1, 1.5, 2, ...
inline PairPlan plan_of(std::vector<at::Tensor> matrices, const PairObjective& objective) {
  PairPlan plan;
  plan.objective = objective;
  for (at::Tensor& rows : matrices) {
    plan.coefficients.push_back(1 + 0.5 * static_cast<double>(plan.matrices.size() % 8));
    plan.matrices.push_back({std::move(rows), plan.matrices.size()});
  }
  return plan;
}

inline std::vector<at::Tensor> awkward_matrices(at::ScalarType type) {
  std::vector<at::Tensor> result;
  uint64_t seed = 10;
  for (const int64_t rows : {1, 2, 3, 7, 33, 101, 257}) {
    for (const int64_t dimension : {rows / 2 + 2, rows + 2, 2 * rows + 3}) {
      if (rows < 257 || dimension == 130) result.push_back(random_rows(rows, dimension, ++seed, type));
    }
  }
  return result;
}

/// Duplicates, clusters of them, antipodes, zero rows, tiny and huge ones, no tangent.
inline std::vector<at::Tensor> special_matrices(at::ScalarType type) {
  const auto random = [&](int64_t rows, int64_t dimension, uint64_t seed) {
    return random_rows(rows, dimension, seed, type);
  };
  at::Tensor pairs = random(70, 16, 1), cluster = random(90, 140, 2), antipodes = random(20, 3, 3),
             zeros = random(66, 12, 4), sizes = random(30, 10, 5), line = random(6, 1, 6), none = random(9, 4, 7);
  pairs[40].copy_(pairs[3]);
  pairs[69].copy_(pairs[0]).mul_(2);
  cluster.narrow(0, 5, 5).copy_(cluster[5].expand({5, 140}));
  cluster.narrow(0, 30, 40).copy_(cluster[30].expand({40, 140}));
  antipodes[9].copy_(-antipodes[2]);
  antipodes[10].copy_(-antipodes[2]);
  zeros[0].zero_();
  zeros[64].zero_();
  none.narrow(0, 1, 8).zero_();
  // Tiny and huge rows whose nearest are such too: their products leave the range of float32.
  sizes[7].mul_(0.1).add_(sizes[4]);
  sizes[8].mul_(0.1).add_(sizes[3]);
  const double large = type == at::kHalf ? 1e3 : 1e30;
  for (const int64_t r : {3, 8}) sizes[r].div_(large);
  for (const int64_t r : {4, 7}) sizes[r].mul_(large);
  return {pairs, cluster, antipodes, zeros, sizes, line, none};
}

template <typename Function>
std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const PairObjective& objective) {
  return mma::detail::NearestPairs<Function>::value_and_gradient(rows, mma::detail::usable_rows(rows),
                                                                 at::ones({1}, rows.options()), objective.choice);
}

/// The library on the CPU, matrix by matrix, with layers of one matrix each.
inline void expect_equals_the_cpu(const PairPlan& plan, const FoundPairs& found,
                                  const std::vector<at::Tensor>& gradients) {
  double value = 0;
  for (size_t m = 0; m < plan.matrices.size(); ++m) {
    SCOPED_TRACE(m);
    const at::Tensor& rows = plan.matrices[m].rows;
    const bool wide = rows.scalar_type() == at::kDouble;
    const at::Tensor computed = rows.to(at::kCPU).to(wide ? at::kDouble : at::kFloat).unsqueeze(0);
    const auto [one, gradient] = plan.objective.function == PairFunction::Cosine
                                     ? value_and_gradient<mma::detail::CosineOfAngle>(computed, plan.objective)
                                     : value_and_gradient<mma::detail::MinusAngle>(computed, plan.objective);
    const double coefficient = plan.coefficients[plan.matrices[m].layer];
    value += coefficient * one.item<double>();
    // Row by row: tiny rows have huge gradients.
    const at::Tensor expected = gradient.squeeze(0).to(at::kDouble) * coefficient;
    const at::Tensor off =
        (gradients[m].to(at::kCPU).to(at::kDouble) - expected.to(rows.scalar_type()).to(at::kDouble));
    const double largest = expected.norm(2, {1}).median().item<double>();
    const at::Tensor relative = off.norm(2, {1}) / (expected.norm(2, {1}) + largest + 1e-30);
    const double narrow = rows.scalar_type() == at::kHalf ? 1e-2 : rows.scalar_type() == at::kBFloat16 ? 1e-2 : 1e-5;
    EXPECT_LT(relative.nan_to_num(0.0, 0.0, 0.0).max().item<double>(), wide ? 1e-10 : narrow);
  }
  EXPECT_NEAR(found.value.item<double>(), value, 1e-6 * std::max(1.0, std::abs(value)));
}

}  // namespace expectations
