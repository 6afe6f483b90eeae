// Each objective against its formula: value, gradient and second derivative; and the paper's closed forms of gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <mma/mma.hpp>

#include <numbers>

#include "objective_formulas.hpp"

namespace {

using measured::gradient;
using measured::loss;
using measured::random_rows;
using measured::relative_error;
using measured::value_and_gradient;
using reference::Case;
using reference::Real;
using reference::Rows;

/// Rows below, at and above the dimension, and more than one block of a sum.
const std::vector<std::pair<int64_t, int64_t>> shapes = {{2, 1},   {2, 2},     {2, 5},   {3, 2},    {3, 3},
                                                         {7, 3},   {7, 40},    {33, 4},  {33, 33},  {33, 600},
                                                         {101, 5}, {101, 101}, {257, 9}, {257, 270}};

Rows moved(Rows rows, const Rows& direction, Real step) {
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t k = 0; k < rows[i].size(); ++k) rows[i][k] += step * direction[i][k];
  }
  return rows;
}

FOR_EACH_OBJECTIVE(Formulas, Value, all) {
  for (const auto& [n, d] : shapes) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      const at::Tensor weight = random_rows({n, d}, 51, type);
      const auto expected = static_cast<double>(entry.formula(reference::rows_of(weight)));
      const double scale = std::max(1.0, std::abs(expected)), bound = type == at::kFloat ? 5e-5 : 1e-12;
      EXPECT_NEAR(loss(entry.make(), weight).item<double>() / scale, expected / scale, bound) << n << "x" << d;
      EXPECT_NEAR(value_and_gradient(entry.make(), weight).first.item<double>() / scale, expected / scale, bound);
    }
  }
}

FOR_EACH_OBJECTIVE(Formulas, GradientAlongADirection, all) {
  for (const auto& [n, d] : shapes) {
    if (n * d > 40000) continue;
    for (const auto type : {at::kFloat, at::kDouble}) {
      const at::Tensor weight = random_rows({n, d}, 52, type), direction = random_rows({n, d}, 53, at::kDouble);
      const Rows rows = reference::rows_of(weight), v = reference::rows_of(direction);
      constexpr Real step = 1e-7;
      const auto expected = static_cast<double>(
          (entry.formula(moved(rows, v, step)) - entry.formula(moved(rows, v, -step))) / (2 * step));
      const at::Tensor by_autograd = gradient(entry.make(), weight).to(at::kDouble);
      const double bound = (type == at::kFloat ? 2e-5 : 1e-9) * (by_autograd.norm() * direction.norm()).item<double>();
      EXPECT_NEAR((by_autograd * direction).sum().item<double>(), expected, bound + 1e-9) << n << "x" << d;
      const at::Tensor without = value_and_gradient(entry.make(), weight).second;
      EXPECT_LT((without.to(at::kDouble) - by_autograd).norm().item<double>(),
                (type == at::kFloat ? 1e-6 : 1e-14) * by_autograd.norm().item<double>() + 1e-30);
    }
  }
}

FOR_EACH_OBJECTIVE(Formulas, EveryEntryOfTheGradient, all) {
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{9, 4}, {4, 9}}) {
    const at::Tensor weight = random_rows({n, d}, 54, at::kDouble);
    const at::Tensor analytic = gradient(entry.make(), weight);
    const Rows rows = reference::rows_of(weight);
    constexpr Real step = 1e-7;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t k = 0; k < d; ++k) {
        Rows up = rows, down = rows;
        up[static_cast<size_t>(i)][static_cast<size_t>(k)] += step;
        down[static_cast<size_t>(i)][static_cast<size_t>(k)] -= step;
        const auto expected = static_cast<double>((entry.formula(up) - entry.formula(down)) / (2 * step));
        EXPECT_NEAR(analytic[i][k].item<double>(), expected, 1e-9 * analytic.norm().item<double>());
      }
    }
    const at::Tensor single = gradient(entry.make(), weight.to(at::kFloat));
    EXPECT_LT(relative_error(single, gradient(entry.make(), weight.to(at::kFloat).to(at::kDouble))), 1e-5);
  }
}

