// What every backend of the nearest-row engine promises, held against loops over all pairs in extended precision: the
// angle given, the values, slopes and gradients of all objectives, zero rows, NaN, duplicates, given neighbours.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <mma/detail/nearest/factory.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numbers>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "matrices.hpp"
#include "nearest_reference.hpp"
#include "reference.hpp"

namespace {

using mma::detail::nearest::Engine;
using mma::detail::nearest::Found;
using mma::detail::nearest::Objective;
using mma::detail::nearest::Plan;
using reference::angle_between;
using reference::folded;
using reference::is_zero;
using reference::pi;
using reference::Real;
using reference::smallest_angles;

struct Backend {
  std::string name;
  std::function<std::unique_ptr<Engine>(Plan)> make;
  std::vector<at::ScalarType> types;
};

std::vector<Backend> backends() {
  return {{"cpu", mma::detail::nearest::make_engine_for_device, {at::kFloat, at::kDouble}},
          {"portable", mma::detail::nearest::portable::make, {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}}};
}

struct Case {
  std::string backend;
  std::function<std::unique_ptr<Engine>(Plan)> make;
  at::ScalarType type;
};

void PrintTo(const Case& value, std::ostream* stream) { *stream << value.backend << ' ' << value.type; }

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const Backend& backend : backends()) {
    for (const at::ScalarType type : backend.types) result.push_back({backend.name, backend.make, type});
  }
  return result;
}

const std::vector<std::pair<std::string, Objective>>& named_objectives() {
  static const std::vector<std::pair<std::string, Objective>> all{{"minus angle", {-1, 0, false, false}},
                                                                  {"minus angle of lines", {-1, 0, true, false}},
                                                                  {"cosine", {0, 1, false, false}},
                                                                  {"cosine of the closest", {0, 1, false, true}},
                                                                  {"cosine of the closest lines", {0, 1, true, true}}};
  return all;
}

constexpr Objective minus_angle{-1, 0, false, false};

// ---- The reference ----

struct Expected {
  std::vector<double> values, slopes;
  std::vector<at::Tensor> gradients;
};

double value_at(const Objective& f, Real theta) {
  return static_cast<double>(static_cast<Real>(f.of_angle) * theta + static_cast<Real>(f.of_cosine) * std::cos(theta));
}

double slope_at(const Objective& f, Real angle) {
  const Real theta = folded(angle, f.half_space);
  const Real slope = static_cast<Real>(f.of_angle) - static_cast<Real>(f.of_cosine) * std::sin(theta);
  return static_cast<double>(f.half_space && angle > pi / 2 ? -slope : slope);
}

size_t usable_rows(const reference::Rows& rows) {
  size_t count = 0;
  for (const auto& row : rows) count += is_zero(row) ? 0U : 1U;
  return count < 2 ? 0 : count;
}

