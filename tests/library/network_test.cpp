// A regularizer over many layers in one pass: that it is the sum of Eq 6 and its gradient for any mixture of shapes,
// types, memory formats and groups; refresh_every, share, scale and start().
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <mma/mma.hpp>

#include <cmath>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "reference.hpp"

namespace {

at::Tensor random(at::IntArrayRef sizes, uint64_t seed, at::ScalarType type = at::kFloat) {
  return at::randn(sizes, at::detail::createCPUGenerator(seed), at::TensorOptions(at::kDouble)).to(type);
}

at::Tensor leaf(const at::Tensor& value) { return value.clone(at::MemoryFormat::Preserve).requires_grad_(); }

/// What Eq 13 and its gradient are for a layer of `groups` groups.
struct Expected {
  double loss = 0;
  at::Tensor gradient;  ///< float64, as the weight is
};

Expected expected(const at::Tensor& weight, double coefficient, int64_t groups = 1) {
  const at::Tensor rows = weight.detach().to(at::kDouble).contiguous().view({groups, weight.size(0) / groups, -1});
  Expected result{0, at::empty_like(rows)};
  for (int64_t g = 0; g < groups; ++g) {
    const double factor = coefficient / static_cast<double>(groups);
    result.loss += factor * reference::minimal_angle_loss(rows[g]);
    result.gradient[g].copy_(factor * reference::minimal_angle_gradient(rows[g]));
  }
  result.gradient = result.gradient.view(weight.sizes());
  return result;
}

void expect_close(const at::Tensor& actual, const at::Tensor& wanted, double tolerance, const std::string& what) {
  ASSERT_EQ(actual.sizes(), wanted.sizes()) << what;
  const double error = (actual.to(at::kDouble) - wanted).norm().item<double>();
  EXPECT_LE(error, tolerance * (wanted.norm().item<double>() + 1e-12)) << what;
}

struct Member {
  std::string name;
  at::Tensor weight;
  mma::WeightLayout layout;
  double coefficient;
};

/// Every awkward number of rows, dimensions below, at and above it, in every type and format.
std::vector<Member> awkward_members() {
  std::vector<Member> members;
  uint64_t seed = 0;
  for (const int64_t rows : {2, 3, 7, 33, 101, 257}) {
    for (const int64_t dimension : {rows / 2 + 2, rows, rows + 5}) {
      const auto type = seed % 3 == 0 ? at::kDouble : at::kFloat;
      const std::string name = std::to_string(seed) + ": " + std::to_string(rows) + "x" + std::to_string(dimension);
      members.push_back({name, leaf(random({rows, dimension}, ++seed, type)), {}, 0.5 + 0.1 * double(seed)});
    }
  }
  const auto channels_last = at::MemoryFormat::ChannelsLast;
  members.push_back({"conv", leaf(random({12, 5, 3, 3}, 50)), {}, 2});
  members.push_back({"channels_last", leaf(random({12, 5, 3, 3}, 51).contiguous(channels_last)), {}, 2});
  members.push_back({"grouped", leaf(random({12, 5, 3, 3}, 52)), {.groups = 3}, 2});
  members.push_back({"grouped_last", leaf(random({12, 5, 3, 3}, 53).contiguous(channels_last)), {.groups = 3}, 2});
  members.push_back({"strided", leaf(random({40, 9}, 54).t()), {}, 3});
  return members;
}

mma::Regularizer<> regularizer_of(const std::vector<Member>& members, mma::Options options = {}) {
  for (const Member& member : members) options.coefficient(member.name, member.coefficient);
  mma::Regularizer<> result(options);
  for (const Member& member : members) result.add(member.name, member.weight, member.layout);
  return result;
}

TEST(Network, LossAndBothGradientsAreThePlainFormulas) {
  const std::vector<Member> members = awkward_members();
  mma::Regularizer<> regularizer = regularizer_of(members);
  double total = 0;
  for (const Member& member : members) total += expected(member.weight, member.coefficient, member.layout.groups).loss;
  const at::Tensor loss = regularizer.loss();
  EXPECT_NEAR(loss.item<double>(), total, 1e-5 * std::abs(total));
  loss.backward();
  std::vector<at::Tensor> gradients;
  for (const Member& member : members) {
    const at::Tensor& grad = member.weight.grad();
    ASSERT_TRUE(grad.defined()) << member.name;
    EXPECT_EQ(grad.strides(), member.weight.strides()) << member.name;
    const at::Tensor wanted = expected(member.weight, member.coefficient, member.layout.groups).gradient;
    expect_close(grad, wanted, member.weight.scalar_type() == at::kDouble ? 1e-12 : 1e-6, member.name);
    gradients.push_back(grad.clone());
    member.weight.mutable_grad() = at::Tensor();
  }
  EXPECT_NEAR(regularizer.accumulate_gradient().item<double>(), total, 1e-5 * std::abs(total));
  for (size_t k = 0; k < members.size(); ++k) {
    expect_close(members[k].weight.grad(), gradients[k].to(at::kDouble), 1e-6, members[k].name);
  }
}

// Half precision has its own copy of the rows, a transposed weight too; what is in .grad stays and is added to.
TEST(Network, AddsToWhatIsInGradWhateverItsFormat) {
  std::vector<Member> members;
  members.push_back({"half", leaf(random({33, 20}, 1, at::kHalf)), {}, 1});
  members.push_back({"bfloat16", leaf(random({33, 40}, 2, at::kBFloat16)), {}, 1});
  members.push_back({"conv", leaf(random({7, 4, 3, 3}, 3).contiguous(at::MemoryFormat::ChannelsLast)), {}, 1});
  members.push_back({"plain", leaf(random({7, 4, 3, 3}, 4)), {}, 1});
  mma::Regularizer<> regularizer = regularizer_of(members);
  for (const Member& member : members)
    member.weight.mutable_grad() = at::ones(member.weight.sizes(), member.weight.options().requires_grad(false));
  for (int64_t step = 1; step <= 2; ++step) {
    regularizer.accumulate_gradient(0.5);
    for (const Member& member : members) {
      const at::Tensor wanted = 1 + double(step) * 0.5 * expected(member.weight, 1).gradient;
      const auto type = member.weight.scalar_type();
      expect_close(member.weight.grad(), wanted,
                   type == at::kFloat  ? 1e-6
                   : type == at::kHalf ? 1e-3
                                       : 1e-2,
                   member.name);
    }
  }
}

TEST(Network, ATransposedWeightsRowsAreItsOutputs) {
  const at::Tensor weight = leaf(random({6, 9, 2, 2}, 5));  // 9 outputs of a ConvTranspose
  mma::Regularizer<> regularizer(mma::Options().coefficient(1));
  regularizer.add("up", weight, {.transposed = true});
  const Expected wanted = expected(weight.detach().transpose(0, 1).contiguous(), 1);
  EXPECT_NEAR(regularizer.loss().item<double>(), wanted.loss, 1e-6);
  regularizer.accumulate_gradient();
  expect_close(weight.grad(), wanted.gradient.transpose(0, 1), 1e-6, "accumulated");
}

// Each of two losses has its own pairs, though the weights have changed before the first's backward: as with any
// autograd function, that is refused rather than computed from the wrong weights.
TEST(Network, TwoLossesBeforeTheirBackwards) {
  const at::Tensor weight = leaf(random({33, 20}, 6));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1));
  regularizer.add("w", weight);
  const at::Tensor first = regularizer.loss(), second = regularizer.loss();
  (first + 2 * second).backward();
  expect_close(weight.grad(), 3 * expected(weight, 1).gradient, 1e-6, "first + 2 second");
  const at::Tensor third = regularizer.loss();
  {
    const at::NoGradGuard no_grad;
    weight.add_(1);
  }
  EXPECT_THROW(third.backward(), c10::Error);
}