FOR_EACH_OBJECTIVE(Formulas, GradientTimesWhatComesFromOutside, all) {
  const at::Tensor weight = random_rows({3, 12, 5}, 55, at::kDouble);
  const at::Tensor outer = at::tensor({2.0, -0.5, 0.0}, at::kDouble);
  const at::Tensor whole = [&] {
    const at::Tensor leaf = weight.clone().requires_grad_();
    loss(entry.make(), leaf).backward(outer);
    return leaf.grad();
  }();
  const at::Tensor once = gradient(entry.make(), weight);
  EXPECT_LT(relative_error(whole, once * outer.reshape({3, 1, 1})), 1e-14);
  const at::Tensor without =
      entry.make().value_and_gradient(weight, mma::detail::rows::usable_rows(weight), outer).second;
  EXPECT_LT(relative_error(without, once * outer.reshape({3, 1, 1})), 1e-14);
}

FOR_EACH_OBJECTIVE(Formulas, DoubleBackward, all) {
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{9, 4}, {4, 9}}) {
    const at::Tensor direction = random_rows({n, d}, 56, at::kDouble);
    const at::Tensor weight = random_rows({n, d}, 57, at::kDouble).requires_grad_();
    const at::Tensor first = torch::autograd::grad({loss(entry.make(), weight)}, {weight}, {}, true, true).front();
    EXPECT_LT(relative_error(first, gradient(entry.make(), weight)), 1e-12);
    const at::Tensor product = torch::autograd::grad({(first * direction).sum()}, {weight}).front();
    constexpr double step = 1e-5;
    const at::Tensor expected = (gradient(entry.make(), weight.detach() + step * direction) -
                                 gradient(entry.make(), weight.detach() - step * direction)) /
                                (2 * step);
    EXPECT_LT(relative_error(product, expected), 1e-6) << n << "x" << d;
  }
}

FOR_EACH_OBJECTIVE(Formulas, DoubleBackwardReachesTheOuterGradient, all) {
  // d/dg of (g * dl/dW) is dl/dW; a matrix with one row has none.
  at::Tensor weight = random_rows({2, 6, 4}, 58, at::kDouble);
  weight[1].narrow(0, 1, 5).zero_();
  weight.requires_grad_();
  const at::Tensor scale = at::ones({2}, at::kDouble).requires_grad_();
  const at::Tensor first = torch::autograd::grad({loss(entry.make(), weight)}, {weight}, {scale}, true, true).front();
  const at::Tensor direction = random_rows({2, 6, 4}, 59, at::kDouble);
  const at::Tensor by_scale = torch::autograd::grad({(first * direction).sum()}, {scale}).front();
  const at::Tensor expected = (gradient(entry.make(), weight) * direction).sum({1, 2});
  EXPECT_LT((by_scale - expected).abs().max().item<double>(), 1e-10 * expected.norm().item<double>());
  EXPECT_EQ(by_scale[1].item<double>(), 0);
}

FOR_EACH_OBJECTIVE(Formulas, ABatchIsItsMatricesOneByOne, all) {
  if (entry.name == "SpectralIsometry") return;  // each matrix of a batch draws its own vector
  const at::Tensor batch = random_rows({5, 33, 12}, 60);
  const at::Tensor together = loss(entry.make(), batch), slopes = gradient(entry.make(), batch);
  ASSERT_EQ(together.sizes(), at::IntArrayRef({5}));
  for (int64_t b = 0; b < 5; ++b) {
    const auto expected = static_cast<double>(entry.formula(reference::rows_of(batch[b])));
    EXPECT_NEAR(together[b].item<double>() / expected, 1, 2e-6);
    EXPECT_LT(relative_error(slopes[b], gradient(entry.make(), batch[b])), 2e-6);
  }
}

