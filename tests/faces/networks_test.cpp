// The embedding networks against insightface's names and sizes, and against an independent PyTorch implementation
// (reference_networks.py, whose printed numbers stand below).
#include "faces/networks.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "../formula_weights.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::fill;
using mma::tests::joint_norm;
using mma::tests::noise;

using Shapes = std::vector<std::pair<std::string, std::vector<int64_t>>>;
using State = std::set<Shapes::value_type>;

/// The names and shapes of a state dict, in insightface's order within each module.
struct Expected {
  Shapes all;

  void convolution(const std::string& name, int64_t in, int64_t out, int64_t kernel) {
    all.push_back({name + ".weight", {out, in, kernel, kernel}});
  }
  void batch_norm(const std::string& name, int64_t width) {
    for (const char* part : {".weight", ".bias", ".running_mean", ".running_var"})
      all.push_back({name + part, {width}});
    all.push_back({name + ".num_batches_tracked", {}});
  }
  void prelu(const std::string& name, int64_t width) { all.push_back({name + ".weight", {width}}); }
};

Expected expected(const std::vector<int>& blocks, int64_t channels) {
  Expected expected;
  expected.convolution("conv1", channels, 64, 3);
  expected.batch_norm("bn1", 64);
  expected.prelu("prelu", 64);
  int64_t in = 64;
  for (int64_t stage = 0; stage < 4; ++stage) {
    const int64_t width = int64_t{64} << stage;
    for (int i = 0; i < blocks[static_cast<size_t>(stage)]; ++i, in = width) {
      const std::string block = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
      expected.batch_norm(block + ".bn1", in);
      expected.convolution(block + ".conv1", in, width, 3);
      expected.batch_norm(block + ".bn2", width);
      expected.prelu(block + ".prelu", width);
      expected.convolution(block + ".conv2", width, width, 3);
      expected.batch_norm(block + ".bn3", width);
      if (i > 0) continue;
      expected.convolution(block + ".downsample.0", in, width, 1);
      expected.batch_norm(block + ".downsample.1", width);
    }
  }
  expected.batch_norm("bn2", 512);
  expected.all.push_back({"fc.weight", {512, 512 * 7 * 7}});
  expected.all.push_back({"fc.bias", {512}});
  expected.batch_norm("features", 512);
  return expected;
}

State shapes_of(const EmbeddingNetwork& network) {
  State result;
  for (const auto& item : network.named_parameters()) result.emplace(item.key(), item.value().sizes().vec());
  for (const auto& item : network.named_buffers()) result.emplace(item.key(), item.value().sizes().vec());
  return result;
}

TEST(FaceNetworks, HaveTheNamesAndShapesOfInsightface) {
  const std::pair<std::string, std::vector<int>> networks[] = {
      {"ir-18", {2, 2, 2, 2}}, {"ir-50", {3, 4, 14, 3}}, {"ir-100", {3, 13, 30, 3}}};
  for (const auto& [name, blocks] : networks) {
    const Shapes colour = expected(blocks, 3).all, grey = expected(blocks, 1).all;
    EXPECT_EQ(shapes_of(*make_embedding_network(name, {3, face_size})), State(colour.begin(), colour.end()));
    EXPECT_EQ(shapes_of(*make_embedding_network(name, {1, face_size})), State(grey.begin(), grey.end()));
  }
}

TEST(FaceNetworks, HaveAsManyParametersAsTheReference) {
  const std::tuple<std::string, int64_t, int64_t, size_t> networks[] = {{"ir-18", 3, 24025600, 187},
                                                                        {"ir-50", 3, 43590848, 475},
                                                                        {"ir-100", 3, 65156160, 925},
                                                                        {"ir-small", 1, 663664, 151}};
  std::vector<std::string> names;
  for (const auto& [name, channels, count, entries] : networks) {
    const auto network = make_embedding_network(name, {channels, face_size});
    int64_t total = 0;
    for (const at::Tensor& parameter : network->parameters()) total += parameter.numel();
    EXPECT_EQ(total, count) << name;
    EXPECT_EQ(shapes_of(*network).size(), entries) << name;
    names.push_back(name);
  }
  EXPECT_EQ(embedding_network_names(), names);
}

TEST(FaceNetworks, StartAsInsightfaces) {
  const auto network = make_embedding_network("ir-18", {3, face_size});
  for (const auto& item : network->named_parameters()) {
    const at::Tensor& value = item.value();
    const std::string& name = item.key();
    if (value.dim() == 4) {
      EXPECT_NEAR(value.std().item<double>() / 0.1, 1, 5 / std::sqrt(2.0 * static_cast<double>(value.numel()))) << name;
    } else if (name.ends_with("prelu.weight")) {
      EXPECT_TRUE((value == 0.25).all().item<bool>()) << name;
    } else if (!name.starts_with("fc.")) {
      EXPECT_TRUE((value == (name.ends_with(".weight") ? 1 : 0)).all().item<bool>()) << name;
    }
    EXPECT_EQ(value.requires_grad(), name != "features.weight") << name;
  }
}