TEST(Network, TheGradientOfTheGradientIsThatOfFiniteDifferences) {
  const at::Tensor weight = leaf(random({9, 6}, 7, at::kDouble)), conv = leaf(random({5, 2, 3, 3}, 8, at::kDouble));
  mma::Regularizer<> regularizer(mma::Options().coefficient(0.7));
  regularizer.add("w", weight).add("conv", conv, {});
  const at::Tensor direction = random({9, 6}, 9, at::kDouble), other = random({5, 2, 3, 3}, 10, at::kDouble);
  const auto slope = [&](bool graph) {
    const auto gradients = torch::autograd::grad({regularizer.loss()}, {weight, conv}, {}, true, graph);
    return (gradients[0] * direction).sum() + (gradients[1] * other).sum();
  };
  const auto second = torch::autograd::grad({slope(true)}, {weight, conv});
  constexpr double h = 1e-6;
  for (const auto& [tensor, gradient] : {std::pair{weight, second[0]}, std::pair{conv, second[1]}}) {
    at::Tensor flat = tensor.detach().view({-1});
    for (const int64_t k : {int64_t{0}, int64_t{7}, flat.numel() - 1}) {
      flat[k] += h;
      const double above = slope(false).item<double>();
      flat[k] -= 2 * h;
      const double below = slope(false).item<double>();
      flat[k] += h;
      EXPECT_NEAR(gradient.reshape({-1})[k].item<double>(), (above - below) / (2 * h), 1e-6);
    }
  }
}

