// The paper's networks for small images, with the parameter names of the public CIFAR zoos, so that state dicts load
// by name: ResNet20/56 (conv1, bn1, layer1.0.conv1, ..., fc), VGG16/19-BN (features.N, one-layer classifier),
// WRN-16-8 and WRN-28-10 (conv1, block1.layer.0.bn1, ...), the basic DenseNet-40-12 (conv1, dense1.0.bn1, trans1, ...);
// and a narrow VGG11-BN that two CPU cores train on CIFAR in a minute an epoch.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

namespace mma::examples {

/// A network from images [B, channels, size, size] to logits [B, classes].
class ImageClassifier : public torch::nn::Module {
 public:
  using torch::nn::Module::Module;
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  /// The logits that the training's cross entropy is of: those of forward, unless the labels have a say in them.
  virtual at::Tensor training_logits(const at::Tensor& images, const at::Tensor& labels);
};

struct ImageShape {
  int64_t channels = 3;
  int64_t size = 32;  ///< height and width
};

/// The names that make_model takes, in the order in which help shows them.
const std::vector<std::string>& model_names();

/// Makes and initialises a network (random numbers: LibTorch's default generator).
/// `dropout`: the share of zeroed activations between the two convolutions of a WRN's blocks.
/// Throws UserError for an unknown name (the sentence lists the known ones), an image too small for the network, or
/// dropout for a network that has none.
std::shared_ptr<ImageClassifier> make_model(const std::string& name, ImageShape image, int64_t classes,
                                            double dropout = 0);

}  // namespace mma::examples
