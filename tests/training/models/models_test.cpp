// The networks against their published structure, and against an independent PyTorch implementation
// (reference_models.py, whose printed numbers stand below).
#include "training/models/networks.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "../../formula_weights.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::fill;
using mma::tests::joint_norm;
using mma::tests::noise;

using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;

template <typename Dictionary>
Shapes shapes_of(const Dictionary& named) {
  Shapes result;
  for (const auto& item : named) {
    result.emplace_back(item.key(), item.value().sizes().vec());
  }
  return result;
}

/// Parameters and buffers of a network, in the order of registration.
struct Expected {
  Shapes parameters, buffers;

  void convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel) {
    parameters.push_back({name + ".weight", {out, in, kernel, kernel}});
  }
  void batch_norm(const std::string& name, int64_t width) {
    parameters.push_back({name + ".weight", {width}});
    parameters.push_back({name + ".bias", {width}});
    buffers.push_back({name + ".running_mean", {width}});
    buffers.push_back({name + ".running_var", {width}});
    buffers.push_back({name + ".num_batches_tracked", {}});
  }
  void linear(const std::string& name, int64_t in, int64_t out) {
    parameters.push_back({name + ".weight", {out, in}});
    parameters.push_back({name + ".bias", {out}});
  }
};

Expected expected_resnet(int depth, int64_t channels, int64_t classes) {
  Expected expected;
  expected.convolution("conv1", channels, 16, 3);
  expected.batch_norm("bn1", 16);
  int64_t in = 16;
  for (const int64_t width : {16, 32, 64}) {
    for (int i = 0; i < (depth - 2) / 6; ++i) {
      const std::string block = "layer" +
                                std::to_string(width == 16   ? 1
                                               : width == 32 ? 2
                                                             : 3) +
                                "." + std::to_string(i);
      expected.convolution(block + ".conv1", in, width, 3);
      expected.batch_norm(block + ".bn1", width);
      expected.convolution(block + ".conv2", width, width, 3);
      expected.batch_norm(block + ".bn2", width);
      if (in != width) {
        expected.convolution(block + ".downsample.0", in, width, 1);
        expected.batch_norm(block + ".downsample.1", width);
      }
      in = width;
    }
  }
  expected.linear("fc", 64, classes);
  return expected;
}

/// The pre-activation order: each block begins with its batch normalisation.
Expected expected_wide_resnet(int depth, int64_t widening, int64_t channels, int64_t classes) {
  Expected expected;
  expected.convolution("conv1", channels, 16, 3);
  int64_t in = 16;
  for (const int stage : {1, 2, 3}) {
    const int64_t width = widening * (int64_t{8} << stage);
    for (int i = 0; i < (depth - 4) / 6; ++i) {
      const std::string block = "block" + std::to_string(stage) + ".layer." + std::to_string(i);
      expected.batch_norm(block + ".bn1", in);
      expected.convolution(block + ".conv1", in, width, 3);
      expected.batch_norm(block + ".bn2", width);
      expected.convolution(block + ".conv2", width, width, 3);
      if (i == 0) expected.convolution(block + ".convShortcut", in, width, 1);
      in = width;
    }
  }
  expected.batch_norm("bn1", in);
  expected.linear("fc", in, classes);
  return expected;
}

Expected expected_densenet(int depth, int64_t growth, int64_t channels, int64_t classes) {
  Expected expected;
  expected.convolution("conv1", channels, 16, 3);
  int64_t width = 16;
  for (const int block : {1, 2, 3}) {
    for (int i = 0; i < (depth - 4) / 3; ++i) {
      const std::string layer = "dense" + std::to_string(block) + "." + std::to_string(i);
      expected.batch_norm(layer + ".bn1", width);
      expected.convolution(layer + ".conv1", width, growth, 3);
      width += growth;
    }
    if (block == 3) break;
    expected.batch_norm("trans" + std::to_string(block) + ".bn1", width);
    expected.convolution("trans" + std::to_string(block) + ".conv1", width, width, 1);
  }
  expected.batch_norm("bn", width);
  expected.linear("fc", width, classes);
  return expected;
}

