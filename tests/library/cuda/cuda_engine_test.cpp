// The CUDA engine with its kernels run by an emulator: against its contract in plain loops, and against itself in
// another order.
#include <gtest/gtest.h>
#include <mma/detail/nearest/cuda/engine.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "emulated_launcher.hpp"
#include "expectations.hpp"

namespace {

using expectations::expect_keeps_the_contract;
using expectations::factors_of;
using expectations::objectives;
using expectations::plan_of;
using expectations::random_rows;
using expectations::types;
using expectations::zeros_like;
using mma::detail::nearest::Found;
using mma::detail::nearest::Plan;
using mma::detail::nearest::cuda::Engine;

struct Pass {
  Found found;
  std::vector<at::Tensor> gradients;
  int launches = 0;
  int64_t exact_look_waits = 0;
};

Pass emulated(const Plan& plan, const std::shared_ptr<EmulatedLauncher>& launcher, const at::Tensor& nearest = {}) {
  Engine engine(plan, launcher);
  Pass pass{engine.find(nearest), zeros_like(plan)};
  engine.add_gradient(pass.found, pass.gradients, factors_of(plan), 1);
  pass.launches = launcher->launches;
  pass.exact_look_waits = launcher->exact_look_waits;
  return pass;
}

std::shared_ptr<EmulatedLauncher> launcher_for(const Plan& plan, unsigned seed = 1) {
  return std::make_shared<EmulatedLauncher>(plan.matrices.front().rows.scalar_type(), seed);
}

Pass emulated(const Plan& plan, unsigned seed = 1, const at::Tensor& nearest = {}) {
  return emulated(plan, launcher_for(plan, seed), nearest);
}

double value_of(const Found& found, int64_t layer) { return found.values[layer].item<double>(); }

void expect_same_bits(const Pass& a, const Pass& b) {
  EXPECT_TRUE(a.found.values.equal(b.found.values));
  EXPECT_TRUE(a.found.norms.equal(b.found.norms));
  EXPECT_TRUE(a.found.nearest.equal(b.found.nearest));
  EXPECT_TRUE(a.found.angles.equal(b.found.angles));
  EXPECT_TRUE(a.found.slopes.equal(b.found.slopes));
  for (size_t m = 0; m < a.gradients.size(); ++m) EXPECT_TRUE(a.gradients[m].equal(b.gradients[m])) << m;
}

class EmulatedCudaOf : public testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Rows, EmulatedCudaOf, testing::ValuesIn(types),
                         [](const auto& instance) { return std::string(c10::toString(instance.param)); });