// A weight computed at each call, as weight normalisation does.
TEST(Network, AComputedWeightPassesItsGradientOn) {
  const at::Tensor direction = leaf(random({33, 12}, 11)), gain = leaf(random({33, 1}, 12).abs() + 0.5);
  mma::Regularizer<> regularizer(mma::Options().coefficient(1));
  regularizer.add("normed", [&] { return gain * direction; });
  for (int step = 0; step < 3; ++step) {
    direction.mutable_grad() = at::Tensor();
    regularizer.loss().backward();
    // The angles do not see the gain's size, so the gradient reaches the direction as if it were the weight.
    expect_close(direction.grad(), expected(direction, 1).gradient, 1e-5, "step " + std::to_string(step));
    EXPECT_LT(gain.grad().abs().max().item<double>(), 1e-5);
    const at::NoGradGuard no_grad;
    direction.add_(random({33, 12}, 20 + static_cast<uint64_t>(step)), 0.1);
  }
}

// --- refresh_every ---

/// Eq 6 and its gradient with pairs given.
Expected of_pairs(const at::Tensor& weight, const std::vector<size_t>& nearest) {
  const reference::Rows rows = reference::rows_of(weight);
  const auto n = static_cast<double>(rows.size());
  reference::Rows gradient(rows.size(), std::vector<reference::Real>(rows.front().size(), 0));
  Expected result;
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t j = nearest[i];
    result.loss -= double(std::acos(reference::cosine(reference::unit(rows[i]), reference::unit(rows[j])))) / n;
    reference::add_angle_gradient(rows[i], rows[j], -1 / n, gradient[i]);
    reference::add_angle_gradient(rows[j], rows[i], -1 / n, gradient[j]);
  }
  result.gradient = at::empty(weight.sizes(), at::kDouble);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t k = 0; k < gradient[i].size(); ++k) {
      result.gradient[int64_t(i)][int64_t(k)] = double(gradient[i][k]);
    }
  }
  return result;
}

TEST(RefreshEvery, KeepsThePairsAndNotTheirAngles) {
  const at::Tensor weight = leaf(random({33, 8}, 30));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1).refresh_every(3));
  regularizer.add("w", weight);
  std::vector<size_t> kept;
  for (int step = 0; step < 7; ++step) {
    const std::vector<size_t> nearest = reference::nearest(reference::rows_of(weight)).index;
    if (step % 3 == 0) {
      kept = nearest;
    } else {
      EXPECT_NE(kept, nearest) << "a test of nothing";
    }
    const Expected wanted = of_pairs(weight, kept);
    weight.mutable_grad() = at::Tensor();
    const double loss =
        step % 2 == 0 ? regularizer.loss().item<double>() : regularizer.accumulate_gradient().item<double>();
    EXPECT_NEAR(loss, wanted.loss, 1e-6) << step;
    if (step % 2 == 1) expect_close(weight.grad(), wanted.gradient, 1e-6, "step " + std::to_string(step));
    const at::NoGradGuard no_grad;
    weight.add_(random({33, 8}, 40 + static_cast<uint64_t>(step)), 0.3);
  }
}