/// The places of the convolutions in `features`, as in the zoos' state dicts, with their widths.
using Places = std::vector<std::pair<int, int64_t>>;
const Places vgg11_narrow_places = {{0, 64}, {4, 64}, {8, 128}, {11, 128}, {15, 128}, {18, 128}, {22, 128}, {25, 128}};
const Places vgg16_places = {{0, 64},   {3, 64},   {7, 128},  {10, 128}, {14, 256}, {17, 256}, {20, 256},
                             {24, 512}, {27, 512}, {30, 512}, {34, 512}, {37, 512}, {40, 512}};
const Places vgg19_places = {{0, 64},   {3, 64},   {7, 128},  {10, 128}, {14, 256}, {17, 256}, {20, 256}, {23, 256},
                             {27, 512}, {30, 512}, {33, 512}, {36, 512}, {40, 512}, {43, 512}, {46, 512}, {49, 512}};

Expected expected_vgg(const Places& places, int64_t channels, int64_t classes) {
  Expected expected;
  for (const auto& [place, width] : places) {
    const std::string name = "features." + std::to_string(place);
    expected.convolution(name, channels, width, 3);
    expected.parameters.push_back({name + ".bias", {width}});
    expected.batch_norm("features." + std::to_string(place + 1), width);
    channels = width;
  }
  expected.linear("classifier", channels, classes);
  return expected;
}

Expected expected_model(const std::string& name, int64_t channels, int64_t classes) {
  if (name == "resnet20") return expected_resnet(20, channels, classes);
  if (name == "resnet56") return expected_resnet(56, channels, classes);
  if (name == "wrn-16-8") return expected_wide_resnet(16, 8, channels, classes);
  if (name == "wrn-28-10") return expected_wide_resnet(28, 10, channels, classes);
  if (name == "densenet-40-12") return expected_densenet(40, 12, channels, classes);
  const Places& places = name == "vgg16-bn" ? vgg16_places : name == "vgg19-bn" ? vgg19_places : vgg11_narrow_places;
  return expected_vgg(places, channels, classes);
}

TEST(Models, AreThoseOfThePaperAndANarrowOne) {
  EXPECT_EQ(model_names(), (std::vector<std::string>{"resnet20", "resnet56", "vgg16-bn", "vgg19-bn", "wrn-16-8",
                                                     "wrn-28-10", "densenet-40-12", "vgg11-bn-narrow"}));
}

TEST(Models, HaveTheNamesAndShapesOfThePublicZoos) {
  for (const std::string& name : model_names()) {
    const auto model = make_model(name, {3, 32}, 100);
    const Expected expected = expected_model(name, 3, 100);
    EXPECT_EQ(shapes_of(model->named_parameters()), expected.parameters) << name;
    EXPECT_EQ(shapes_of(model->named_buffers()), expected.buffers) << name;
    const auto grey = make_model(name, {1, 28}, 10);
    EXPECT_EQ(shapes_of(grey->named_parameters()), expected_model(name, 1, 10).parameters) << name;
  }
}

TEST(Models, HaveThePublishedNumberOfParameters) {
  const std::vector<std::pair<std::string, int64_t>> published = {
      {"resnet20", 278'324},    {"resnet56", 861'620},     {"vgg16-bn", 14'774'436},     {"vgg19-bn", 20'086'692},
      {"wrn-16-8", 11'007'540}, {"wrn-28-10", 36'536'884}, {"densenet-40-12", 1'060'132}};
  for (const auto& [name, count] : published) {
    int64_t total = 0;
    for (const at::Tensor& parameter : make_model(name, {3, 32}, 100)->parameters()) {
      total += parameter.numel();
    }
    EXPECT_EQ(total, count) << name;
  }
}

TEST(Models, TakeImagesOfSeveralSizes) {
  const c10::NoGradGuard no_grad;
  for (const std::string& name : model_names()) {
    for (const ImageShape& image : {ImageShape{3, 32}, ImageShape{1, 28}, ImageShape{3, 64}, ImageShape{3, 16}}) {
      const auto model = make_model(name, image, 7);
      const at::Tensor logits = model->forward(at::zeros({2, image.channels, image.size, image.size}));
      EXPECT_EQ(logits.sizes(), (std::vector<int64_t>{2, 7})) << name << " at " << image.size;
    }
  }
}