TEST(SpectralIsometry, ManyIterationsGiveTheSpectralNorm) {
  for (const auto& [n, d] : {std::pair<int64_t, int64_t>{7, 20}, {20, 7}, {12, 12}}) {
    const at::Tensor weight = random_rows({n, d}, 61, at::kDouble) * 0.3;
    const at::Tensor gram = n <= d ? weight.mm(weight.t()) : weight.t().mm(weight);
    const double expected = at::linalg_eigvalsh(gram - at::eye(gram.size(0), at::kDouble)).abs().max().item<double>();
    EXPECT_NEAR(mma::spectral_isometry_loss(weight, {.iterations = 3000}).item<double>(), expected, 1e-9);
  }
}

TEST(SpectralIsometry, EachMatrixOfABatchHasAVectorOfItsOwn) {
  const at::Tensor batch = random_rows({3, 5, 8}, 62, at::kDouble);
  const at::Tensor values = mma::spectral_isometry_loss(batch, {.random = {.seed = 9}});
  mma::RandomDraws draws{.seed = 9};
  const at::Tensor vectors = draws.normal({3, 5, 1});
  for (int64_t b = 0; b < 3; ++b) {
    const auto vector = reference::rows_of(vectors[b].t())[0];
    EXPECT_NEAR(values[b].item<double>(),
                static_cast<double>(reference::spectral_isometry(reference::rows_of(batch[b]), vector, 2)), 1e-12);
  }
}

TEST(SpectralIsometry, ZeroRowsAreNoDimensions) {
  const at::Tensor full = random_rows({5, 8}, 64, at::kDouble), zero = at::zeros({1, 8}, at::kDouble);
  const at::Tensor rows = at::cat({full.narrow(0, 0, 2), zero, full.narrow(0, 2, 3)}).requires_grad_();
  auto vector = reference::first_draw(6, 9);
  vector.erase(vector.begin() + 2);
  const at::Tensor value = mma::spectral_isometry_loss(rows, {.random = {.seed = 9}});
  EXPECT_NEAR(value.item<double>(),
              static_cast<double>(reference::spectral_isometry(reference::rows_of(full), vector, 2)), 1e-12);
  value.backward();
  EXPECT_EQ(rows.grad()[2].abs().max().item<double>(), 0);

  // With more rows than dimensions the zero row is not seen at all.
  const at::Tensor tall = random_rows({8, 3}, 65, at::kDouble);
  const at::Tensor with_zero = at::cat({tall, at::zeros({1, 3}, at::kDouble)});
  EXPECT_NEAR(mma::spectral_isometry_loss(with_zero).item<double>() / mma::spectral_isometry_loss(tall).item<double>(),
              1, 1e-12);
}

TEST(SpectralIsometry, AnIsometryIsZero) {
  const at::Tensor weight = at::eye(4, 9, at::kDouble).requires_grad_();
  const at::Tensor value = mma::spectral_isometry_loss(weight);
  EXPECT_EQ(value.item<double>(), 0);
  value.backward();
  EXPECT_EQ(weight.grad().abs().max().item<double>(), 0);
}

TEST(SimplexTarget, IsZeroAtTheSimplex) {
  const at::Tensor rows = at::eye(6, at::kDouble) - 1.0 / 6;  // all cosines are -1/5
  EXPECT_LT(mma::simplex_target_loss(rows).item<double>(), 1e-28);
  EXPECT_LT(gradient(mma::SimplexTarget{}, rows).norm().item<double>(), 1e-14);
}

TEST(MutualCoherence, ReachesTheWelchBoundAtAnEquiangularFrame) {
  // Three lines in a plane at 60 degrees: sqrt((3 - 2) / (2 * 2)) = 1/2.
  const double third = std::numbers::pi / 3;
  const at::Tensor rows =
      at::tensor({1.0, 0.0, std::cos(third), std::sin(third), std::cos(2 * third), std::sin(2 * third)}, at::kDouble);
  EXPECT_NEAR(mma::mutual_coherence_loss(rows.reshape({3, 2})).item<double>(), 0.5, 1e-14);
}

