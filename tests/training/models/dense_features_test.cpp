// A dense block's features in one place, against the same block in double precision by LibTorch's concatenation, and
// where they are not kept in one place, against LibTorch's own bits.
#include "training/models/dense_features.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/conv.h>

#include <algorithm>
#include <array>
#include <vector>

#include "image_numbers.hpp"

namespace mma::examples {
namespace {

using mma::tests::error_of;
using mma::tests::image_numbers;
using mma::tests::noise;
using torch::nn::BatchNorm2d;
using torch::nn::Conv2d;
using torch::nn::Conv2dOptions;

/// Three layers that add `growth` features to the `width` that there are.
struct Block {
  Block(int64_t width_, int64_t growth_, at::ScalarType type) : width(width_), growth(growth_) {
    const c10::NoGradGuard no_grad;
    for (uint64_t layer = 0; layer < 3; ++layer) {
      const int64_t in = width + static_cast<int64_t>(layer) * growth;
      norms.emplace_back(in);
      norms.back()->weight.copy_(noise(10 + layer, {in}) * 3 + 0.3);
      norms.back()->bias.copy_(noise(20 + layer, {in}));
      convolutions.emplace_back(Conv2dOptions(in, growth, 3).padding(1).bias(false));
      convolutions.back()->weight.copy_(noise(30 + layer, convolutions.back()->weight.sizes()));
      if (type == at::kFloat) continue;  // as they are: a norm's counter of batches is to stay an integer
      norms.back()->to(type);
      convolutions.back()->to(type);
    }
  }

  at::Tensor in_place(const at::Tensor& images) {
    DenseFeatures features(images, width + 3 * growth);
    for (size_t k = 0; k < norms.size(); ++k) features.append(convolutions[k](features.batch_norm_relu(norms[k])));
    return features.all();
  }

  at::Tensor concatenated(at::Tensor images) {
    for (size_t k = 0; k < norms.size(); ++k) {
      images = at::cat({images, convolutions[k](norms[k](images).relu())}, 1);
    }
    return images;
  }

  /// The gradients of all weights, and what the norms have kept.
  std::vector<at::Tensor> gradients() const {
    std::vector<at::Tensor> all;
    for (size_t k = 0; k < norms.size(); ++k) {
      for (const at::Tensor& tensor : {norms[k]->weight.grad(), norms[k]->bias.grad(), norms[k]->running_mean,
                                       norms[k]->running_var, convolutions[k]->weight.grad()}) {
        all.push_back(tensor.clone());
      }
    }
    return all;
  }