TEST_P(EmulatedCudaOf, EqualsThePlainFormula) {
  const Plan plan = plan_of(expectations::awkward_matrices(GetParam()));
  const Pass pass = emulated(plan);
  const bool narrow = GetParam() == at::kHalf || GetParam() == at::kBFloat16;
  for (size_t m = 0; m < plan.matrices.size(); ++m) {
    const at::Tensor& rows = plan.matrices[m].rows;
    if (rows.size(0) < 2 || rows.size(1) < 2) continue;
    SCOPED_TRACE(m);
    const auto layer = static_cast<int64_t>(m);
    const at::Tensor expected = reference::minimal_angle_gradient(rows) * factors_of(plan)[layer];
    const double error = ((pass.gradients[m].to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
    EXPECT_LT(error, GetParam() == at::kDouble ? 1e-11 : narrow ? 5e-3 : 1e-6);
    EXPECT_NEAR(value_of(pass.found, layer), reference::minimal_angle_loss(rows), 1e-12);
  }
}

TEST_P(EmulatedCudaOf, KeepsTheContract) {
  for (const auto& objective : objectives) {
    const Plan plan = plan_of(expectations::special_matrices(GetParam()), objective);
    const Pass pass = emulated(plan);
    expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
  }
}

TEST_P(EmulatedCudaOf, TheAngleIsTheSmallestButForRounding) {
  for (const auto& objective : {objectives[0], objectives[1]}) {
    const Plan plan = plan_of(expectations::all_matrices(GetParam()), objective);
    const Pass pass = emulated(plan);
    expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
  }
}

TEST_P(EmulatedCudaOf, WithoutTensorCoresItKeepsTheContract) {
  const Plan plan = plan_of(expectations::all_matrices(GetParam()));
  const auto launcher = launcher_for(plan);
  launcher->tensor_cores = false;
  const Pass pass = emulated(plan, launcher);
  expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
}

// From one multiprocessor, which has whole tiles, to so many that each tile is summed from pieces; blocks in any order.
TEST_P(EmulatedCudaOf, HoweverManyShareTheSearchItKeepsTheContract) {
  const Plan plan = plan_of({random_rows(257, 65, 1, GetParam()), random_rows(3, 1000, 2, GetParam()),
                             expectations::simplex(70, 700, 3, GetParam()), random_rows(130, 31, 4, GetParam())});
  for (const int processors : {1, 2, 7, 60}) {
    SCOPED_TRACE(processors);
    const auto launcher = launcher_for(plan, static_cast<unsigned>(processors));
    launcher->processors = processors;
    const Pass pass = emulated(plan, launcher);
    expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
    const auto reordered = launcher_for(plan, 99);
    reordered->processors = processors;
    expect_same_bits(pass, emulated(plan, reordered));
  }
}

// A second pass of the same engine: the pieces' counts are as they were.
TEST_P(EmulatedCudaOf, APassAgainGivesTheSameBits) {
  const Plan plan = plan_of({random_rows(150, 300, 1, GetParam())});
  Engine engine(plan, launcher_for(plan));
  const Found first = engine.find({}), second = engine.find({});
  EXPECT_TRUE(first.nearest.equal(second.nearest));
  EXPECT_TRUE(first.angles.equal(second.angles));
}

// More choosers than a block has threads, and rows longer than what a block of the gradient takes.
TEST_P(EmulatedCudaOf, ARowThatAllOthersChoose) {
  at::Tensor rows = at::eye(300, 1030, at::kDouble).mul_(std::sqrt(0.75));
  rows.select(1, 0).fill_(0.5);
  rows[0].zero_();
  rows[0][0].fill_(2);
  const Plan plan = plan_of({rows.to(GetParam())});
  const Pass pass = emulated(plan);
  EXPECT_TRUE(pass.found.nearest.slice(0, 1).eq(0).all().item<bool>());
  expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
}

// So that MMA costs the same at its optimum, where each row has many neighbours at one angle, as at random weights.
TEST_P(EmulatedCudaOf, NoRowIsLookedAtExactlyAtTheOptimum) {
  EXPECT_EQ(emulated(plan_of(expectations::awkward_matrices(GetParam()))).exact_look_waits, 0);
  EXPECT_EQ(emulated(plan_of(expectations::optimal_matrices(GetParam()))).exact_look_waits, 0);
  EXPECT_GT(emulated(plan_of({expectations::cone(80, 45, 0.03, GetParam())})).exact_look_waits, 0);
}

TEST_P(EmulatedCudaOf, TheOrderOfBlocksChangesNoBit) {
  std::vector<at::Tensor> matrices = expectations::special_matrices(GetParam());
  matrices.push_back(expectations::clustered(200, 20, 0.02, GetParam()));
  matrices.push_back(expectations::simplex(150, 150, 3, GetParam()));
  const Plan plan = plan_of(std::move(matrices));
  expect_same_bits(emulated(plan, 1), emulated(plan, 2));
}

// All cosines are 0, of either sign.
TEST_P(EmulatedCudaOf, OfEqualCosinesTheLowestIndexWins) {
  at::Tensor rows = at::eye(150, at::kDouble);
  rows.narrow(0, 30, 50).neg_();
  for (unsigned seed = 1; seed <= 3; ++seed) {
    const at::Tensor nearest = emulated(plan_of({rows.to(GetParam())}), seed).found.nearest;
    EXPECT_EQ(nearest[0].item<int>(), 1);
    EXPECT_TRUE(nearest.slice(0, 1).eq(0).all().item<bool>()) << nearest;
  }
}

TEST_P(EmulatedCudaOf, OfExactDuplicatesTheLowestIndexWins) {
  at::Tensor rows = random_rows(200, 9, 1, GetParam());
  for (const int64_t r : {70, 90, 199}) rows[r].copy_(rows[5]);
  const at::Tensor nearest = emulated(plan_of({rows})).found.nearest;
  EXPECT_EQ(nearest[5].item<int>(), 70);
  for (const int64_t r : {70, 90, 199}) EXPECT_EQ(nearest[r].item<int>(), 5);
}

// A winner of products in float32 is another row for many of these.
TEST(EmulatedCuda, RowsInAConeFindTheTrueNearest) {
  const at::Tensor rows = expectations::cone(120, 50, 1e-4, at::kFloat);
  const auto expected = reference::nearest(reference::rows_of(rows));
  const at::Tensor unit = rows / rows.norm(2, {1}, true);
  const at::Tensor plain = unit.mm(unit.t()).fill_diagonal_(-2).argmax(1);
  const Pass pass = emulated(plan_of({rows}));
  int64_t plainly_wrong = 0;
  for (int64_t r = 0; r < rows.size(0); ++r) {
    const auto nearest = static_cast<int64_t>(expected.index[static_cast<size_t>(r)]);
    EXPECT_EQ(pass.found.nearest[r].item<int64_t>(), nearest) << r;
    plainly_wrong += plain[r].item<int64_t>() != nearest;
  }
  EXPECT_GT(plainly_wrong, 0);
}

TEST(EmulatedCuda, SumsOfManyTermsAndManyTilesFindTheTrueNearest) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& rows : {random_rows(1100, 12, 8, type), random_rows(30, 1300, 9, type)}) {
      const Found found = Engine(plan_of({rows}), std::make_shared<EmulatedLauncher>(type, 3)).find({});
      const auto expected = reference::nearest(reference::rows_of(rows));
      for (int64_t r = 0; r < rows.size(0); ++r) {
        EXPECT_EQ(found.nearest[r].item<int64_t>(), static_cast<int64_t>(expected.index[static_cast<size_t>(r)])) << r;
      }
    }
  }
}