struct Reference {
  const char* network;
  int64_t channels, size, embedding;
  /// Two numbers of the embeddings and the norm of all in evaluation; a weighted sum of them in training, the norm of
  /// the first convolution's gradient and of all gradients together; the norm of all buffers after that step.
  std::vector<double> numbers;
};

const Reference references[] = {
    // clang-format off
    {"ir-18", 3, 64, 512, {-187.729928662, 480.315619386, 27120.4325198, 6.96223734351, 49.4281878279, 1286.28974254, 102.109209958}},
    {"ir-18", 1, 112, 64, {177.651618819, 220.161160486, 10024.4134759, 0.596985792226, 8.74806406227, 472.991559224, 99.2622698328}},
    {"ir-50", 3, 48, 512, {31449725.9284, -13128770.925, 1399051666.28, 1.45446359264, 51.9382855572, 1578.51388386, 195.02604579}},
    {"ir-small", 1, 112, 128, {13.8259936846, 61.1123873254, 2246.01266021, -5.72047184703, 15.4032610395, 303.301641198, 44.5926472448}},
    {"ir-small", 3, 100, 128, {4.60530665237, -16.3203334052, 2041.30435973, -5.45231115926, 30.7567819913, 338.081320479, 44.4464999722}},
    // clang-format on
};

std::vector<double> computed(const Reference& reference) {
  const auto network =
      make_embedding_network(reference.network, {reference.channels, reference.size}, reference.embedding);
  network->to(at::kDouble);
  fill(*network);
  const at::Tensor images = noise(1000, {4, reference.channels, reference.size, reference.size}) * 2;
  network->eval();
  const at::Tensor embeddings = network->forward(images).detach();
  network->train();
  const at::Tensor sum = (network->forward(images) * noise(2000, {4, reference.embedding})).sum();
  sum.backward();
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : network->parameters()) {
    if (parameter.requires_grad()) gradients.push_back(parameter.grad());
  }
  return {embeddings[0][0].item<double>(),  embeddings[3][1].item<double>(),
          embeddings.norm().item<double>(), sum.item<double>(),
          joint_norm({gradients[0]}),       joint_norm(gradients),
          joint_norm(network->buffers())};
}

TEST(FaceNetworks, ComputeWhatAnIndependentImplementationComputes) {
  for (const Reference& reference : references) {
    const std::vector<double> numbers = computed(reference);
    for (size_t i = 0; i < numbers.size(); ++i) {
      EXPECT_NEAR(numbers[i] / reference.numbers[i], 1, 1e-7)
          << reference.network << " " << reference.size << ", number " << i;
    }
  }
}

TEST(FaceNetworks, TheEmbeddingsSizeAndDropoutAreChoices) {
  const auto plain = make_embedding_network("ir-small", {1, 32}, 40),
             dropping = make_embedding_network("ir-small", {1, 32}, 40, 0.5);
  EXPECT_EQ(plain->embedding(), 40);
  EXPECT_EQ(make_embedding_network("ir-small", {1, 32})->embedding(), 128);
  fill(*plain), fill(*dropping);
  const c10::NoGradGuard no_grad;
  const at::Tensor images = noise(1000, {8, 1, 32, 32}).to(at::kFloat);
  plain->eval(), dropping->eval();
  EXPECT_EQ(plain->forward(images).sizes(), (std::vector<int64_t>{8, 40}));
  EXPECT_TRUE(at::equal(plain->forward(images), dropping->forward(images)));
  plain->train(), dropping->train();
  EXPECT_FALSE(at::equal(dropping->forward(images), dropping->forward(images)));
  EXPECT_TRUE(at::equal(plain->forward(images), plain->forward(images)));
}

TEST(FaceNetworks, RefuseWhatTheyCannotBe) {
  const auto error_of = [](const std::string& name, ImageShape image) -> std::string {
    try {
      make_embedding_network(name, image);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of("ir-20", {3, 112}), "unknown network 'ir-20': expected one of ir-18, ir-50, ir-100, ir-small");
  EXPECT_EQ(error_of("ir-18", {3, 15}), "ir-18 needs images of at least 16 x 16 pixels, but these have 15 x 15");
  EXPECT_EQ(error_of("ir-small", {3, 31}), "ir-small needs images of at least 32 x 32 pixels, but these have 31 x 31");
}

}  // namespace
}  // namespace mma::examples