TEST(Models, StartAsInTheWellKnownCifarTrainingCode) {
  for (const std::string& name : model_names()) {
    const auto model = make_model(name, {3, 32}, 100);
    for (const auto& item : model->named_parameters()) {
      const at::Tensor& value = item.value();
      const std::string where = name + " " + item.key();
      const double count = static_cast<double>(value.numel());
      if (value.dim() == 4) {
        const double deviation = std::sqrt(2.0 / static_cast<double>(value.size(0) * value.size(2) * value.size(3)));
        EXPECT_NEAR(value.std().item<double>() / deviation, 1, 5 / std::sqrt(2 * count)) << where;
        EXPECT_NEAR(value.mean().item<double>() / deviation, 0, 5 / std::sqrt(count)) << where;
        // A normal distribution passes twice its deviation in 4.55 % of the draws; a uniform one never does.
        const double beyond = (value.abs() > 2 * deviation).sum().item<double>() / count;
        EXPECT_NEAR(beyond, 0.0455, 5 * std::sqrt(0.0455 / count)) << where;
      } else if (item.key() == "classifier.weight") {
        EXPECT_NEAR(value.std().item<double>(), 0.01, 0.0002);
      } else if (item.key() == "fc.weight" || (item.key() == "fc.bias" && name.starts_with("resnet"))) {
        const double bound = 1 / std::sqrt(static_cast<double>(model->named_parameters()["fc.weight"].size(1)));
        EXPECT_LE(value.abs().max().item<double>(), bound) << where;
        EXPECT_GE(value.abs().max().item<double>(), 0.9 * bound) << where;
      } else {
        const bool is_batch_norm_weight = item.key().ends_with(".weight");
        EXPECT_TRUE((value == (is_batch_norm_weight ? 1 : 0)).all().item<bool>()) << where;
      }
    }
  }
}

struct Reference {
  const char* model;
  int64_t channels, size, classes;
  /// Two logits and the norm of all in evaluation; the loss of one training step, the norm of the first convolution's
  /// gradient and of all gradients together; the norm of all buffers after that step.
  std::vector<double> numbers;
};

const Reference references[] = {
    // clang-format off
    {"resnet20", 3, 32, 100, {25.8769692747, -13.058162651, 832.566747311, 9.50155663386, 0.541543522148, 22.6428931506, 35.2351223906}},
    {"resnet20", 1, 28, 10, {21.9638122718, -12.5120542735, 132.254597033, 4.71595400728, 0.315132997982, 14.9720526989, 35.3347198898}},
    {"resnet56", 3, 32, 100, {-58548.6475452, -7269.59992919, 1546777.24825, 28.7567587144, 0.793141933391, 68.0457109973, 78.6308210618}},
    {"vgg16-bn", 1, 28, 10, {0.690710673803, 2.73825446299, 14.3906100902, 2.81352876283, 10.8877163642, 287.280808104, 73.2572733526}},
    {"vgg19-bn", 3, 32, 100, {2.63195050937, 5.38257394751, 108.002828055, 7.16656988399, 3.89255372824, 90.0005478419, 84.9216612889}},
    {"vgg11-bn-narrow", 3, 32, 100, {3.90228795849, -1.18769793807, 135.718053431, 8.82531247327, 2.6022118999, 38.1192802628, 34.9849706673}},
    {"vgg19-bn", 3, 64, 10, {5.30304188934, 10.1191971607, 76.847384961, 4.13616459638, 2.76855204228, 50.6151513045, 85.2026037755}},
    {"resnet56", 3, 64, 200, {-72146.7588429, -29642.2830386, 3339208.01516, 37.5064972087, 0.566770702339, 68.0241509657, 73.8839830885}},
    {"vgg16-bn", 3, 64, 200, {12.1952193423, 0.0141710944098, 308.295149184, 8.97204473191, 2.97141162751, 56.6256680278, 74.7612281626}},
    {"wrn-16-8", 3, 32, 100, {-1.06369181886, 11.3477662856, 127.455679431, 5.07936190727, 0.285696585707, 11.0418630107, 69.0218800679}},
    {"wrn-16-8", 1, 28, 10, {-0.74741393013, 9.7133617825, 47.4620824909, 2.46372663302, 0.188301825351, 10.5346321994, 69.0196627946}},
    {"wrn-28-10", 3, 16, 100, {-1.93371264823, 1.79034468758, 558.517382883, 6.20518990869, 0.520475033675, 15.3287859701, 113.107441799}},
    {"densenet-40-12", 3, 32, 100, {1.55112309237, 1.01746281424, 23.2407646505, 5.31287039489, 0.230159249513, 9.5654906359, 101.265203245}},
    {"densenet-40-12", 1, 28, 10, {1.54280394662, 1.01862230782, 5.7445073624, 2.98971940475, 0.202672256161, 9.79027426933, 101.233992829}},
    // clang-format on
};