// To the first row the cosines are 0.5 and 1e-6 more each: the three products of halves tell them apart.
TEST(EmulatedCuda, TheSearchIsAsGoodAsFloat32) {
  constexpr int64_t others = 40, dimension = 500;
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    const at::Tensor frame =
        std::get<0>(at::linalg_qr(random_rows(dimension, others + 1, seed, at::kDouble))).t().contiguous();
    at::Tensor rows = frame.clone();
    for (int64_t j = 1; j <= others; ++j) {
      const double cosine = 0.5 + 1e-6 * static_cast<double>(j);
      rows[j] = frame[0] * cosine + frame[j] * std::sqrt(1 - cosine * cosine);
    }
    for (const bool tensor_cores : {true, false}) {
      const Plan plan = plan_of({rows.to(at::kFloat)});
      const auto launcher = launcher_for(plan);
      launcher->tensor_cores = tensor_cores;
      EXPECT_EQ(emulated(plan, launcher).found.nearest[0].item<int>(), others) << tensor_cores;
    }
  }
}

TEST(EmulatedCuda, GivenNeighboursAreTakenAsTheyAre) {
  const at::Tensor before = random_rows(50, 12, 1, at::kFloat);
  const at::Tensor nearest = emulated(plan_of({before})).found.nearest;
  const at::Tensor rows = before + 0.3 * random_rows(50, 12, 2, at::kFloat);
  rows[20].copy_(rows[21]);  // near, and still no search
  const Plan plan = plan_of({rows});
  ASSERT_FALSE(emulated(plan).found.nearest.equal(nearest));
  const Pass pass = emulated(plan, 1, nearest);
  EXPECT_EQ(pass.launches, 5);
  EXPECT_EQ(pass.exact_look_waits, 0);
  EXPECT_TRUE(pass.found.nearest.equal(nearest));
  const expectations::PlainMatrix plain(rows, false);
  double sum = 0;
  for (int64_t r = 0; r < 50; ++r) {
    const auto angle =
        static_cast<double>(plain.angle(static_cast<size_t>(r), static_cast<size_t>(nearest[r].item<int64_t>())));
    EXPECT_NEAR(pass.found.angles[r].item<double>(), angle, 1e-14);
    sum += angle;
  }
  EXPECT_NEAR(value_of(pass.found, 0), -sum / 50, 1e-13);
  // Stale neighbours that count no more, and none at all.
  rows[3].zero_();
  at::Tensor wild = nearest.clone();
  wild[7] = 3;
  wild[8] = 50;
  wild[9] = -1;
  const Found found = emulated(plan, 1, wild).found;
  for (const int64_t r : {3, 7, 8, 9}) {
    EXPECT_EQ(found.nearest[r].item<int64_t>(), r);
    EXPECT_EQ(found.angles[r].item<double>(), 0);
  }
}