/// The plain formulas, given who is nearest to whom (which has tests of its own).
Expected expected_of(const Plan& plan, const Found& found, const std::vector<double>& factors) {
  const Objective& f = plan.objective;
  const at::Tensor nearest = found.nearest.to(at::kLong);
  Expected result{std::vector<double>(plan.layers(), 0), {}, {}};
  std::vector<size_t> counted(plan.layers(), 0);
  for (const auto& matrix : plan.matrices) counted[matrix.layer] += usable_rows(reference::rows_of(matrix.rows));
  int64_t row = 0;
  for (const auto& matrix : plan.matrices) {
    const reference::Rows rows = reference::rows_of(matrix.rows);
    const size_t count = usable_rows(rows);
    const double share = count == 0 ? 0 : static_cast<double>(count) / static_cast<double>(counted[matrix.layer]);
    std::vector<Real> angles(rows.size(), 0);
    std::vector<size_t> other(rows.size());
    size_t closest = rows.size();
    for (size_t r = 0; r < rows.size(); ++r, ++row) {
      other[r] = static_cast<size_t>(nearest[row].item<int64_t>());
      if (other[r] == r) continue;
      angles[r] = angle_between(rows[r], rows[other[r]]);
      const bool first = closest == rows.size();
      if (first || folded(angles[r], f.half_space) < folded(angles[closest], f.half_space) - 1e-12L) closest = r;
    }
    reference::Rows gradient(rows.size(), std::vector<Real>(rows.front().size(), 0));
    for (size_t r = 0; r < rows.size(); ++r) {
      const bool counts = count > 0 && (f.closest_only ? r == closest : !is_zero(rows[r]));
      const double weight = !counts ? 0 : f.closest_only ? share : share / static_cast<double>(count);
      result.values[matrix.layer] += weight * value_at(f, folded(angles[r], f.half_space));
      result.slopes.push_back(weight * slope_at(f, angles[r]));
      if (weight == 0 || other[r] == r) continue;
      const Real strength = static_cast<Real>(result.slopes.back() * factors[matrix.layer]);
      reference::add_angle_gradient(rows[r], rows[other[r]], strength, gradient[r]);
      reference::add_angle_gradient(rows[other[r]], rows[r], strength, gradient[other[r]]);
    }
    at::Tensor tensor = at::zeros(matrix.rows.sizes(), at::kDouble);
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t k = 0; k < rows[r].size(); ++k) {
        tensor[static_cast<int64_t>(r)][static_cast<int64_t>(k)] = static_cast<double>(gradient[r][k]);
      }
    }
    result.gradients.push_back(tensor);
  }
  return result;
}

// ---- The fixture ----

class Nearest : public testing::TestWithParam<Case> {
 protected:
  at::Generator random_ = at::detail::createCPUGenerator(1);

  at::ScalarType type() const { return GetParam().type; }
  bool is_double() const { return type() == at::kDouble; }
  bool is_half() const { return type() == at::kHalf || type() == at::kBFloat16; }
  double duplicate() const { return 8 * (is_double() ? std::numeric_limits<double>::epsilon() : std::exp2(-23.0)); }

  std::unique_ptr<Engine> make(const Plan& plan) const { return GetParam().make(plan); }

  /// One layer a matrix.
  Plan plan_of(const std::vector<at::Tensor>& rows, const Objective& objective) const {
    Plan plan;
    for (const at::Tensor& matrix : rows) plan.matrices.push_back({matrix.to(type()), plan.matrices.size()});
    plan.objective = objective;
    return plan;
  }

  Found find(const Plan& plan) const { return make(plan)->find({}); }

  at::Tensor normal(int64_t n, int64_t d) { return matrices::normal(n, d, random_); }

  /// Layers with groups, zero rows, one with a single usable row, all of different shapes.
  Plan mixed_plan(const Objective& objective) {
    Plan plan;
    const auto add = [&](const at::Tensor& rows, size_t layer) { plan.matrices.push_back({rows.to(type()), layer}); };
    add(normal(7, 5), 0);
    add(normal(9, 5), 0);
    at::Tensor lonely = normal(4, 5);
    lonely.narrow(0, 0, 3).zero_();
    add(lonely, 0);
    at::Tensor pruned = normal(33, 20);
    pruned[4].zero_();
    pruned[32].zero_();
    add(pruned, 1);
    add(normal(1, 6), 2);
    add(normal(12, 40), 3);
    add(normal(12, 40) * 1e-3, 4);
    add(at::zeros({5, 4}, at::kDouble), 5);
    plan.objective = objective;
    return plan;
  }

  static std::vector<at::Tensor> zeros_for(const Plan& plan) {
    std::vector<at::Tensor> result;
    for (const auto& matrix : plan.matrices) result.push_back(at::zeros_like(matrix.rows));
    return result;
  }

  static at::Tensor factors_of(const std::vector<double>& factors) { return at::tensor(factors, at::kDouble); }

  std::vector<at::Tensor> gradients_of(Engine& engine, const Plan& plan, const Found& found,
                                       const std::vector<double>& factors, double scale = 1) const {
    std::vector<at::Tensor> result = zeros_for(plan);
    engine.add_gradient(found, result, factors_of(factors), scale);
    return result;
  }

