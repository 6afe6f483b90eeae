// VGG16-BN and VGG19-BN under the names of the public CIFAR zoos: features.N and a one-layer classifier; and a narrow
// VGG11-BN that two CPU cores train on CIFAR in a minute an epoch.
#pragma once

#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/pooling.h>

#include <array>
#include <vector>

#include "training/models/layers.hpp"

namespace mma::examples {

/// The convolutions of each of VGG's five stages, and their filters.
struct VggShape {
  std::array<int, 5> depth;
  std::array<int64_t, 5> width = {64, 128, 256, 512, 512};
};

/// Simonyan and Zisserman's VGG with batch normalisation and a single fully connected layer.
class Vgg : public ImageClassifier {
 public:
  Vgg(int64_t channels, int64_t classes, const VggShape& shape)
      : features_(register_module("features", Sequential())),
        classifier_(register_module("classifier", Linear(shape.width.back(), classes))) {
    add_features(channels, shape);
    initialise_convolutions(*this);
    torch::nn::init::normal_(classifier_->weight, 0, 0.01);
    torch::nn::init::zeros_(classifier_->bias);
  }

  at::Tensor forward(const at::Tensor& images) override {
    at::Tensor hidden = images;
    for (Layer& layer : layers_) {
      hidden = layer.convolution(hidden);
      hidden = layer.pooled ? batch_norm_relu_max_pool(layer.norm, hidden, layer.ceil_mode)
                            : batch_norm_relu(layer.norm, hidden);
    }
    return classifier_(global_average(hidden));
  }

 private:
  /// A convolution with what follows it.
  struct Layer {
    Conv2d convolution;
    BatchNorm2d norm;
    bool pooled, ceil_mode;
  };

  /// The layers, and in `features` the modules that give their tensors the zoos' numbers.
  void add_features(int64_t channels, const VggShape& shape) {
    for (size_t stage = 0; stage < shape.depth.size(); ++stage) {
      const int64_t width = shape.width[stage];
      for (int i = 0; i < shape.depth[stage]; ++i) {
        layers_.push_back({Conv2d(Conv2dOptions(channels, width, 3).padding(1)), BatchNorm2d(width), false, false});
        features_->push_back(layers_.back().convolution);
        features_->push_back(layers_.back().norm);
        features_->push_back(torch::nn::ReLU());
        channels = width;
      }
      // Images of 16 to 31 pixels arrive at the last pooling as one pixel: rounding up leaves it as it is.
      layers_.back().pooled = true;
      layers_.back().ceil_mode = stage + 1 == shape.depth.size();
      features_->push_back(torch::nn::MaxPool2d(2));
    }
  }

  Sequential features_;
  std::vector<Layer> layers_;
  Linear classifier_;
};

/// For a CPU: VGG11 whose first layer is as wide as the others' and the last ones a quarter of theirs.
inline constexpr VggShape narrow_vgg11 = {{1, 1, 2, 2, 2}, {64, 64, 128, 128, 128}};

}  // namespace mma::examples
