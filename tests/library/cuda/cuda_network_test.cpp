// The pass over a network with its CUDA kernels run by an emulator: against the plain formulas, against the library on
// the CPU for the special cases, and against itself in another order.
#include <gtest/gtest.h>
#include <mma/detail/cuda_network.hpp>
#include <mma/mma.hpp>

#include <algorithm>
#include <vector>

#include "emulated_launcher.hpp"
#include "pass_expectations.hpp"

namespace {

using expectations::awkward_matrices;
using expectations::expect_equals_the_cpu;
using expectations::objectives;
using expectations::plan_of;
using expectations::random_rows;
using expectations::special_matrices;
using expectations::types;
using mma::SearchPrecision;
using mma::detail::CudaNetwork;
using mma::detail::FoundPairs;
using mma::detail::PairFunction;
using mma::detail::PairPlan;

constexpr SearchPrecision precisions[] = {SearchPrecision::Float32, SearchPrecision::TF32, SearchPrecision::BFloat16};

struct Pass {
  FoundPairs found;
  std::vector<at::Tensor> gradients;
  int launches = 0;
};

std::vector<at::Tensor> zeros_like(const PairPlan& plan) {
  std::vector<at::Tensor> result;
  for (const auto& matrix : plan.matrices) result.push_back(at::zeros_like(matrix.rows));
  return result;
}

Pass emulated(const PairPlan& plan, SearchPrecision precision = SearchPrecision::Float32, unsigned seed = 1,
              const at::Tensor& nearest = {}) {
  const auto launcher = std::make_shared<EmulatedLauncher>(plan.matrices.front().rows.scalar_type(), precision, seed);
  CudaNetwork network(plan, precision, launcher);
  Pass pass{network.find(nearest), zeros_like(plan), 0};
  network.add_gradient(pass.found, pass.gradients, {}, 1);
  pass.launches = launcher->launches;
  return pass;
}

void expect_same_bits(const Pass& a, const Pass& b) {
  EXPECT_TRUE(a.found.value.equal(b.found.value));
  EXPECT_TRUE(a.found.norms.equal(b.found.norms));
  EXPECT_TRUE(a.found.nearest.equal(b.found.nearest));
  EXPECT_TRUE(a.found.angles.equal(b.found.angles));
  EXPECT_TRUE(a.found.slopes.equal(b.found.slopes));
  for (size_t m = 0; m < a.gradients.size(); ++m) EXPECT_TRUE(a.gradients[m].equal(b.gradients[m])) << m;
}

/// A matrix of groups of rows that lie close together, so that a rounded product cannot tell which is nearest.
at::Tensor clustered(int64_t rows, int64_t dimension, at::ScalarType type) {
  const at::Tensor centres = random_rows(4, dimension, 5, at::kDouble);
  return (centres.repeat({(rows + 3) / 4, 1}).narrow(0, 0, rows) + random_rows(rows, dimension, 6, at::kDouble) * 0.02)
      .to(type);
}

TEST(EmulatedCuda, EqualsThePlainFormula) {
  for (const auto type : types) {
    const PairPlan plan = plan_of(awkward_matrices(type), {});
    const Pass pass = emulated(plan);
    const bool narrow = type == at::kHalf || type == at::kBFloat16;
    double value = 0;
    for (size_t m = 0; m < plan.matrices.size(); ++m) {
      const at::Tensor& rows = plan.matrices[m].rows;
      if (rows.size(0) < 2 || rows.size(1) < 2) continue;
      SCOPED_TRACE(m);
      const double coefficient = plan.coefficients[plan.matrices[m].layer];
      value += coefficient * reference::minimal_angle_loss(rows);
      const at::Tensor expected = reference::minimal_angle_gradient(rows) * coefficient;
      const double error = ((pass.gradients[m].to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
      EXPECT_LT(error, type == at::kDouble ? 1e-11 : narrow ? 5e-3 : 1e-6);
    }
    EXPECT_NEAR(pass.found.value.item<double>(), value, type == at::kDouble ? 1e-12 : 2e-6);
  }
}

TEST(EmulatedCuda, SpecialRowsAreAsOnTheCpu) {
  for (const auto& objective : objectives) {
    for (const auto type : types) {
      const PairPlan plan = plan_of(special_matrices(type), objective);
      const Pass pass = emulated(plan);
      expect_equals_the_cpu(plan, pass.found, pass.gradients);
    }
  }
}

TEST(EmulatedCuda, ProductsOnTensorCoresFindTheSameRows) {
  for (const auto type : types) {
    for (const auto& objective : {objectives[0], objectives[1]}) {
      std::vector<at::Tensor> matrices = special_matrices(type);
      matrices.push_back(clustered(90, 40, type));
      matrices.push_back(random_rows(70, 45, 3, type));  // no multiple of what a load takes
      const PairPlan plan = plan_of(std::move(matrices), objective);
      const Pass expected = emulated(plan);
      for (const auto precision : {SearchPrecision::TF32, SearchPrecision::BFloat16}) {
        expect_same_bits(emulated(plan, precision), expected);
      }
    }
  }
}

// The windows are for this: a plain winner of rounded products is another row for many of these.
TEST(EmulatedCuda, ClusteredRowsFindTheTrueNearest) {
  const at::Tensor rows = clustered(90, 600, at::kFloat);
  const auto expected = reference::nearest(reference::rows_of(rows));
  at::Tensor rounded = rows.to(at::kBFloat16).to(at::kDouble);
  rounded /= rows.to(at::kDouble).norm(2, {1}, true);
  at::Tensor cosines = rounded.mm(rounded.t());
  cosines.fill_diagonal_(-2);
  const at::Tensor plain = cosines.argmax(1);
  int64_t plainly_wrong = 0;
  for (const auto precision : precisions) {
    const Pass pass = emulated(plan_of({rows}, {}), precision);
    for (int64_t r = 0; r < rows.size(0); ++r) {
      EXPECT_EQ(pass.found.nearest[r].item<int64_t>(), static_cast<int64_t>(expected.index[static_cast<size_t>(r)]));
      plainly_wrong += plain[r].item<int64_t>() != static_cast<int64_t>(expected.index[static_cast<size_t>(r)]);
    }
  }
  EXPECT_GT(plainly_wrong, 0);
}

// More candidates than a list holds, and closer to each other than float32 can tell: the scan has to.
TEST(EmulatedCuda, ATightClusterFindsTheTrueNearest) {
  const at::Tensor rows = random_rows(1, 50, 3, at::kFloat) + 1e-4 * random_rows(60, 50, 4, at::kFloat);
  const auto expected = reference::nearest(reference::rows_of(rows));
  for (const auto precision : precisions) {
    const at::Tensor nearest = emulated(plan_of({rows}, {}), precision).found.nearest;
    for (int64_t r = 0; r < rows.size(0); ++r) {
      EXPECT_EQ(nearest[r].item<int64_t>(), static_cast<int64_t>(expected.index[static_cast<size_t>(r)])) << r;
    }
  }
}

TEST(EmulatedCuda, SumsOfManyTermsAndManyTilesFindTheTrueNearest) {
  for (const auto& rows : {random_rows(1100, 3, 8, at::kFloat), random_rows(30, 1300, 9, at::kFloat)}) {
    CudaNetwork network(plan_of({rows}, {}), SearchPrecision::Float32,
                        std::make_shared<EmulatedLauncher>(at::kFloat, SearchPrecision::Float32, 3));
    const FoundPairs found = network.find({});
    const auto expected = reference::nearest(reference::rows_of(rows));
    for (int64_t r = 0; r < rows.size(0); ++r) {
      EXPECT_EQ(found.nearest[r].item<int64_t>(), static_cast<int64_t>(expected.index[static_cast<size_t>(r)])) << r;
    }
  }
}

TEST(EmulatedCuda, TheOrderOfBlocksChangesNoBit) {
  for (const auto precision : precisions) {
    for (const auto type : {at::kFloat, at::kHalf}) {
      std::vector<at::Tensor> matrices = special_matrices(type);
      matrices.push_back(clustered(200, 20, type));
      const PairPlan plan = plan_of(std::move(matrices), {});
      expect_same_bits(emulated(plan, precision, 1), emulated(plan, precision, 2));
    }
  }
}

TEST(EmulatedCuda, GivenNeighboursAreTakenAsTheyAre) {
  const at::Tensor before = random_rows(50, 12, 1, at::kFloat);
  const at::Tensor nearest = emulated(plan_of({before}, {})).found.nearest;
  const at::Tensor rows = before + 0.3 * random_rows(50, 12, 2, at::kFloat);
  const PairPlan plan = plan_of({rows}, {});
  ASSERT_FALSE(emulated(plan).found.nearest.equal(nearest));
  const Pass pass = emulated(plan, SearchPrecision::Float32, 1, nearest);
  EXPECT_TRUE(pass.found.nearest.equal(nearest));
  const auto units = reference::units(reference::rows_of(rows));
  double sum = 0;
  for (int64_t r = 0; r < 50; ++r) {
    const auto& other = units[static_cast<size_t>(nearest[r].item<int64_t>())];
    const auto angle = static_cast<double>(reference::angle(units[static_cast<size_t>(r)], other));
    EXPECT_NEAR(pass.found.angles[r].item<double>(), angle, 1e-14);
    sum += angle;
  }
  EXPECT_NEAR(pass.found.value.item<double>(), -sum / 50, 1e-6);
  // Stale neighbours that count no more, and none at all.
  rows[3].zero_();
  at::Tensor wild = nearest.clone();
  wild[7] = 3;
  wild[8] = 50;
  wild[9] = -1;
  const FoundPairs found = emulated(plan, SearchPrecision::Float32, 1, wild).found;
  for (const int64_t r : {7, 8, 9}) EXPECT_EQ(found.nearest[r].item<int64_t>(), r);
}

TEST(EmulatedCuda, GroupsShareTheirLayerByTheirUsableRows) {
  at::Tensor groups = random_rows(24, 5, 4, at::kFloat).view({3, 8, 5});
  groups[1].narrow(0, 2, 6).zero_();  // two of eight
  groups[2].narrow(0, 1, 7).zero_();  // one: does not count
  PairPlan plan;
  for (int64_t g = 0; g < 3; ++g) plan.matrices.push_back({groups[g], 0});
  plan.matrices.push_back({random_rows(6, 5, 7, at::kFloat), 2});  // layer 1 has none
  plan.coefficients = {0.5, 9, 2};
  const Pass pass = emulated(plan);
  const double expected = 0.5 * (0.8 * reference::minimal_angle_loss(groups[0]) +
                                 0.2 * reference::minimal_angle_loss(groups[1].narrow(0, 0, 2))) +
                          2 * reference::minimal_angle_loss(plan.matrices[3].rows);
  EXPECT_NEAR(pass.found.value.item<double>(), expected, 1e-6);
  EXPECT_EQ(pass.gradients[2].abs().sum().item<double>(), 0);
  const at::Tensor slopes = pass.found.slopes;
  EXPECT_NEAR(slopes[0].item<double>(), -0.5 / 10, 1e-12);
  EXPECT_NEAR(slopes[8].item<double>(), -0.5 / 10, 1e-12);
  EXPECT_EQ(slopes[10].item<double>(), 0);
}

TEST(EmulatedCuda, GradientsAreAddedTimesScaleAndFactor) {
  const at::Tensor rows = random_rows(20, 9, 3, at::kFloat);
  const PairPlan plan = plan_of({rows}, {});
  const Pass once = emulated(plan);
  const at::Tensor start = random_rows(20, 9, 4, at::kFloat);
  CudaNetwork network(plan, SearchPrecision::Float32,
                      std::make_shared<EmulatedLauncher>(at::kFloat, SearchPrecision::Float32, 1));
  const FoundPairs found = network.find({});
  for (const auto type : types) {
    std::vector<at::Tensor> gradients{start.clone()};
    network.add_gradient(found, gradients, at::scalar_tensor(-1.5, type), 4);
    EXPECT_LT((gradients[0] - start + 6 * once.gradients[0]).abs().max().item<double>(), 1e-6);
  }
}

TEST(EmulatedCuda, NotANumberMakesItsLayerNotANumber) {
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    at::Tensor rows = random_rows(10, 4, 2, at::kFloat), other = random_rows(10, 4, 3, at::kFloat);
    rows[4][1] = bad;
    const Pass pass = emulated(plan_of({rows, other}, {}));
    EXPECT_TRUE(std::isnan(pass.found.value.item<double>()));
    EXPECT_TRUE(pass.gradients[0].isnan().any().item<bool>());
    EXPECT_FALSE(pass.gradients[1].isnan().any().item<bool>());
    EXPECT_EQ(pass.found.nearest[4].item<int64_t>(), 4);
    EXPECT_FALSE(pass.found.nearest.eq(4).slice(0, 0, 4).any().item<bool>());
  }
}

TEST(EmulatedCuda, AHandfulOfLaunchesWhateverTheLayers) {
  std::vector<at::Tensor> few, many;
  for (uint64_t m = 0; m < 1000; ++m) {
    many.push_back(random_rows(2, 3, m, at::kFloat));
    if (m < 100) few.push_back(many.back());
  }
  EXPECT_EQ(emulated(plan_of(few, {})).launches, 6);
  const PairPlan plan = plan_of(many, {});
  const Pass pass = emulated(plan);
  EXPECT_EQ(pass.launches, 8);
  expect_equals_the_cpu(plan, pass.found, pass.gradients);
}

TEST(EmulatedCuda, WrongTensorsAreRefused) {
  const auto launcher = std::make_shared<EmulatedLauncher>(at::kFloat, SearchPrecision::Float32, 1);
  const PairPlan plan = plan_of({random_rows(4, 3, 1, at::kFloat)}, {});
  CudaNetwork network(plan, SearchPrecision::Float32, launcher);
  const FoundPairs found = network.find({});
  EXPECT_THROW(network.find(at::zeros({5}, at::kInt)), c10::Error);
  EXPECT_THROW(network.add_gradient(found, {at::zeros({4, 2})}, {}, 1), c10::Error);
  EXPECT_THROW(network.add_gradient(found, {at::zeros({4, 3}, at::kDouble)}, {}, 1), c10::Error);
  EXPECT_THROW(CudaNetwork({}, SearchPrecision::Float32, launcher), c10::Error);
  EXPECT_FALSE(CudaNetwork::available(at::kCPU, at::kFloat));
  EXPECT_THROW(CudaNetwork(plan, SearchPrecision::Float32), c10::Error);
}

}  // namespace