  /// The angle given for each row against the true smallest, and against that of the row given.
  void expect_nearest(const at::Tensor& rows, bool half_space) const {
    const Plan plan = plan_of({rows}, {-1, 0, half_space, false});
    const Found found = find(plan);
    const reference::Rows weights = reference::rows_of(plan.matrices.front().rows);
    const std::vector<Real> smallest = smallest_angles(weights, half_space);
    const Real bound = is_double() ? 1e-9L : 1e-4L;
    for (size_t r = 0; r < weights.size(); ++r) {
      const auto row = static_cast<int64_t>(r);
      const auto nearest = static_cast<size_t>(found.nearest[row].item<int>());
      const auto angle = static_cast<Real>(found.angles[row].item<double>());
      ASSERT_LT(nearest, weights.size());
      if (smallest[r] < 0) {
        ASSERT_EQ(nearest, r);
        ASSERT_EQ(angle, 0);
        continue;
      }
      ASSERT_NE(nearest, r) << "row " << r;
      const Real exact = angle_between(weights[r], weights[nearest]);
      ASSERT_NEAR(static_cast<double>(angle), static_cast<double>(exact),
                  duplicate() + 1e-7 * static_cast<double>(exact))
          << "row " << r << " and " << nearest;
      const Real above = folded(angle, half_space) - smallest[r];
      ASSERT_LE(above, smallest[r] < 0.1L ? static_cast<Real>(duplicate()) + 1e-5L * smallest[r] : bound)
          << "row " << r << ", smallest " << static_cast<double>(smallest[r]);
    }
  }
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  return info.param.backend + "_" + c10::toString(info.param.type);
}

INSTANTIATE_TEST_SUITE_P(Backends, Nearest, testing::ValuesIn(cases()), name_of);

// ---- Who is nearest ----

