// The scale of a loss in float16: torch.amp.GradScaler's rules, its place in a training step, and its way through a
// checkpoint.
#include "training/run/gradient_scaler.hpp"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <limits>

#include "tiny_training.hpp"
#include "training/models/networks.hpp"
#include "training/models/weights.hpp"
#include "training/run/training.hpp"

namespace mma::examples {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

void give(GradientScaler& scaler, float gradient) {
  scaler.unscale({at::full({2}, gradient)});
  scaler.update();
}

TEST(GradientScaler, BeginsAsTorchs) {
  const GradientScaler scaler(at::kCPU);
  EXPECT_EQ(scaler.scale(), 65536);
  EXPECT_EQ(scaler.skipped_steps(), 0);
}

TEST(GradientScaler, UnscalesWhatItScaled) {
  GradientScaler scaler(at::kCPU);
  EXPECT_EQ(scaler.scaled(at::full({}, 3.0F)).item<float>(), 3.0F * 65536);
  const at::Tensor gradient = at::full({4}, 3.0F * 65536);
  scaler.unscale({gradient});
  EXPECT_TRUE(at::equal(gradient, at::full({4}, 3.0F)));
  EXPECT_EQ(scaler.found_inf().item<float>(), 0);
}

TEST(GradientScaler, HalvesAfterWhatIsNotFiniteAndCountsIt) {
  GradientScaler scaler(at::kCPU);
  give(scaler, infinity);
  EXPECT_EQ(scaler.scale(), 32768);
  give(scaler, std::nanf(""));
  EXPECT_EQ(scaler.scale(), 16384);
  give(scaler, 1);
  EXPECT_EQ(scaler.scale(), 16384);
  EXPECT_EQ(scaler.skipped_steps(), 2);
  EXPECT_EQ(scaler.found_inf().item<float>(), 0);
}

TEST(GradientScaler, DoublesAfter2000StepsWithoutOne) {
  GradientScaler scaler(at::kCPU);
  for (int step = 0; step < 1999; ++step) give(scaler, 1);
  EXPECT_EQ(scaler.scale(), 65536);
  give(scaler, infinity);  // begins to count anew
  for (int step = 0; step < 1999; ++step) give(scaler, 1);
  EXPECT_EQ(scaler.scale(), 32768);
  give(scaler, 1);
  EXPECT_EQ(scaler.scale(), 65536);
}

const Trainer& fp16_trainer() {
  static const Trainer trainer = {"a test", nullptr, [](const Settings& settings, ImageShape image, int64_t classes) {
                                    return make_model(settings.model, image, classes, settings.dropout);
                                  }};
  return trainer;
}

Settings fp16_settings() {
  Settings settings = tests::tiny_settings();
  settings.precision = "fp16";
  return settings;
}

Training fp16_training(const Settings& settings) {
  return Training(settings, prepared(tests::tiny_dataset(), settings), fp16_trainer());
}

TensorFile file_of(const Training& training) {
  TensorFile file;
  file.tensors = training.state();
  for (auto& [name, tensor] : file.tensors) tensor = tensor.clone();
  return file;
}

at::Tensor& tensor_of(TensorFile& file, const std::string& name) {
  for (auto& [each, tensor] : file.tensors) {
    if (each == name) return tensor;
  }
  throw std::out_of_range(name);
}

/// The same first step with another scale, a power of two that overflows nowhere: what was scaled was unscaled once,
/// the regularizer's gradient with the rest, which a coefficient of 10 makes the larger part.
TEST(Fp16, TheScaleLeavesNoTraceInAStep) {
  Settings settings = fp16_settings();
  settings.coefficient = 10;
  const auto momentum_with_scale = [&](float scale) {
    Training training = fp16_training(settings);
    TensorFile file = file_of(training);
    tensor_of(file, "scaler.scale").fill_(scale);
    training.load_state(file, "a test");
    training.step(0, 0);
    EXPECT_EQ(training.counts().skipped, 0);
    TensorFile after = file_of(training);
    return tensor_of(after, "optimizer.fc.weight");
  };
  const at::Tensor one = momentum_with_scale(1), many = momentum_with_scale(1024);
  const double size = one.abs().max().item<double>();
  EXPECT_LT((one - many).abs().max().item<double>(), 0.01 * size);
  // The regularizer alone, in float32.
  settings.precision = "float32";
  Training plain = fp16_training(settings);
  plain.step(0, 0);
  TensorFile after = file_of(plain);
  EXPECT_LT((one - tensor_of(after, "optimizer.fc.weight")).abs().max().item<double>(), 0.02 * size);
}

TEST(Fp16, AnOverflowLeavesTheStepOutAndHalvesTheScale) {
  Training training = fp16_training(fp16_settings());
  TensorFile file = file_of(training);
  constexpr float too_much = 0x1p127F;
  tensor_of(file, "scaler.scale").fill_(too_much);
  training.load_state(file, "a test");
  training.step(0, 0);
  TensorFile after = file_of(training);
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with("optimizer.") || name == "model.fc.weight" || name == "model.conv1.weight") {
      EXPECT_TRUE(at::equal(tensor, tensor_of(after, name))) << name;
    }
  }
  EXPECT_EQ(tensor_of(after, "scaler.scale").item<float>(), too_much / 2);
  EXPECT_EQ(training.counts().skipped, 1);
  EXPECT_TRUE(training.weights_are_finite());
}

TEST(Fp16, GoesOnFromItsStateWithTheSameBits) {
  const Settings settings = fp16_settings();
  Training whole = fp16_training(settings), first = fp16_training(settings), second = fp16_training(settings);
  const auto begin = [](Training& training) {
    TensorFile file = file_of(training);
    tensor_of(file, "scaler.scale").fill_(0x1p127F);  // one step is left out on the way
    tensor_of(file, "scaler.growth_tracker").fill_(1998);
    training.load_state(file, "a test");
  };
  begin(whole);
  begin(first);
  for (int64_t step = 0; step < 3; ++step) whole.step(0, step);
  first.step(0, 0);
  second.load_state(file_of(first), "a test");
  for (int64_t step = 1; step < 3; ++step) second.step(0, step);
  TensorFile expected = file_of(whole), got = file_of(second);
  ASSERT_EQ(expected.tensors.size(), got.tensors.size());
  for (const auto& [name, tensor] : expected.tensors) EXPECT_TRUE(at::equal(tensor, tensor_of(got, name))) << name;
}

}  // namespace
}  // namespace mma::examples