TEST(EmulatedCuda, GroupsShareTheirLayerByTheirUsableRows) {
  at::Tensor groups = random_rows(24, 5, 4, at::kFloat).view({3, 8, 5});
  groups[1].narrow(0, 2, 6).zero_();  // two of eight
  groups[2].narrow(0, 1, 7).zero_();  // one: does not count
  Plan plan;
  plan.objective = expectations::minus_angle;
  for (int64_t g = 0; g < 3; ++g) plan.matrices.push_back({groups[g], 0});
  plan.matrices.push_back({groups[2], 1});  // a layer where nothing counts
  plan.matrices.push_back({random_rows(6, 5, 7, at::kFloat), 2});
  const Pass pass = emulated(plan);
  EXPECT_NEAR(
      value_of(pass.found, 0),
      0.8 * reference::minimal_angle_loss(groups[0]) + 0.2 * reference::minimal_angle_loss(groups[1].narrow(0, 0, 2)),
      1e-13);
  EXPECT_EQ(value_of(pass.found, 1), 0);
  EXPECT_NEAR(value_of(pass.found, 2), reference::minimal_angle_loss(plan.matrices[4].rows), 1e-13);
  for (const size_t m : {size_t{2}, size_t{3}}) EXPECT_EQ(pass.gradients[m].abs().sum().item<double>(), 0);
  const at::Tensor slopes = pass.found.slopes;
  EXPECT_NEAR(slopes[0].item<double>(), -1.0 / 10, 1e-15);
  EXPECT_NEAR(slopes[8].item<double>(), -1.0 / 10, 1e-15);
  EXPECT_EQ(slopes[10].item<double>(), 0);
  EXPECT_NEAR(slopes[32].item<double>(), -1.0 / 6, 1e-15);
}

TEST_P(EmulatedCudaOf, GradientsAreAddedTimesScaleAndFactors) {
  const Plan plan = plan_of({random_rows(20, 9, 3, GetParam()), random_rows(10, 9, 5, GetParam())});
  const Pass once = emulated(plan);  // factors 1 and 1.5
  std::vector<at::Tensor> start{random_rows(20, 9, 4, GetParam()), random_rows(10, 9, 6, GetParam())}, gradients;
  for (const at::Tensor& gradient : start) gradients.push_back(gradient.clone());
  const auto engine = emulated_engine(plan);
  const Found found =
      engine->find_and_add_gradient(gradients, at::tensor({-1.5, 3.0}, at::kDouble), 4, once.found.nearest);
  EXPECT_TRUE(found.angles.equal(once.found.angles));
  const double tolerance = GetParam() == at::kDouble ? 1e-13 : GetParam() == at::kFloat ? 1e-6 : 3e-2;
  for (size_t m = 0; m < 2; ++m) {
    const at::Tensor added = gradients[m].to(at::kDouble) - start[m].to(at::kDouble);
    const at::Tensor expected = once.gradients[m].to(at::kDouble) * (m == 0 ? -6.0 : 8.0);
    EXPECT_LT((added - expected).abs().max().item<double>(), tolerance);
  }
}

// Through autograd the values are the loss's and the backward has none to give.
TEST(EmulatedCuda, TheGradientNeedsNoValues) {
  const Plan plan = plan_of({random_rows(20, 9, 3, at::kFloat)});
  const Pass once = emulated(plan);
  Found without = once.found;
  without.values.reset();
  std::vector<at::Tensor> gradients = zeros_like(plan);
  emulated_engine(plan)->add_gradient(without, gradients, factors_of(plan), 1);
  EXPECT_TRUE(gradients[0].equal(once.gradients[0]));
  EXPECT_GT(gradients[0].abs().sum().item<double>(), 0);
}