  int64_t width, growth;
  std::vector<BatchNorm2d> norms;
  std::vector<Conv2d> convolutions;
};

/// The sum of the cubes of all features, differentiated: each one's gradient is of its own size.
void backward_of(const at::Tensor& features) { features.pow(3).sum().backward(); }

TEST(DenseFeatures, AreTheConcatenation) {
  for (const auto& [batch, width, growth, height, picture_width] : {std::array<int64_t, 5>{3, 16, 12, 8, 8},
                                                                    {2, 1, 1, 3, 5},
                                                                    {33, 3, 7, 1, 1},
                                                                    {1, 17, 101, 5, 1},
                                                                    {7, 24, 8, 4, 6}}) {
    Block block(width, growth, at::kFloat), reference(width, growth, at::kDouble);
    const at::Tensor images = image_numbers(1, {batch, width, height, picture_width}).requires_grad_(true);
    const at::Tensor exact = images.detach().to(at::kDouble).requires_grad_(true);
    const at::Tensor found = block.in_place(images), expected = reference.concatenated(exact);
    EXPECT_LT(error_of(found, expected), 1e-5);
    EXPECT_EQ(found.sizes(), expected.sizes());
    backward_of(found);
    backward_of(expected);
    EXPECT_LT(error_of(images.grad(), exact.grad()), 5e-5);
    const auto gradients = block.gradients(), exact_gradients = reference.gradients();
    for (size_t k = 0; k < gradients.size(); ++k) EXPECT_LT(error_of(gradients[k], exact_gradients[k]), 5e-5) << k;
    EXPECT_EQ(block.norms[2]->num_batches_tracked.item<int64_t>(), 1);
  }
}

TEST(DenseFeatures, HaveOnePlace) {
  Block block(16, 12, at::kFloat);
  DenseFeatures features(image_numbers(1, {3, 16, 8, 8}), 16 + 3 * 12);
  const void* place = features.all().const_data_ptr();
  for (size_t k = 0; k < 3; ++k) {
    features.append(block.convolutions[k](features.batch_norm_relu(block.norms[k])));
    EXPECT_EQ(features.all().const_data_ptr(), place);
  }
}

/// Without convolutions, whose sums in LibTorch depend on threads.
TEST(DenseFeatures, HaveTheSameBitsByAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> found;
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    Block block(16, 12, at::kFloat);
    const at::Tensor images = image_numbers(1, {64, 16, 16, 16}).requires_grad_(true);
    DenseFeatures features(images, 16 + 3 * 12);
    for (BatchNorm2d& norm : block.norms) {
      features.append(features.batch_norm_relu(norm).narrow(1, 2, 12).contiguous(at::MemoryFormat::ChannelsLast));
    }
    backward_of(features.all());
    found.push_back({features.all().detach(), images.grad(), block.norms[0]->weight.grad(), block.norms[2]->bias.grad(),
                     block.norms[2]->running_var});
  }
  at::set_num_threads(before);
  for (size_t k = 0; k < found[0].size(); ++k) EXPECT_TRUE(at::equal(found[0][k], found[1][k])) << k;
}

/// A gradient that somebody else sees is not added to.
TEST(DenseFeatures, LeaveGradientsThatAreSeenAsTheyAre) {
  Block block(16, 12, at::kFloat);
  const at::Tensor images = image_numbers(1, {3, 16, 6, 8}).requires_grad_(true);
  const at::Tensor all = block.in_place(images);
  all.retain_grad();
  const at::Tensor gradient = noise(4, all.sizes()).to(at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor copy = gradient.clone();
  torch::autograd::backward({all}, {gradient}, /*retain_graph=*/true);
  EXPECT_TRUE(at::equal(gradient, copy));
  EXPECT_TRUE(at::equal(all.grad(), copy));
  const at::Tensor once = images.grad().clone();
  torch::autograd::backward({all}, {gradient});
  EXPECT_LT(error_of(images.grad(), (2 * once).to(at::kDouble)), 1e-6);
}

/// What they are not made for: LibTorch's bits.
TEST(DenseFeatures, AreLibtorchsElsewhere) {
  const at::Tensor images = image_numbers(1, {3, 16, 6, 8});
  const auto expect_libtorchs = [&](at::ScalarType type, const at::Tensor& given, bool training) {
    Block block(16, 12, type), other(16, 12, type);
    for (Block* each : {&block, &other}) {
      for (BatchNorm2d& norm : each->norms) norm->train(training);
    }
    EXPECT_TRUE(at::equal(block.in_place(given), other.concatenated(given)));
    EXPECT_TRUE(at::equal(block.norms[2]->running_var, other.norms[2]->running_var));
  };
  expect_libtorchs(at::kDouble, images.to(at::kDouble), true);
  expect_libtorchs(at::kFloat, images.contiguous(), true);
  const c10::NoGradGuard no_grad;
  expect_libtorchs(at::kFloat, images, false);
}

/// With norms that do not learn, or in evaluation with gradients, there is one place and LibTorch's norm.
TEST(DenseFeatures, AreRightInEvaluationWithGradients) {
  Block block(16, 12, at::kFloat), reference(16, 12, at::kDouble);
  for (Block* each : {&block, &reference}) {
    for (BatchNorm2d& norm : each->norms) norm->eval();
  }
  const at::Tensor images = image_numbers(1, {3, 16, 6, 8}).requires_grad_(true);
  const at::Tensor exact = images.detach().to(at::kDouble).requires_grad_(true);
  backward_of(block.in_place(images));
  backward_of(reference.concatenated(exact));
  EXPECT_LT(error_of(images.grad(), exact.grad()), 1e-4);
}

/// The gradient of the length of a gradient, as a gradient penalty has it.
TEST(DenseFeatures, HaveASecondDerivative) {
  std::vector<at::Tensor> seconds;
  for (const bool in_place : {true, false}) {
    Block block(16, 12, at::kFloat);
    const at::Tensor images = image_numbers(1, {3, 16, 6, 8}).requires_grad_(true);
    const at::Tensor sum = (in_place ? block.in_place(images) : block.concatenated(images)).pow(3).sum();
    const at::Tensor gradient = torch::autograd::grad({sum}, {images}, {}, true, /*create_graph=*/true)[0];
    seconds.push_back(torch::autograd::grad({gradient.square().sum()}, {images})[0]);
  }
  EXPECT_LT(error_of(seconds[0], seconds[1].to(at::kDouble)), 1e-3);
}

/// The mean before a transition's convolution is the mean after it.
TEST(DenseFeatures, ATransitionsMeanCommutesWithItsConvolution) {
  const at::Tensor images = noise(2, {3, 16, 6, 8}), filters = noise(3, {5, 16, 1, 1});
  EXPECT_LT(error_of(at::conv2d(at::avg_pool2d(images, 2), filters), at::avg_pool2d(at::conv2d(images, filters), 2)),
            1e-14);
}

}  // namespace
}  // namespace mma::examples
