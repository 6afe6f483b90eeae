// The engine in LibTorch's operations, as a GPU would see it: nothing waits for the device, a pass over a network has
// no more launches than the paper's formula, one over a matrix only those of what the formula lacks, and its gradient
// can be differentiated again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../benchmarks/measure.hpp"
#include "matrices.hpp"
#include "meta_kernels.hpp"
#include "mma/detail/nearest/portable/double_backward.hpp"
#include "mma/detail/nearest/portable/engine.hpp"
#include "operations.hpp"

namespace {

namespace nearest = mma::detail::nearest;
namespace portable = mma::detail::nearest::portable;
using nearest::Found;
using nearest::Objective;
using nearest::Plan;

const std::vector<Objective>& objectives() {
  static const std::vector<Objective> all{
      {-1, 0, false, false}, {-1, 0, true, false}, {0, 1, false, false}, {0, 1, false, true}, {0, 1, true, true}};
  return all;
}

/// Weights of a network with a .grad, and what an engine needs of them.
struct Network {
  mma::benchmarks::Weights weights;
  Plan plan;
  std::vector<at::Tensor> gradients;
  at::Tensor factors;

  Network(const std::string& name, c10::Device device)
      : weights(mma::benchmarks::random_weights(mma::benchmarks::weight_shapes(name), device)) {
    for (const at::Tensor& weight : weights) {
      plan.matrices.push_back({weight.detach().flatten(1), plan.matrices.size()});
      gradients.push_back(weight.grad().flatten(1));
    }
    plan.objective = objectives().front();
    factors = at::ones({static_cast<int64_t>(plan.layers())}, at::TensorOptions(at::kDouble).device(device));
  }
};

/// Matrices of every kind that batches.hpp tells apart.
Plan mixed_plan(at::ScalarType type, c10::Device device, const Objective& objective) {
  const at::Generator random = at::detail::createCPUGenerator(3);
  Plan plan;
  const std::vector<std::pair<int64_t, int64_t>> shapes{{7, 5},     {7, 5},     {6, 9}, {1, 3},
                                                        {300, 500}, {300, 500}, {90, 2}};
  for (size_t m = 0; m < shapes.size(); ++m) {
    const at::Tensor rows = matrices::normal(shapes[m].first, shapes[m].second, random);
    plan.matrices.push_back({rows.to(type).to(device), m < 2 ? 0 : m - 1});
  }
  plan.objective = objective;
  return plan;
}

std::vector<at::Tensor> zeros_for(const Plan& plan) {
  std::vector<at::Tensor> result;
  for (const auto& matrix : plan.matrices) result.push_back(at::zeros_like(matrix.rows));
  return result;
}

at::Tensor ones_for(const Plan& plan) {
  return at::ones({static_cast<int64_t>(plan.layers())}, plan.matrices.front().rows.options().dtype(at::kDouble));
}

/// All that an engine does.
void run_all(portable::Engine& engine, const Plan& plan) {
  const Found found = engine.find({});
  const Found again = engine.find(found.nearest);
  engine.add_gradient(again, zeros_for(plan), ones_for(plan), 0.5);
  engine.find_and_add_gradient(zeros_for(plan), ones_for(plan), 0.5, {});
}

TEST(Portable, NothingAsksForANumberOnTheDevice) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    for (const Objective& objective : objectives()) {
      const Plan plan = mixed_plan(type, c10::Device(at::kMeta), objective);
      portable::Engine engine(plan);
      EXPECT_NO_THROW(run_all(engine, plan));  // on meta there are no numbers
    }
  }
}

TEST(Portable, NoOperationWaitsForTheDevice) {
  static const std::vector<std::string> waiting{"item",         "_local_scalar_dense",
                                                "nonzero",      "nonzero_numpy",
                                                "is_nonzero",   "masked_select",
                                                "unique2",      "_unique2",
                                                "equal",        "bincount",
                                                "_assert_async"};
  for (const Objective& objective : objectives()) {
    const Plan plan = mixed_plan(at::kFloat, at::kCPU, objective);
    portable::Engine engine(plan);
    for (const std::string& name : operations::of([&] { run_all(engine, plan); })) {
      EXPECT_EQ(std::count(waiting.begin(), waiting.end(), name), 0) << name;
    }
  }
}

TEST(Portable, TheListOfWaitingOperationsSeesThem) {
  const at::Tensor tensor = at::ones({3});
  const auto names = operations::of([&] {
    static_cast<void>(tensor.sum().item<float>());
    static_cast<void>(tensor.nonzero());
  });
  EXPECT_EQ(std::count(names.begin(), names.end(), "_local_scalar_dense"), 1);
  EXPECT_EQ(std::count(names.begin(), names.end(), "nonzero"), 1);
  EXPECT_ANY_THROW(at::where(at::ones({3}, at::kMeta) > 0, at::scalar_tensor(1), at::ones({3}, at::kMeta)));
  EXPECT_ANY_THROW(at::ones({3}, at::kMeta).sum().item<float>());
}