TEST(MaximalCosine, OfSeveralClosestPairsTheFirstCarriesTheGradient) {
  const at::Tensor pair = at::tensor({1.0, 0.0, 1.0, 1.0}, at::kDouble).reshape({2, 2});
  const at::Tensor zeros = at::zeros({2, 2}, at::kDouble);
  const at::Tensor rows = at::cat({at::cat({pair, zeros}, 1), at::cat({zeros, pair}, 1)});  // two pairs at 45 degrees
  const at::Tensor slopes = gradient(mma::MaximalCosine{.closest_only = true}, rows);
  EXPECT_GT(slopes.narrow(0, 0, 2).norm().item<double>(), 0.5);
  EXPECT_EQ(slopes.narrow(0, 2, 2).norm().item<double>(), 0);
}

/// Rows of the given norms at the angle theta, turned out of the axes.
at::Tensor two_rows(double theta, double first_norm, double second_norm) {
  const at::Tensor frame = std::get<0>(at::linalg_qr(random_rows({5, 5}, 63, at::kDouble)));
  const at::Tensor a = frame[0], b = frame[0] * std::cos(theta) + frame[1] * std::sin(theta);
  return at::stack({a * first_norm, b * second_norm});
}

/// Over two rows each loss is its core function, so its gradient norms are those of section 3.2.
void expect_norms(const mma::AnyObjective& objective, double theta, double expected, double tolerance) {
  for (const auto& [first, second] : {std::pair{1.0, 1.0}, {0.03, 4.0}, {200.0, 1.0}}) {
    const at::Tensor rows = two_rows(theta, first, second);
    const at::Tensor slopes = gradient(objective, rows);
    EXPECT_NEAR((slopes[0].norm() * first).item<double>() / expected, 1, tolerance) << "theta " << theta;
    EXPECT_NEAR((slopes[1].norm() * second).item<double>() / expected, 1, tolerance) << "theta " << theta;
    EXPECT_LT(std::abs(slopes[0].dot(rows[0]).item<double>()), 1e-9 * std::max(1.0, expected));  // a tangent
  }
}

std::vector<double> angles() {
  std::vector<double> result;
  for (double theta = 1e-6; theta < 1; theta *= 2.3) {
    result.push_back(theta);
    result.push_back(std::numbers::pi - theta);
  }
  return result;
}

TEST(ClosedForms, MaximalCosineIsEq7) {
  for (const double theta : angles()) expect_norms(mma::MaximalCosine{}, theta, std::sin(theta), 1e-8);
}

TEST(ClosedForms, MinimalAngleIsEq8) {
  for (const double theta : angles()) expect_norms(mma::MinimalAngle{}, theta, 1, 1e-8);
}

TEST(ClosedForms, RieszFisherIsEq10) {
  for (const double s : {1.0, 2.0, 3.0}) {
    for (const double theta : angles()) {
      const double expected = s * std::cos(theta / 2) / std::pow(2 * std::sin(theta / 2), s + 1);
      expect_norms(mma::RieszFisher{.s = s, .closest = 1e-7}, theta, expected, 1e-8);
    }
  }
}

TEST(ClosedForms, LogarithmicIsEq12) {
  for (const double theta : angles()) {
    const double expected = std::cos(theta / 2) / (2 * std::sin(theta / 2));
    expect_norms(mma::Logarithmic{.closest = 1e-7}, theta, expected, 1e-8);
  }
}

TEST(ClosedForms, BelowTheClosestDistanceTheGradientStaysAtItsBound) {
  for (const double theta : angles()) {
    if (theta > 1e-3) continue;
    expect_norms(mma::RieszFisher{.s = 2}, theta, 2e6 * std::cos(theta / 2), 1e-8);
    expect_norms(mma::Logarithmic{}, theta, 1e2 * std::cos(theta / 2), 1e-8);
    expect_norms(mma::Logarithmic{.closest = 1e-3}, theta, 1e3 * std::cos(theta / 2), 1e-8);
  }
}

}  // namespace
