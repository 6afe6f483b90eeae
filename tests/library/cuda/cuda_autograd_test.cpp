// The kernels, run by the emulator, behind everything that a user calls: losses and their backwards, functional forms,
// objectives that make their own rows, double backward, refresh_every. Each against the plain formulas or the CPU.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <mma/mma.hpp>

#include <cmath>
#include <vector>

#include "emulated_launcher.hpp"
#include "reference.hpp"

namespace {

/// While it lives, the engine of every matrix on this thread is the emulated GPU's.
class OnTheEmulator {
 public:
  OnTheEmulator() { mma::detail::nearest::engine_maker() = emulated_engine; }
  ~OnTheEmulator() { mma::detail::nearest::engine_maker() = {}; }
  OnTheEmulator(const OnTheEmulator&) = delete;
};

at::Tensor random(at::IntArrayRef sizes, uint64_t seed, at::ScalarType type = at::kFloat) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(sizes, generator, at::TensorOptions(at::kDouble)).to(type);
}

at::Tensor leaf(const at::Tensor& value) { return value.detach().clone(at::MemoryFormat::Preserve).requires_grad_(); }

double off(const at::Tensor& value, const at::Tensor& expected) {
  return ((value.to(at::kDouble) - expected.to(at::kDouble)).norm() / expected.to(at::kDouble).norm()).item<double>();
}

/// Layers of several shapes, types and formats.
std::vector<at::Tensor> weights() {
  return {leaf(random({33, 12}, 1)), leaf(random({7, 40}, 2, at::kDouble)), leaf(random({12, 5, 3, 3}, 3)),
          leaf(random({12, 5, 3, 3}, 4).contiguous(at::MemoryFormat::ChannelsLast)), leaf(random({70, 9}, 5).t())};
}

mma::Regularizer<> regularizer_of(const std::vector<at::Tensor>& of, const mma::Options& options) {
  mma::Regularizer<> result(options);
  for (size_t k = 0; k < of.size(); ++k) result.add(std::to_string(k), of[k]);
  return result;
}

TEST(EmulatedAutograd, ARegularizersBackwardIsThePlainFormulas) {
  const OnTheEmulator emulator;
  const std::vector<at::Tensor> own = weights();
  mma::Regularizer<> regularizer = regularizer_of(own, mma::Options().coefficient(0.5));
  double expected = 0;
  for (const at::Tensor& weight : own) expected += 0.5 * reference::minimal_angle_loss(weight.flatten(1));
  for (int round = 1; round <= 2; ++round) {  // makes .grad, then adds to it
    const at::Tensor loss = regularizer.loss();
    EXPECT_NEAR(loss.item<double>(), expected, 1e-5);
    loss.backward();
    EXPECT_NEAR(regularizer.accumulate_gradient().item<double>(), expected, 1e-5);
    for (const at::Tensor& weight : own) {
      const at::Tensor gradient = reference::minimal_angle_gradient(weight.flatten(1)) * round;
      EXPECT_LT(off(weight.grad().flatten(1), gradient), 1e-5);
    }
  }
}

TEST(EmulatedAutograd, FunctionalFormsOfMatricesAndBatches) {
  const OnTheEmulator emulator;
  const at::Tensor matrix = leaf(random({33, 20}, 6)), batch = leaf(random({3, 17, 8}, 7)),
                   half = leaf(random({9, 20}, 8, at::kHalf));
  const at::Tensor loss = mma::minimal_angle_loss(matrix);
  EXPECT_NEAR(loss.item<double>(), reference::minimal_angle_loss(matrix), 1e-6);
  loss.backward();
  EXPECT_LT(off(matrix.grad(), reference::minimal_angle_gradient(matrix)), 1e-5);
  const at::Tensor factors = at::tensor({1.0f, -2.0f, 0.5f});
  (mma::minimal_angle_loss(batch) * factors).sum().backward();
  for (int64_t b = 0; b < 3; ++b) {
    EXPECT_LT(off(batch.grad()[b], reference::minimal_angle_gradient(batch[b]) * factors[b].item<double>()), 1e-5);
  }
  mma::minimal_angle_loss(half).backward();
  EXPECT_EQ(half.grad().scalar_type(), at::kHalf);
  EXPECT_LT(off(half.grad(), reference::minimal_angle_gradient(half)), 5e-3);
  EXPECT_EQ(mma::mutual_coherence_loss(matrix.detach()).scalar_type(), at::kFloat);
}