TEST(EmulatedCuda, NotANumberMakesItsLayerNotANumber) {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    at::Tensor rows = random_rows(10, 4, 2, at::kFloat), other = random_rows(10, 4, 3, at::kFloat);
    rows[4][1] = bad;
    Plan plan = plan_of({rows, other});
    plan.matrices.push_back({other.clone(), 1});                      // a second group of the second layer
    plan.matrices.push_back({other.clone(), 2});                      // a layer
    plan.matrices.push_back({rows.narrow(0, 4, 1).contiguous(), 2});  // with a group of one such row
    plan.matrices.push_back({rows.narrow(0, 4, 1).contiguous(), 3});  // and one of nothing else
    const Pass pass = emulated(plan);
    EXPECT_TRUE(std::isnan(value_of(pass.found, 0)));
    EXPECT_FALSE(std::isnan(value_of(pass.found, 1)));
    EXPECT_TRUE(std::isnan(value_of(pass.found, 2)));
    EXPECT_TRUE(std::isnan(value_of(pass.found, 3)));
    EXPECT_TRUE(pass.gradients[0].isnan().any().item<bool>());
    EXPECT_FALSE(pass.gradients[1].isnan().any().item<bool>());
    EXPECT_TRUE(pass.gradients[3].isnan().all().item<bool>());
    EXPECT_FALSE(pass.gradients[5].isnan().any().item<bool>());
    EXPECT_EQ(pass.found.nearest[4].item<int64_t>(), 4);
    EXPECT_FALSE(pass.found.nearest.eq(4).slice(0, 0, 4).any().item<bool>());
  }
}

TEST(EmulatedCuda, EmptyMatricesCountForNothing) {
  const at::Tensor rows = random_rows(7, 4, 1, at::kFloat);
  const Plan plan = plan_of({at::empty({0, 4}), rows, at::empty({3, 0}), at::empty({0, 4})});
  const Pass pass = emulated(plan);
  EXPECT_NEAR(value_of(pass.found, 1), reference::minimal_angle_loss(rows), 1e-13);
  for (const int64_t layer : {0, 2, 3}) EXPECT_EQ(value_of(pass.found, layer), 0);
  const Pass nothing = emulated(plan_of({at::empty({0, 4})}));
  EXPECT_EQ(value_of(nothing.found, 0), 0);
}

TEST(EmulatedCuda, AHandfulOfLaunchesWhateverTheLayers) {
  std::vector<at::Tensor> few, many;
  for (uint64_t m = 0; m < 1000; ++m) {
    many.push_back(random_rows(2, 3, m, at::kFloat));
    if (m < 100) few.push_back(many.back());
  }
  EXPECT_EQ(emulated(plan_of(few)).launches, 6);
  const Plan plan = plan_of(many);
  const Pass pass = emulated(plan);
  EXPECT_EQ(pass.launches, 8);
  expect_keeps_the_contract(plan, pass.found, pass.gradients, factors_of(plan));
}

TEST(EmulatedCuda, WrongTensorsAreRefused) {
  const auto launcher = std::make_shared<EmulatedLauncher>(at::kFloat);
  const Plan plan = plan_of({random_rows(4, 3, 1, at::kFloat)});
  Engine engine(plan, launcher);
  const Found found = engine.find({});
  const at::Tensor factors = factors_of(plan);
  EXPECT_THROW(engine.find(at::zeros({5}, at::kInt)), c10::Error);
  EXPECT_THROW(engine.find(at::zeros({4}, at::kLong)), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {}, factors, 1), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {at::zeros({4, 2})}, factors, 1), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {at::zeros({4, 3}, at::kDouble)}, factors, 1), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {at::zeros({4, 3})}, {}, 1), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {at::zeros({4, 3})}, at::ones({2}, at::kDouble), 1), c10::Error);
  EXPECT_THROW(engine.add_gradient(found, {at::zeros({4, 3})}, at::ones({1}), 1), c10::Error);
  EXPECT_THROW(Engine({}, launcher), c10::Error);
  EXPECT_THROW(Engine(plan_of({at::zeros({3, 4}).t()}), launcher), c10::Error);
  Plan gap = plan;
  gap.matrices.push_back({at::zeros({4, 3}), 2});
  EXPECT_THROW(Engine(gap, launcher), c10::Error);
  EXPECT_FALSE(Engine::available(at::kCPU, at::kFloat));
  EXPECT_THROW(Engine{plan}, c10::Error);
}

}  // namespace
