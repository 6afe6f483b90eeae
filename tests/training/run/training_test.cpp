// A network's training step in each precision, memory order and way of running: what stays the same, what may differ.
#include "training/run/training.hpp"

#include <ATen/Context.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "support/process/error.hpp"
#include "tiny_training.hpp"
#include "training/models/networks.hpp"
#include "training/run/precision.hpp"
#include "training/settings/capturable.hpp"

namespace mma::examples {
namespace {

using tests::tiny_dataset;
using tests::tiny_settings;

constexpr int64_t steps_per_epoch = 3;

/// Networks by name; the data are made here.
const Trainer& trainer() {
  static const Trainer trainer = {"a test", nullptr, [](const Settings& settings, ImageShape image, int64_t classes) {
                                    return make_model(settings.model, image, classes, settings.dropout);
                                  }};
  return trainer;
}

/// Trains from one step to before another, counted over all epochs; the cross-entropy of each epoch's steps.
std::vector<double> train(Training& training, int64_t from, int64_t to) {
  std::vector<double> losses;
  for (int64_t step = from; step < to; ++step) {
    training.step(step / steps_per_epoch, step % steps_per_epoch);
    if ((step + 1) % steps_per_epoch != 0) continue;
    losses.push_back(training.sums().cross_entropy);
    training.set_sums({});
  }
  return losses;
}

Training trained(const Settings& settings, int64_t steps) {
  Training training(settings, prepared(tiny_dataset(), settings), trainer());
  train(training, 0, steps);
  return training;
}

void expect_same_bits(const Training& one, const Training& other) {
  const NamedTensors first = one.state(), second = other.state();
  ASSERT_EQ(first.size(), second.size());
  for (size_t k = 0; k < first.size(); ++k) {
    EXPECT_EQ(first[k].first, second[k].first);
    EXPECT_TRUE(at::equal(first[k].second, second[k].second)) << first[k].first;
  }
}

/// The cross-entropy of the first image batch, before the first update and after it.
std::pair<double, double> losses_around_an_update(Settings settings) {
  settings.learning_rate = 0.01;
  Training training(settings, prepared(tiny_dataset(), settings), trainer());
  training.step(0, 0);
  const double before = training.sums().cross_entropy / 8;
  training.set_sums({});
  training.step(0, 0);
  return {before, training.sums().cross_entropy / 8};
}

TEST(Determinism, TheSwitchesReachLibTorch) {
  const auto train_with = [](bool deterministic, bool benchmark) {
    Settings settings = tiny_settings();
    settings.deterministic = deterministic;
    settings.cudnn_benchmark = benchmark;
    Training training(settings, tiny_dataset(), trainer());
    const bool on = at::globalContext().deterministicAlgorithms();
    const std::vector<double> losses = train(training, 0, steps_per_epoch);
    EXPECT_EQ(on, deterministic);
    EXPECT_FALSE(at::globalContext().deterministicAlgorithmsWarnOnly());
    EXPECT_EQ(at::globalContext().benchmarkCuDNN(), benchmark);
    EXPECT_EQ(at::globalContext().deterministicCuDNN(), !benchmark);
    return losses;
  };
  const std::vector<double> plain = train_with(false, false);
  EXPECT_EQ(train_with(true, false), train_with(true, false));  // no operation of a step is refused on a CPU
  EXPECT_EQ(train_with(false, true), plain);                    // nothing of cuDNN runs there
  EXPECT_EQ(train_with(false, false), plain);                   // what one training asked for does not stay
}

TEST(Steps, ALastBatchOfOneImageJoinsTheOneBefore) {
  Settings settings = tiny_settings();
  for (const auto& [batch, sizes] : std::vector<std::pair<int64_t, std::vector<int64_t>>>{
           {8, {8, 8, 4}}, {19, {20}}, {20, {20}}, {10, {10, 10}}, {1, std::vector<int64_t>(20, 1)}}) {
    settings.batch = batch;
    const Training training(settings, tiny_dataset(), trainer());
    ASSERT_EQ(training.steps_per_epoch(), std::ssize(sizes)) << batch;
    for (int64_t step = 0; step < std::ssize(sizes); ++step) {
      EXPECT_EQ(training.images_in_step(step), sizes[static_cast<size_t>(step)]) << batch;
    }
  }
}

/// Smoothed cross entropy is (1 - s) times the label's plus s times the mean over classes: a line in s.
TEST(LabelSmoothing, MixesTheLabelsLossWithThatOfAllClasses) {
  const auto loss_of_first_step = [](double smoothing) {
    Settings settings = tiny_settings();
    settings.label_smoothing = smoothing;
    Training training(settings, prepared(tiny_dataset(), settings), trainer());
    training.step(0, 0);
    return training.sums().cross_entropy;
  };
  const double none = loss_of_first_step(0), some = loss_of_first_step(0.3), more = loss_of_first_step(0.6);
  EXPECT_GT(std::abs(some - none), 1e-3);
  EXPECT_NEAR(more - some, some - none, 1e-4);
}

TEST(Precision, IsBfloat16WhereItWasAskedForAndNowhereElse) {
  const at::Tensor a = at::randn({8, 16}), b = at::randn({16, 8});
  const auto type = [&] { return at::matmul(a, b).scalar_type(); };
  {
    const PrecisionGuard guard("bf16", at::kCPU);
    EXPECT_EQ(type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(at::matmul(a, b), at::matmul(a.to(at::kBFloat16), b.to(at::kBFloat16))));
    {
      const PrecisionGuard inner("float32", at::kCPU);
      EXPECT_EQ(type(), at::kFloat);
    }
    EXPECT_EQ(type(), at::kBFloat16);
  }
  EXPECT_EQ(type(), at::kFloat);
}

TEST(Training, InBfloat16IsNearFloat32AndKeepsItsWeightsInFloat32) {
  Settings settings = tiny_settings();
  const auto [before, after] = losses_around_an_update(settings);
  settings.precision = "bf16";
  const auto [bf16_before, bf16_after] = losses_around_an_update(settings);
  EXPECT_GT(std::abs(bf16_before - before), 1e-6 * before);  // else it was not bfloat16, which has 8 bits
  EXPECT_NEAR(bf16_before, before, 0.02 * before);
  EXPECT_NEAR(bf16_after, after, 0.05 * after);
  const Training training = trained(settings, 1);
  for (const auto& [name, tensor] : training.state()) {
    EXPECT_TRUE(!tensor.is_floating_point() || tensor.scalar_type() == at::kFloat) << name;
  }
}

TEST(Training, LearnsInBfloat16) {
  Settings settings = tiny_settings();
  settings.precision = "bf16";
  settings.learning_rate = 0.005;
  settings.milestones = {};
  Training training(settings, prepared(tiny_dataset(), settings), trainer());
  const std::vector<double> losses = train(training, 0, 12 * steps_per_epoch);
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

TEST(Training, EvaluatesInItsPrecision) {
  Settings settings = tiny_settings();
  const Dataset dataset = prepared(tiny_dataset(), settings);
  at::manual_seed(1);
  const auto model = make_network(settings, dataset, trainer());
  at::ScalarType type = at::kFloat;
  struct Recording : ImageClassifier {
    Recording(ImageClassifier& model, at::ScalarType& type) : model(model), type(type) {}
    at::Tensor forward(const at::Tensor& images) override {
      const at::Tensor logits = model.forward(images);
      type = logits.scalar_type();
      return logits;
    }
    ImageClassifier& model;
    at::ScalarType& type;
  } recording(*model, type);
  settings.precision = "bf16";
  EXPECT_EQ(evaluated(recording, settings, dataset, dataset.test)->images, 20);
  EXPECT_EQ(type, at::kBFloat16);
}

TEST(Training, TheOrderInMemoryDoesNotChangeTheNumbers) {
  Settings settings = tiny_settings();
  const auto [before, after] = losses_around_an_update(settings);
  settings.channels_last = false;
  const auto [contiguous_before, contiguous_after] = losses_around_an_update(settings);
  EXPECT_NEAR(contiguous_before, before, 1e-5 * before);
  EXPECT_NEAR(contiguous_after, after, 1e-3 * after);
}

TEST(Training, ACudaGraphRefusesARegularizerThatDrawsOnTheCpu) {
  Settings settings = tiny_settings();
  settings.cuda_graph = true;
  settings.regularizer = "mhe-s2-batch";
  try {
    const Training training(settings, prepared(tiny_dataset(), settings), trainer());
    FAIL() << "was accepted";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "--cuda-graph cannot hold --regularizer mhe-s2-batch, which draws random numbers on the CPU at each "
                 "step: leave one of them out");
  }
}

#define NEEDS_CUDA_GRAPHS()                                                                        \
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no NVIDIA GPU answers, so nothing is tested"; \
  if (!cuda_graphs_are_built_in()) GTEST_SKIP() << "built without CUDA's headers, so nothing is tested"

Settings in_a_graph(Settings settings) {
  settings.cuda_graph = true;
  return settings;
}

/// Over full and short batches, a change of the rate, in both precisions and with a regularizer of each kind.
TEST(CudaTraining, ReplayedStepsGiveTheBitsOfOrdinaryOnes) {
  NEEDS_CUDA_GRAPHS();
  for (const char* precision : {"float32", "bf16"}) {
    for (const char* regularizer : {"none", "mma", "orthogonal"}) {
      SCOPED_TRACE(std::string(precision) + ", " + regularizer);
      Settings settings = tiny_settings("cuda");
      settings.precision = precision;
      settings.regularizer = regularizer;
      constexpr int64_t steps = 4 * steps_per_epoch;
      expect_same_bits(trained(settings, steps), trained(in_a_graph(settings), steps));
    }
  }
}

TEST(CudaTraining, ReplayedStepsAddUpTheLossesAndLearn) {
  NEEDS_CUDA_GRAPHS();
  Settings plain = tiny_settings("cuda");
  plain.learning_rate = 0.005;  // at which so few images are learnt, as on the CPU in LearnsInBfloat16
  plain.milestones = {};
  Training eager(plain, prepared(tiny_dataset(), plain), trainer());
  Training replayed(in_a_graph(plain), prepared(tiny_dataset(), plain), trainer());
  const std::vector<double> losses = train(replayed, 0, 12 * steps_per_epoch);
  EXPECT_EQ(losses, train(eager, 0, 12 * steps_per_epoch));
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

TEST(CudaTraining, AResumedGraphEndsWithTheSameBits) {
  NEEDS_CUDA_GRAPHS();
  const Settings settings = in_a_graph(tiny_settings("cuda"));
  constexpr int64_t steps = 4 * steps_per_epoch;
  const Training whole = trained(settings, steps);
  for (const int64_t cut : {2, 7}) {  // before the capture and after
    SCOPED_TRACE(cut);
    TensorFile file;
    file.tensors = trained(settings, cut).state();
    Training resumed(settings, prepared(tiny_dataset(), settings), trainer());
    resumed.load_state(file, "the state");
    train(resumed, cut, steps);
    expect_same_bits(whole, resumed);
  }
}

}  // namespace
}  // namespace mma::examples