TEST(RefreshEvery, ARowWhoseNeighbourHasGoneWaitsForTheNextSearch) {
  const at::Tensor weight = leaf(at::tensor({1., 0., .8, .6, -1., 0., 0., -1.}, at::kDouble).view({4, 2}));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1).refresh_every(2));
  regularizer.add("w", weight);
  regularizer.loss();
  {
    const at::NoGradGuard no_grad;
    weight[1].zero_();  // the first row's neighbour
  }
  EXPECT_NEAR(regularizer.accumulate_gradient().item<double>(), -(0 + M_PI / 2 + M_PI / 2) / 3, 1e-12);
  EXPECT_TRUE(weight.grad().isfinite().all().item<bool>());
  EXPECT_EQ(weight.grad()[1].abs().max().item<double>(), 0);
  EXPECT_NEAR(regularizer.loss().item<double>(), -M_PI / 2, 1e-12);  // searched again
}

TEST(RefreshEvery, AResumedRunGoesOnBitForBit) {
  const at::Tensor weight = leaf(random({33, 8}, 60)), copy = leaf(weight.detach());
  const auto options = mma::Options().coefficient(1).refresh_every(4);
  mma::Regularizer<> first(options), resumed(options);
  first.add("w", weight);
  resumed.add("w", copy);
  const auto step = [](mma::Regularizer<>& regularizer, const at::Tensor& w, uint64_t seed) {
    w.mutable_grad() = at::Tensor();
    regularizer.accumulate_gradient();
    const at::NoGradGuard no_grad;
    w.add_(w.grad(), -1).add_(random({33, 8}, seed), 0.3);
  };
  for (uint64_t k = 0; k < 6; ++k) step(first, weight, 70 + k);
  {
    const at::NoGradGuard no_grad;
    copy.copy_(weight);
  }
  resumed.load_state(first.state());
  for (uint64_t k = 6; k < 12; ++k) {
    step(first, weight, 70 + k);
    step(resumed, copy, 70 + k);
    EXPECT_TRUE(weight.equal(copy)) << k;
  }
}

// Neighbours of another network's checkpoint: searched anew.
TEST(RefreshEvery, NeighboursThatCannotBeAreNotTaken) {
  const at::Tensor weight = leaf(random({33, 8}, 61));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1).refresh_every(4));
  regularizer.add("w", weight);
  for (const at::Tensor& nearest :
       {at::full({33}, 33, at::kInt), at::full({33}, -1, at::kInt), at::zeros({5}, at::kInt)}) {
    regularizer.load_state({{"step", at::scalar_tensor(1, at::kLong)}, {"nearest.0", nearest}});
    EXPECT_NEAR(regularizer.loss().item<double>(), expected(weight, 1).loss, 1e-6);
  }
}

// A state from before the first search: what was found since is not kept.
TEST(RefreshEvery, AStateWithoutNeighboursSearchesAgain) {
  const at::Tensor weight = leaf(random({33, 8}, 64));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1).refresh_every(4));
  regularizer.add("w", weight);
  regularizer.loss();
  regularizer.load_state({{"step", at::scalar_tensor(1, at::kLong)}});
  const at::NoGradGuard no_grad;
  weight.add_(random({33, 8}, 65), 0.3);
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(weight, 1).loss, 1e-6);
}