/// Value and gradient of a regularizer with this objective, here and on the CPU.
template <typename Objective>
void expect_as_on_the_cpu(const Objective& objective) {
  const auto value_and_gradient = [&](bool accumulate) {
    const at::Tensor weight = leaf(random({40, 15}, 9));
    mma::Regularizer<Objective> regularizer(mma::Options().coefficient(2), objective);
    regularizer.add("weight", weight);
    at::Tensor value = accumulate ? regularizer.accumulate_gradient() : regularizer.loss();
    if (!accumulate) value.backward();
    return std::pair{value.item<double>(), weight.grad()};
  };
  for (const bool accumulate : {false, true}) {
    const auto expected = value_and_gradient(accumulate);
    const OnTheEmulator emulator;
    const auto emulated = value_and_gradient(accumulate);
    EXPECT_NEAR(emulated.first, expected.first, 1e-5);
    EXPECT_LT(off(emulated.second, expected.second), 1e-5);
  }
}

TEST(EmulatedAutograd, ObjectivesThatMakeTheirOwnRows) {
  expect_as_on_the_cpu(mma::Sampled<>{.share = 0.5});
  expect_as_on_the_cpu(mma::Centred<>{});
  expect_as_on_the_cpu(mma::Centred<mma::Sampled<mma::MaximalCosine>>{});
  expect_as_on_the_cpu(mma::MinimalAngle{.half_space = true});
  expect_as_on_the_cpu(mma::MaximalCosine{.closest_only = true});
  expect_as_on_the_cpu(mma::AnyObjective(mma::MutualCoherence{}));
}

/// A user's own objective that calls ours.
struct Twice {
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    return mma::MinimalAngle{}(rows, usable) + mma::MinimalAngle{.half_space = true}(rows, usable);
  }
};

TEST(EmulatedAutograd, AUsersObjectiveThatCallsOurs) { expect_as_on_the_cpu(Twice{}); }

TEST(EmulatedAutograd, DoubleBackwardByFiniteDifferences) {
  const OnTheEmulator emulator;
  const at::Tensor weight = leaf(random({9, 6}, 10, at::kDouble)), direction = random({9, 6}, 11, at::kDouble);
  const auto gradient_at = [&](const at::Tensor& at, bool graph) {
    return torch::autograd::grad({mma::minimal_angle_loss(at)}, {at}, {}, graph, graph).front();
  };
  const at::Tensor second = torch::autograd::grad({(gradient_at(weight, true) * direction).sum()}, {weight}).front();
  constexpr double h = 1e-6;
  const at::Tensor difference =
      (gradient_at(leaf(weight + h * direction), false) - gradient_at(leaf(weight - h * direction), false)) / (2 * h);
  EXPECT_LT(off(second, difference), 1e-6);
}

TEST(EmulatedAutograd, PairsAreKeptByRefreshEvery) {
  const auto run = [] {
    const std::vector<at::Tensor> own = weights();
    mma::Regularizer<> regularizer = regularizer_of(own, mma::Options().coefficient(1).refresh_every(3));
    std::vector<double> losses;
    for (uint64_t step = 0; step < 5; ++step) {
      const at::Tensor loss = regularizer.loss();
      losses.push_back(loss.item<double>());
      loss.backward();
      const at::NoGradGuard no_grad;
      for (const at::Tensor& weight : own) weight.add_(random(weight.sizes(), 20 + step, weight.scalar_type()), 0.3);
    }
    return losses;
  };
  const std::vector<double> expected = run();
  const OnTheEmulator emulator;
  const std::vector<double> emulated = run();
  for (size_t step = 0; step < expected.size(); ++step) EXPECT_NEAR(emulated[step], expected[step], 1e-5) << step;
}

TEST(EmulatedAutograd, NanReachesTheLoss) {
  const OnTheEmulator emulator;
  at::Tensor rows = random({7, 5}, 12);
  rows[2][3] = std::nan("");
  EXPECT_TRUE(std::isnan(mma::minimal_angle_loss(rows).item<double>()));
}

}  // namespace