class Launches : public testing::TestWithParam<const char*> {};

TEST_P(Launches, OfAPassAreNoMoreThanThoseOfTheFormula) {
  Network network(GetParam(), c10::Device(at::kMeta));
  const size_t formula = operations::of(mma::benchmarks::paper_step(network.weights)).size();
  portable::Engine engine(network.plan);
  Found found;
  const size_t search = operations::of([&] { found = engine.find({}); }).size();
  const size_t given = operations::of([&] { engine.find(found.nearest); }).size();
  const size_t gradient =
      operations::of([&] { engine.add_gradient(found, network.gradients, network.factors, 1); }).size();
  const size_t both =
      operations::of([&] { engine.find_and_add_gradient(network.gradients, network.factors, 1, {}); }).size();
  std::cout << GetParam() << ", " << network.weights.size() << " weights: formula " << formula << ", find " << search
            << ", find given " << given << ", gradient " << gradient << ", both " << both << "\n";
  EXPECT_LE(search + gradient, formula);
  EXPECT_LE(both, search + gradient);
}

INSTANTIATE_TEST_SUITE_P(Networks, Launches, testing::Values("vgg19-bn", "resnet56", "wrn-28-10", "densenet-40-12"));

/// One matrix, as a functional form has: of n rows in d dimensions.
class LaunchesOfOne : public testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(LaunchesOfOne, AreFewWhateverItsShapeAndObjective) {
  const auto [n, d] = GetParam();
  mma::benchmarks::Weights weights{at::zeros({n, d}, at::kMeta).requires_grad_()};
  weights[0].mutable_grad() = at::zeros({n, d}, at::kMeta);
  const size_t formula = operations::of(mma::benchmarks::paper_step(weights)).size();
  // Beyond the formula: 18 of the two angles part duplicates, the rest is an exact angle, zero rows and NaN; for lines
  // the nearer end, with many rows products that cancel nothing. Not more than this, so that no launch comes back
  // unseen.
  const bool few_rows = n * n <= portable::few_pairs && n * n * d <= portable::few_numbers;
  const std::vector<int> more = few_rows ? std::vector{11, 20, -4, 0, 8} : std::vector{22, 32, 7, 11, 20};
  for (size_t k = 0; k < objectives().size(); ++k) {
    const Plan plan{{{weights[0].detach(), 0}}, objectives()[k]};
    const std::vector<at::Tensor> gradients{weights[0].grad()};
    const at::Tensor factors = ones_for(plan);
    std::unique_ptr<portable::Engine> engine;
    const size_t made = operations::of([&] { engine = std::make_unique<portable::Engine>(plan); }).size();
    Found found;
    const size_t search = operations::of([&] { found = engine->find({}); }).size();
    const size_t gradient = operations::of([&] { engine->add_gradient(found, gradients, factors, 1); }).size();
    std::cout << n << " x " << d << ", objective " << k << ": formula " << formula << ", making the engine " << made
              << ", find " << search << ", gradient " << gradient << "\n";
    EXPECT_LE(static_cast<int>(search + gradient), static_cast<int>(formula) + more[k]);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LaunchesOfOne,
                         testing::Values(std::pair{512, 4608}, std::pair{64, 576}, std::pair{7, 5}, std::pair{33, 33}));

TEST(Portable, TwoMinusSignsAreNone) {
  for (const Objective& objective : objectives()) {
    Plan plan = mixed_plan(at::kDouble, at::kCPU, objective);
    plan.matrices[2].rows[4].copy_(plan.matrices[2].rows[1]);       // duplicates
    plan.matrices[4].rows[9].copy_(plan.matrices[4].rows[5] * -2);  // as lines too
    portable::Engine engine(plan);
    std::vector<at::Tensor> plus = zeros_for(plan), minus = zeros_for(plan);
    engine.find_and_add_gradient(plus, ones_for(plan), 0.5, {});
    engine.find_and_add_gradient(minus, -ones_for(plan), -0.5, {});
    for (size_t m = 0; m < plus.size(); ++m) EXPECT_TRUE(at::allclose(plus[m], minus[m], 1e-12, 1e-14)) << m;
  }
}

TEST(Portable, ABatchIsWhatItsMatricesAreAlone) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const Plan plan = mixed_plan(type, at::kCPU, objectives().front());
    portable::Engine engine(plan);
    std::vector<at::Tensor> gradients = zeros_for(plan);
    const Found found = engine.find_and_add_gradient(gradients, ones_for(plan), 1, {});
    int64_t row = 0;
    for (size_t m = 2; m < plan.matrices.size(); ++m) {
      row = 0;
      for (size_t k = 0; k < m; ++k) row += plan.matrices[k].rows.size(0);
      const Plan alone{{{plan.matrices[m].rows, 0}}, plan.objective};
      portable::Engine single(alone);
      std::vector<at::Tensor> gradient = zeros_for(alone);
      const Found expected = single.find_and_add_gradient(gradient, ones_for(alone), 1, {});
      const int64_t n = plan.matrices[m].rows.size(0);
      EXPECT_TRUE(at::equal(found.nearest.narrow(0, row, n), expected.nearest)) << m;
      EXPECT_TRUE(at::allclose(found.angles.narrow(0, row, n), expected.angles, 1e-12, 0)) << m;
      EXPECT_TRUE(at::allclose(gradients[m], gradient[0], 1e-5, 1e-7)) << m;
    }
  }
}