TEST_P(Nearest, TheAngleGivenIsTheSmallestButForTheTypesError) {
  // Half precision goes the same way as float32; the reference takes its time.
  const std::vector<int64_t> sizes =
      is_half() ? std::vector<int64_t>{2, 7, 33} : std::vector<int64_t>{1, 2, 3, 7, 33, 131, 257};
  for (const matrices::Family& family : matrices::families()) {
    for (const int64_t n : sizes) {
      for (const int64_t d : {std::max<int64_t>(1, n / 3), n, 2 * n + 1}) {
        if (n == 257 && d > n) continue;
        const at::Tensor rows = family.make(n, d, random_);
        if (!rows.defined()) continue;
        SCOPED_TRACE(family.name + " [" + std::to_string(n) + ", " + std::to_string(d) + "]");
        expect_nearest(rows, false);
        if (n < 257) expect_nearest(rows, true);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Nearest, OfEqualRowsTheFirstIsGiven) {
  for (const int64_t n : {40, 140}) {
    at::Tensor rows = normal(n, 9);
    for (const int64_t r : {3, 8, 21, 22, 39}) rows[r] = rows[3];
    const Found found = find(plan_of({rows}, minus_angle));
    EXPECT_EQ(found.nearest[3].item<int>(), 8);
    for (const int64_t r : {8, 21, 22, 39}) {
      EXPECT_EQ(found.nearest[r].item<int>(), 3);
      EXPECT_EQ(found.angles[r].item<double>(), 0);
    }
  }
}

TEST_P(Nearest, LongerCopiesAreDuplicatesAndOppositeOnesAntipodes) {
  const at::Tensor row = at::tensor({1.0, 2.0, -0.5, 0.25}, at::kDouble);
  const Found pair = find(plan_of({at::stack({row, -3 * row})}, minus_angle));
  EXPECT_EQ(pair.angles[0].item<double>(), static_cast<double>(pi));
  EXPECT_EQ(pair.nearest[0].item<int>(), 1);
  const Found lines = find(plan_of({at::stack({row, normal(1, 4)[0], -3 * row})}, {-1, 0, true, false}));
  EXPECT_EQ(lines.nearest[0].item<int>(), 2);
  EXPECT_NEAR(lines.angles[0].item<double>(), static_cast<double>(pi), 1e-15);
  const Found copies = find(plan_of({at::stack({row, normal(1, 4)[0], 3 * row})}, minus_angle));
  EXPECT_EQ(copies.nearest[2].item<int>(), 0);
  EXPECT_EQ(copies.angles[2].item<double>(), 0);
}

TEST_P(Nearest, TheSameWeightsGiveTheSameBits) {
  const Plan plan = mixed_plan(minus_angle);
  const std::unique_ptr<Engine> engine = make(plan), other = make(plan);
  const std::vector<double> factors(plan.layers(), 0.3);
  const Found first = engine->find({}), second = engine->find({}), third = other->find({});
  const auto gradients = gradients_of(*engine, plan, first, factors),
             again = gradients_of(*other, plan, third, factors);
  for (const Found* found : {&second, &third}) {
    EXPECT_TRUE(at::equal(first.values, found->values));
    EXPECT_TRUE(at::equal(first.norms, found->norms));
    EXPECT_TRUE(at::equal(first.nearest, found->nearest));
    EXPECT_TRUE(at::equal(first.angles, found->angles));
    EXPECT_TRUE(at::equal(first.slopes, found->slopes));
  }
  for (size_t m = 0; m < gradients.size(); ++m) EXPECT_TRUE(at::equal(gradients[m], again[m]));
}

// ---- Values, slopes, gradients ----

TEST_P(Nearest, WhatIsFoundHasTheTypesOfTheContract) {
  const Plan plan = mixed_plan(minus_angle);
  const Found found = find(plan);
  const int64_t rows = 7 + 9 + 4 + 33 + 1 + 12 + 12 + 5;
  EXPECT_EQ(found.values.sizes(), at::IntArrayRef({6}));
  EXPECT_EQ(found.values.scalar_type(), at::kDouble);
  EXPECT_EQ(found.nearest.scalar_type(), at::kInt);
  for (const at::Tensor& vector : {found.norms, found.angles, found.slopes}) {
    EXPECT_EQ(vector.sizes(), at::IntArrayRef({rows}));
    EXPECT_EQ(vector.scalar_type(), at::kDouble);
  }
  at::Tensor norms = at::empty({0}, at::kDouble);
  for (const auto& matrix : plan.matrices) norms = at::cat({norms, matrix.rows.to(at::kDouble).norm(2, {1})});
  EXPECT_TRUE(at::allclose(found.norms, norms, 1e-12, 0));
}

TEST_P(Nearest, ValuesSlopesAndGradientsAreThoseOfThePlainFormulas) {
  const std::vector<double> factors{0.5, -2, 3, 1, 0.25, 7};
  for (const auto& [name, objective] : named_objectives()) {
    SCOPED_TRACE(name);
    const Plan plan = mixed_plan(objective);
    const std::unique_ptr<Engine> engine = make(plan);
    const Found found = engine->find({});
    const Expected expected = expected_of(plan, found, factors);
    for (size_t layer = 0; layer < plan.layers(); ++layer) {
      EXPECT_NEAR(found.values[static_cast<int64_t>(layer)].item<double>(), expected.values[layer], 1e-8);
    }
    for (size_t r = 0; r < expected.slopes.size(); ++r) {
      EXPECT_NEAR(found.slopes[static_cast<int64_t>(r)].item<double>(), expected.slopes[r], 1e-8) << "row " << r;
    }
    const auto gradients = gradients_of(*engine, plan, found, factors);
    for (size_t m = 0; m < gradients.size(); ++m) {
      const double size = expected.gradients[m].abs().max().item<double>();
      const double error = (gradients[m].to(at::kDouble) - expected.gradients[m]).abs().max().item<double>();
      const double relative = type() == at::kBFloat16 ? 8e-3 : type() == at::kHalf ? 2e-3 : is_double() ? 1e-10 : 1e-5;
      EXPECT_LE(error, relative * size + 1e-14) << "matrix " << m;
    }
  }
}

TEST_P(Nearest, ADerivativeIsTheDifferenceOfValues) {
  if (!is_double()) GTEST_SKIP() << "differences need float64";
  for (const auto& [name, objective] : named_objectives()) {
    SCOPED_TRACE(name);
    const at::Tensor rows = normal(8, 5), direction = normal(8, 5);
    const Plan plan = plan_of({rows}, objective);
    const std::unique_ptr<Engine> engine = make(plan);
    const auto gradient = gradients_of(*engine, plan, engine->find({}), {1});
    const double step = 1e-6;
    const double ahead = find(plan_of({rows + step * direction}, objective)).values.item<double>();
    const double behind = find(plan_of({rows - step * direction}, objective)).values.item<double>();
    EXPECT_NEAR((gradient[0] * direction).sum().item<double>(), (ahead - behind) / (2 * step), 1e-7);
  }
}

TEST_P(Nearest, GradientsAreAddedWithScaleAndFactors) {
  const Plan plan = mixed_plan(minus_angle);
  const std::unique_ptr<Engine> engine = make(plan);
  const Found found = engine->find({});
  const std::vector<double> ones(plan.layers(), 1), factors{2, 0, -1, 4, 8, 1};
  const auto plain = gradients_of(*engine, plan, found, ones),
             scaled = gradients_of(*engine, plan, found, factors, 0.5);
  std::vector<at::Tensor> added = zeros_for(plan);
  for (at::Tensor& tensor : added) tensor.fill_(1);
  engine->find_and_add_gradient(added, factors_of(factors), 0.5, {});
  const double tolerance = type() == at::kBFloat16 ? 2e-2 : type() == at::kHalf ? 2e-3 : 1e-6;
  for (size_t m = 0; m < plain.size(); ++m) {
    const at::Tensor expected = plain[m].to(at::kDouble) * 0.5 * factors[plan.matrices[m].layer];
    EXPECT_TRUE(at::allclose(scaled[m].to(at::kDouble), expected, tolerance, 1e-7)) << "matrix " << m;
    EXPECT_TRUE(at::allclose(added[m].to(at::kDouble), expected + 1, tolerance, tolerance)) << "matrix " << m;
  }
}

// ---- Duplicates, near-duplicates and antipodes ----

TEST_P(Nearest, NearDuplicatesPullAsHardAsOthers) {
  for (const double angle : {1e-1, 1e-3, 1e-5}) {
    if (is_half() && angle < 1e-1) continue;
    const at::Tensor a = at::tensor({1.0, 0.0, 0.0}, at::kDouble);
    const at::Tensor b = at::tensor({std::cos(angle), std::sin(angle), 0.0}, at::kDouble);
    const Plan plan = plan_of({at::stack({2 * a, b})}, minus_angle);
    const std::unique_ptr<Engine> engine = make(plan);
    const Found found = engine->find({});
    const at::Tensor sizes = gradients_of(*engine, plan, found, {1})[0].to(at::kDouble).norm(2, {1});
    // Each row has its own pair and its neighbour's: 2 * 1/2 * 1/|w|.
    EXPECT_NEAR(sizes[0].item<double>(), 0.5, is_half() ? 5e-3 : 1e-5) << angle;
    EXPECT_NEAR(sizes[1].item<double>(), 1, is_half() ? 1e-2 : 1e-5) << angle;
  }
}

TEST_P(Nearest, DuplicatesPartAndAntipodesStay) {
  for (const bool half_space : {false, true}) {
    const at::Tensor row = normal(1, 6)[0];
    const Plan plan = plan_of({at::stack({row, half_space ? -row : row})}, {-1, 0, half_space, false});
    const std::unique_ptr<Engine> engine = make(plan);
    const Found found = engine->find({});
    const at::Tensor gradient = gradients_of(*engine, plan, found, {1})[0].to(at::kDouble);
    const at::Tensor rows = plan.matrices[0].rows.to(at::kDouble);
    EXPECT_NEAR(found.values.item<double>(), 0, 1e-15);
    EXPECT_NEAR(gradient[0].norm().item<double>() * rows[0].norm().item<double>(), 1, 1e-2);
    EXPECT_LT((gradient[0] * rows[0]).sum().abs().item<double>(), 2e-2);
    EXPECT_LT((gradient[0] + gradient[1] * (half_space ? -1 : 1)).abs().max().item<double>(), 1e-6);
    const at::Tensor moved = rows - 0.1 * rows.square().sum(1, true) * gradient;
    EXPECT_LT(find(plan_of({moved}, plan.objective)).values.item<double>(), -0.05);
  }
  const at::Tensor row = normal(1, 6)[0];
  const Plan plan = plan_of({at::stack({row, -row})}, minus_angle);
  const std::unique_ptr<Engine> engine = make(plan);
  EXPECT_EQ(gradients_of(*engine, plan, engine->find({}), {1})[0].abs().max().item<double>(), 0);
}

TEST_P(Nearest, OneDimensionHasNoTangent) {
  const Plan plan = plan_of({at::tensor({1.0, 2.0, -1.0, 0.5}, at::kDouble).unsqueeze(1)}, minus_angle);
  const std::unique_ptr<Engine> engine = make(plan);
  const Found found = engine->find({});
  EXPECT_EQ(found.angles[0].item<double>(), 0);
  EXPECT_EQ(found.angles[2].item<double>(), static_cast<double>(pi));
  EXPECT_EQ(gradients_of(*engine, plan, found, {1})[0].abs().max().item<double>(), 0);
}

// ---- Zero rows and NaN ----

TEST_P(Nearest, ZeroRowsAreLeftOut) {
  const at::Tensor kept = normal(6, 4);
  at::Tensor rows = at::zeros({9, 4}, at::kDouble);
  const at::Tensor places = at::tensor({0, 2, 3, 5, 7, 8}, at::kLong);
  rows.index_copy_(0, places, kept);
  const Plan with_zeros = plan_of({rows}, minus_angle), without = plan_of({kept}, minus_angle);
  const std::unique_ptr<Engine> engine = make(with_zeros), plain = make(without);
  const Found found = engine->find({}), expected = plain->find({});
  EXPECT_NEAR(found.values.item<double>(), expected.values.item<double>(), 1e-12);
  const at::Tensor gradient = gradients_of(*engine, with_zeros, found, {1})[0];
  EXPECT_TRUE(
      at::allclose(gradient.index_select(0, places), gradients_of(*plain, without, expected, {1})[0], 1e-6, 1e-7));
  for (const int64_t r : {1, 4, 6}) {
    EXPECT_EQ(found.nearest[r].item<int>(), r);
    EXPECT_EQ(found.angles[r].item<double>(), 0);
    EXPECT_EQ(found.slopes[r].item<double>(), 0);
    EXPECT_EQ(gradient[r].abs().max().item<double>(), 0);
  }
}

TEST_P(Nearest, TinyAndHugeRowsAreNoZeros) {
  if (is_half()) GTEST_SKIP() << "its range is small";
  const at::Tensor rows = normal(6, 4);
  const double expected = find(plan_of({rows}, minus_angle)).values.item<double>();
  const double huge = is_double() ? 1e200 : 1e30;
  for (const double size : {1e-30, huge}) {
    EXPECT_NEAR(find(plan_of({rows * size}, minus_angle)).values.item<double>(), expected, 1e-6) << size;
  }
}

TEST_P(Nearest, NaNAndInfMakeTheirLayerNaNAndNoOther) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    for (const auto& [name, objective] : named_objectives()) {
      SCOPED_TRACE(name);
      Plan plan = mixed_plan(objective);
      plan.matrices[1].rows[3][2] = bad;
      plan.matrices[4].rows[0][0] = bad;  // a layer of one row
      const std::unique_ptr<Engine> engine = make(plan);
      const Found found = engine->find({});
      const auto gradients = gradients_of(*engine, plan, found, std::vector<double>(plan.layers(), 1));
      for (const int64_t layer : {0, 1, 2, 3, 4, 5}) {
        EXPECT_EQ(found.values[layer].isnan().item<bool>(), layer == 0 || layer == 2) << layer;
      }
      EXPECT_EQ(found.nearest[7 + 3].item<int>(), 3);
      EXPECT_TRUE(found.slopes.narrow(0, 0, 7).isnan().any().item<bool>());
      EXPECT_FALSE(found.slopes.narrow(0, 20, 33).isnan().any().item<bool>());
      EXPECT_TRUE(gradients[0].isnan().any().item<bool>());
      for (const size_t m : {size_t{3}, size_t{5}, size_t{6}}) {
        EXPECT_TRUE(gradients[m].isfinite().all().item<bool>()) << m;
      }
    }
  }
}

TEST_P(Nearest, NaNBesideZeroRowsMakesItsLayerNaN) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    for (const auto& [name, objective] : named_objectives()) {
      SCOPED_TRACE(name);
      at::Tensor alone = at::zeros({2, 33}, at::kDouble);
      alone[0][7] = bad;
      const Found found = find(plan_of({alone, normal(5, 4)}, objective));
      EXPECT_TRUE(found.values[0].isnan().item<bool>());
      EXPECT_FALSE(found.values[1].isnan().item<bool>());
    }
  }
}

