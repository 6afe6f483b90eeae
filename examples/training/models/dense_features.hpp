// The features of a dense block: each layer reads all before it and adds its own. Where a network is trained in float32
// on a CPU, images with channels last, they have one place from the beginning, so that none is ever copied to be beside
// the others, none's moments are taken twice, and gradients are added where they are; elsewhere they are concatenated.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/batchnorm.h>

#include "training/models/normalisation_passes.hpp"

namespace mma::examples {

class DenseFeatures {
 public:
  /// Those that a block begins with, [B, C, height, width], of `channels` that it will have.
  DenseFeatures(const at::Tensor& images, int64_t channels);

  /// relu(norm(all features so far))
  at::Tensor batch_norm_relu(torch::nn::BatchNorm2d& norm);

  /// [B, C, height, width], after the others.
  void append(const at::Tensor& features);

  /// All so far. [B, C, height, width]
  const at::Tensor& all() const { return all_; }

 private:
  int64_t pixels() const { return all_.numel() / all_.size(1); }

  at::Tensor all_;
  at::Tensor place_;  ///< of all features that the block will have; undefined: they are concatenated
  normalisation::Moments moments_;
};

}  // namespace mma::examples