TEST(RefreshEvery, WorksThroughAnyObjective) {
  const at::Tensor weight = leaf(random({33, 8}, 62));
  mma::Regularizer<mma::AnyObjective> regularizer(mma::Options().coefficient(1).refresh_every(2), mma::MinimalAngle{});
  regularizer.add("w", weight);
  const auto kept = reference::nearest(reference::rows_of(weight)).index;
  regularizer.loss();
  const at::NoGradGuard no_grad;
  weight.add_(random({33, 8}, 63), 0.3);
  EXPECT_NEAR(regularizer.loss().item<double>(), of_pairs(weight, kept).loss, 1e-6);
}

// --- parts ---

/// Counts the engines that are made while it lives.
class EngineCount {
 public:
  EngineCount() {
    mma::detail::nearest::engine_maker() = [this](mma::detail::nearest::Plan plan) {
      ++made;
      return mma::detail::nearest::make_engine_for_device(std::move(plan));
    };
  }
  ~EngineCount() { mma::detail::nearest::engine_maker() = {}; }
  EngineCount(const EngineCount&) = delete;

  int made = 0;
};

// A captured CUDA graph goes on with the tables of the engine that it was captured with.
TEST(Parts, StayWhateverIsAskedInBetween) {
  EngineCount engines;
  std::vector<Member> members = awkward_members();
  mma::Regularizer<> regularizer = regularizer_of(members);
  regularizer.loss();
  EXPECT_EQ(engines.made, 2);  // float32, float64
  regularizer.layer_losses();
  regularizer.report();
  const auto state = regularizer.state();
  regularizer.load_state(state);
  engines.made = 0;
  regularizer.loss();
  regularizer.accumulate_gradient();
  {
    const at::NoGradGuard no_grad;
    members[0].weight.add_(1);  // in place
  }
  regularizer.loss();
  EXPECT_EQ(engines.made, 0);
  members[0].weight.set_data(members[0].weight.detach().clone());  // memory of its own
  regularizer.loss();
  EXPECT_EQ(engines.made, 2);
}

// --- share ---

class Share : public testing::TestWithParam<int64_t> {};

TEST_P(Share, TheMeanOverTheProcessesIsTheWhole) {
  const int64_t world_size = GetParam();
  const std::vector<Member> members = awkward_members();
  const double whole = regularizer_of(members).accumulate_gradient().item<double>();
  std::vector<at::Tensor> gradients;
  for (const Member& member : members) {
    gradients.push_back(member.weight.grad().to(at::kDouble));
    member.weight.mutable_grad() = at::Tensor();
  }
  double sum = 0;
  std::vector<int> taken(members.size(), 0);
  for (int64_t rank = 0; rank < world_size; ++rank) {
    mma::Regularizer<> share = regularizer_of(members, mma::Options().share(rank, world_size));
    std::vector<at::Tensor> before;
    for (const Member& member : members)
      before.push_back(member.weight.grad().defined() ? member.weight.grad().clone() : at::Tensor());
    sum += share.accumulate_gradient().item<double>();
    for (size_t k = 0; k < members.size(); ++k) {
      const at::Tensor& grad = members[k].weight.grad();
      taken[k] += grad.defined() && (!before[k].defined() || !grad.equal(before[k])) ? 1 : 0;
    }
  }
  EXPECT_NEAR(sum / double(world_size), whole, 1e-5 * std::abs(whole));
  for (size_t k = 0; k < members.size(); ++k) {
    EXPECT_EQ(taken[k], 1) << members[k].name << " is one process's";
    expect_close(members[k].weight.grad() / double(world_size), gradients[k], 1e-6, members[k].name);
  }
}

INSTANTIATE_TEST_SUITE_P(Processes, Share, testing::Values(1, 2, 3, 7));

// An objective without a pass of its own is shared too.
TEST(Share, AnEnergyIsSharedToo) {
  const std::vector<at::Tensor> weights{leaf(random({20, 9}, 80)), leaf(random({20, 9}, 81)), leaf(random({7, 5}, 82))};
  const auto loss = [&](int64_t rank, int64_t world_size) {
    mma::Regularizer<mma::RieszFisher> regularizer(mma::Options().coefficient(1).share(rank, world_size));
    for (size_t k = 0; k < weights.size(); ++k) regularizer.add(std::to_string(k), weights[k]);
    return regularizer.loss().item<double>();
  };
  EXPECT_NEAR((loss(0, 2) + loss(1, 2)) / 2, loss(0, 1), 1e-6);
}