// ---- Given neighbours ----

TEST_P(Nearest, GivenNeighboursAreEvaluatedAgain) {
  for (const auto& [name, objective] : named_objectives()) {
    SCOPED_TRACE(name);
    const Plan plan = mixed_plan(objective);
    const std::unique_ptr<Engine> engine = make(plan);
    const Found found = engine->find({}), again = engine->find(found.nearest);
    EXPECT_TRUE(at::equal(found.nearest, again.nearest));
    EXPECT_TRUE(at::allclose(found.angles, again.angles, 0, 1e-12));
    EXPECT_TRUE(at::allclose(found.values, again.values, 0, 1e-12));
    EXPECT_TRUE(at::allclose(found.slopes, again.slopes, 0, 1e-12));
  }
  const Plan plan = plan_of({normal(9, 5)}, minus_angle);
  const at::Tensor next = at::arange(9, at::kInt).add_(1).remainder_(9);
  const Found found = make(plan)->find(next);
  const reference::Rows rows = reference::rows_of(plan.matrices[0].rows);
  for (size_t r = 0; r < 9; ++r) {
    EXPECT_NEAR(found.angles[static_cast<int64_t>(r)].item<double>(),
                static_cast<double>(angle_between(rows[r], rows[(r + 1) % 9])), 1e-8);
  }
}