std::vector<double> computed(const Reference& reference) {
  const auto model = make_model(reference.model, {reference.channels, reference.size}, reference.classes);
  model->to(at::kDouble);
  fill(*model);
  const at::Tensor images = noise(1000, {4, reference.channels, reference.size, reference.size}) * 2;
  const at::Tensor labels = (at::arange(4, at::kLong) * 7).remainder(reference.classes);
  model->eval();
  const at::Tensor logits = model->forward(images).detach();
  model->train();
  const at::Tensor loss = at::cross_entropy_loss(model->forward(images), labels);
  loss.backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : model->parameters()) {
    gradients.push_back(parameter.grad());
  }
  return {logits[0][0].item<double>(), logits[3][1].item<double>(), logits.norm().item<double>(), loss.item<double>(),
          joint_norm({gradients[0]}),  joint_norm(gradients),       joint_norm(model->buffers())};
}

TEST(Models, ComputeWhatAnIndependentImplementationComputes) {
  for (const Reference& reference : references) {
    const std::vector<double> numbers = computed(reference);
    ASSERT_EQ(numbers.size(), reference.numbers.size());
    for (size_t i = 0; i < numbers.size(); ++i) {
      EXPECT_NEAR(numbers[i] / reference.numbers[i], 1, 1e-7)
          << reference.model << " " << reference.size << ", number " << i;
    }
  }
}

TEST(Models, DropOutBetweenTheConvolutionsOfAWideResNet) {
  const c10::NoGradGuard no_grad;
  const at::Tensor images = noise(1000, {8, 3, 32, 32}).to(at::kFloat);
  const auto plain = make_model("wrn-16-8", {3, 32}, 10);
  const auto dropping = make_model("wrn-16-8", {3, 32}, 10, 0.3);
  const auto source = plain->parameters(), target = dropping->parameters();
  ASSERT_EQ(source.size(), target.size());
  for (size_t i = 0; i < source.size(); ++i) at::Tensor(target[i]).copy_(source[i]);
  plain->eval(), dropping->eval();
  EXPECT_TRUE(at::equal(plain->forward(images), dropping->forward(images)));
  plain->train(), dropping->train();
  EXPECT_FALSE(at::equal(dropping->forward(images), dropping->forward(images)));
  EXPECT_TRUE(at::equal(plain->forward(images), plain->forward(images)));
}

std::string error_of_model(const std::string& name, ImageShape image, double dropout = 0) {
  try {
    make_model(name, image, 10, dropout);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Models, RefuseAnUnknownName) {
  EXPECT_EQ(error_of_model("resnet21", {}),
            "unknown model 'resnet21': expected one of resnet20, resnet56, vgg16-bn, vgg19-bn, wrn-16-8, wrn-28-10, "
            "densenet-40-12, vgg11-bn-narrow");
}

TEST(Models, RefuseDropoutWhereThereIsNone) {
  EXPECT_EQ(error_of_model("vgg16-bn", {}, 0.3), "vgg16-bn has no dropout: a WRN is needed");
}

TEST(Models, RefuseImagesThatAreTooSmall) {
  EXPECT_EQ(error_of_model("vgg16-bn", {3, 15}),
            "vgg16-bn needs images of at least 16 x 16 pixels, but these have 15 x 15");
  EXPECT_EQ(error_of_model("resnet20", {3, 3}), "resnet20 needs images of at least 4 x 4 pixels, but these have 3 x 3");
}

}  // namespace
}  // namespace mma::examples