// ---- Double backward ----

/// The gradient of a plan of one layer, differentiable.
at::Tensor differentiable(const at::Tensor& rows, const Found& found, const Objective& objective,
                          const at::Tensor& factor) {
  const portable::FoundOfWeight of_weight(found, 0, rows.size(0), rows.size(1), false);
  return portable::differentiable_gradient(rows, of_weight, objective, factor.reshape({1}));
}

Plan layer_plan(const at::Tensor& rows, const Objective& objective) {
  Plan plan;
  for (int64_t g = 0; g < rows.size(0); ++g) plan.matrices.push_back({rows.detach()[g], 0});
  plan.objective = objective;
  return plan;
}

at::Tensor plain_gradient(const at::Tensor& rows, const Objective& objective, double factor, Found* found = nullptr) {
  const Plan plan = layer_plan(rows, objective);
  portable::Engine engine(plan);
  std::vector<at::Tensor> gradients = zeros_for(plan);
  const Found result = engine.find_and_add_gradient(gradients, ones_for(plan) * factor, 1, {});
  if (found != nullptr) *found = result;
  return at::stack(gradients);
}

/// Two groups with rows of zeros, one pair of duplicates.
at::Tensor grouped_rows() {
  const at::Generator random = at::detail::createCPUGenerator(5);
  at::Tensor rows = at::randn({2, 6, 4}, random, at::TensorOptions(at::kDouble));
  rows[0][2].zero_();
  return rows;
}

TEST(PortableDoubleBackward, TheGradientIsTheEngines) {
  for (const bool graph : {false, true}) {
    for (const Objective& objective : objectives()) {
      at::Tensor rows = grouped_rows();
      rows[1][5] = rows[1][0];
      Found found;
      const at::Tensor expected = plain_gradient(rows, objective, 0.7, &found);
      const at::Tensor leaf = rows.clone().requires_grad_(graph);
      const at::Tensor gradient = differentiable(leaf, found, objective, at::scalar_tensor(0.7, at::kDouble));
      EXPECT_TRUE(at::allclose(gradient, expected, 1e-10, 1e-12)) << graph;
    }
  }
}

TEST(PortableDoubleBackward, IsTheDifferenceOfGradients) {
  for (const Objective& objective : objectives()) {
    const at::Generator random = at::detail::createCPUGenerator(6);
    const at::Tensor rows = grouped_rows();
    at::Tensor along = at::randn({2, 6, 4}, random, at::TensorOptions(at::kDouble));
    const at::Tensor probe = at::randn({2, 6, 4}, random, at::TensorOptions(at::kDouble));
    along[0][2].zero_();
    Found found;
    plain_gradient(rows, objective, 1, &found);
    const at::Tensor leaf = rows.clone().requires_grad_();
    const at::Tensor factor = at::scalar_tensor(0.7, at::kDouble).requires_grad_();
    const at::Tensor gradient = differentiable(leaf, found, objective, factor);
    const auto second = torch::autograd::grad({(gradient * probe).sum()}, {leaf, factor});
    const double step = 1e-5;
    const at::Tensor ahead = plain_gradient(rows + step * along, objective, 0.7);
    const at::Tensor behind = plain_gradient(rows - step * along, objective, 0.7);
    const double expected = (probe * (ahead - behind)).sum().item<double>() / (2 * step);
    EXPECT_TRUE(second[0].isfinite().all().item<bool>());
    EXPECT_NEAR((second[0] * along).sum().item<double>(), expected, 1e-6 * (1 + std::abs(expected)));
    const double by_factor = (plain_gradient(rows, objective, 1) * probe).sum().item<double>();
    EXPECT_NEAR(second[1].item<double>(), by_factor, 1e-10 * (1 + std::abs(by_factor)));
  }
}

TEST(PortableDoubleBackward, NaNStaysNaN) {
  at::Tensor rows = grouped_rows();
  rows[0][1][1] = std::nan("");
  Found found;
  plain_gradient(rows, objectives().front(), 1, &found);
  const at::Tensor gradient = differentiable(rows.clone().requires_grad_(), found, objectives().front(),
                                             at::ones({}, at::TensorOptions(at::kDouble)));
  EXPECT_TRUE(gradient[0].isnan().any().item<bool>());
  EXPECT_TRUE(gradient[1].isnan().any().item<bool>());
}

}  // namespace
