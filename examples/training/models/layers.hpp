// What the networks have in common: their convolutions, how these begin, and the mean over a picture.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <cmath>

#include "training/models/network.hpp"
#include "training/models/normalisation.hpp"

namespace mma::examples {

using torch::nn::BatchNorm2d;
using torch::nn::Conv2d;
using torch::nn::Conv2dOptions;
using torch::nn::Linear;
using torch::nn::Sequential;

/// Mean of each channel over the whole picture: [B, C, H, W] -> [B, C].
inline at::Tensor global_average(const at::Tensor& images) {
  return at::adaptive_avg_pool2d(images, {1, 1}).flatten(1);
}

/// He's initialisation by fan-out, with the normal distribution; biases 0. BatchNorm is 1 and 0 from its constructor.
inline void initialise_convolutions(torch::nn::Module& model) {
  for (const auto& module : model.modules(/*include_self=*/false)) {
    if (auto* convolution = module->as<torch::nn::Conv2d>()) {
      const double fan_out = static_cast<double>(convolution->weight.numel() / convolution->weight.size(1));
      torch::nn::init::normal_(convolution->weight, 0, std::sqrt(2 / fan_out));
      if (convolution->bias.defined()) {
        torch::nn::init::zeros_(convolution->bias);
      }
    }
  }
}

/// Without a bias, padded so that stride 1 keeps the size.
inline Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return Conv2d(Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

}  // namespace mma::examples