TEST_P(Nearest, GivenNeighboursThatAreNoPairAnyMoreAreNone) {
  const Plan plan = plan_of({normal(6, 5), normal(4, 5)}, minus_angle);
  plan.matrices[0].rows[2].zero_();
  //                                     no row: 7, -1    zero: 2      itself: 5
  const at::Tensor given = at::tensor({1, 7, 0, -1, 2, 5, 1, 0, 3, 2}, at::kInt);
  const std::unique_ptr<Engine> engine = make(plan);
  const Found found = engine->find(given);
  EXPECT_TRUE(at::equal(found.nearest, at::tensor({1, 1, 2, 3, 4, 5, 1, 0, 3, 2}, at::kInt)));
  EXPECT_TRUE(at::equal(found.angles.narrow(0, 1, 5), at::zeros({5}, at::kDouble)));
  EXPECT_GT(found.angles[0].item<double>(), 0);
  const auto gradients = gradients_of(*engine, plan, found, {1, 1});
  EXPECT_EQ(gradients[0].narrow(0, 2, 4).abs().max().item<double>(), 0);
  EXPECT_GT(gradients[0].narrow(0, 0, 2).abs().max().item<double>(), 0);
}

TEST_P(Nearest, AnEngineReadsItsMatricesAnew) {
  const Plan plan = plan_of({normal(9, 5)}, minus_angle);
  const std::unique_ptr<Engine> engine = make(plan);
  const double before = engine->find({}).values.item<double>();
  plan.matrices[0].rows.copy_(normal(9, 5));
  const double after = engine->find({}).values.item<double>();
  EXPECT_NE(before, after);
  EXPECT_EQ(after, find(plan).values.item<double>());
}

}  // namespace
