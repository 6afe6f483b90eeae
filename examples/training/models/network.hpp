// What a training asks of a network.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>

namespace mma::examples {

/// A network from images [B, channels, size, size] to logits [B, classes].
class ImageClassifier : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  /// The logits that the training's cross entropy is of: those of forward, unless the labels have a say in them.
  virtual at::Tensor training_logits(const at::Tensor& images, const at::Tensor& /*labels*/) { return forward(images); }
};

struct ImageShape {
  int64_t channels = 3;
  int64_t size = 32;  ///< height and width
};

}  // namespace mma::examples