// The costliest layer alone weighs as much as all others: they go to the other process.
TEST(Share, IsBalancedByCost) {
  std::vector<at::Tensor> weights{leaf(random({64, 512}, 90))};
  for (uint64_t k = 1; k < 5; ++k) weights.push_back(leaf(random({32, 256}, 90 + k)));
  mma::Regularizer<> regularizer(mma::Options().share(0, 2));
  for (size_t k = 0; k < weights.size(); ++k) regularizer.add(std::to_string(k), weights[k]);
  regularizer.accumulate_gradient();
  EXPECT_TRUE(weights[0].grad().defined());
  for (size_t k = 1; k < 5; ++k) EXPECT_FALSE(weights[k].grad().defined()) << k;
}

TEST(Share, WrongNumbersAreSaid) {
  const auto message = [](const mma::Options& options) -> std::string {
    try {
      mma::Regularizer<> regularizer(options);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  EXPECT_EQ(message(mma::Options().share(2, 2)), "mma: share is (2, 2); expected a rank from 0 to world_size - 1.");
  EXPECT_EQ(message(mma::Options().share(-1, 2)), "mma: share is (-1, 2); expected a rank from 0 to world_size - 1.");
  EXPECT_EQ(message(mma::Options().refresh_every(0)), "mma: refresh_every is 0; expected 1 or more.");
}

// --- threads ---

// LibTorch's threads, though this program is compiled without OpenMP.
TEST(Threads, WorkGoesToAsManyAsLibTorchHas) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::set<size_t> numbers;
  mma::detail::on_threads(5, [&](size_t number) {
    EXPECT_FALSE(at::GradMode::is_enabled());
    const std::lock_guard guard(mutex);
    threads.insert(std::this_thread::get_id());
    numbers.insert(number);
  });
  EXPECT_EQ(threads.size(), 2u);
  EXPECT_EQ(numbers, (std::set<size_t>{0, 1}));
  at::set_num_threads(before);
}

TEST(Threads, TheirNumberChangesNoBit) {
  const int before = at::get_num_threads();
  std::vector<Member> members = awkward_members();
  members.push_back({"large", leaf(random({700, 90}, 97)), {}, 1});
  mma::Regularizer<> regularizer = regularizer_of(members);
  std::vector<at::Tensor> expected;
  for (const int threads : {1, 2, 3, 7}) {
    at::set_num_threads(threads);
    std::vector<at::Tensor> results{regularizer.accumulate_gradient()};
    for (const Member& member : members) {
      results.push_back(member.weight.grad());
      member.weight.mutable_grad() = at::Tensor();
    }
    if (threads == 1) expected = results;
    for (size_t k = 0; k < results.size(); ++k) EXPECT_TRUE(results[k].equal(expected[k])) << threads << ", " << k;
  }
  at::set_num_threads(before);
}

TEST(Threads, WhatIsThrownThereArrivesHere) {
  EXPECT_THROW(mma::detail::for_each_range(10, 1, [](int64_t, int64_t) { throw std::runtime_error("no"); }),
               std::runtime_error);
}

// --- start() ---

// Where there is no GPU nothing is begun, and the weights may change until the call.
TEST(Start, OnACpuTheCallItselfSearches) {
  const at::Tensor weight = leaf(random({33, 8}, 95));
  mma::Regularizer<> regularizer(mma::Options().coefficient(1).concurrent(true));
  regularizer.add("w", weight);
  regularizer.start();
  {
    const at::NoGradGuard no_grad;
    weight.add_(random({33, 8}, 96));
  }
  EXPECT_NEAR(regularizer.loss().item<double>(), expected(weight, 1).loss, 1e-6);
}

}  // namespace
