// ResNet20 and ResNet56 under the names of the public CIFAR zoos: conv1, bn1, layer1.0.conv1, ..., fc.
#pragma once

#include "training/models/layers.hpp"

namespace mma::examples {

/// relu(x' + bn2(conv2(relu(bn1(conv1(x)))))), where x' is x, or x through a 1x1 convolution when the shape changes.
class BasicBlock : public torch::nn::Module {
 public:
  BasicBlock(int64_t in, int64_t out, int64_t stride)
      : conv1_(register_module("conv1", convolution(in, out, 3, stride))),
        bn1_(register_module("bn1", BatchNorm2d(out))),
        conv2_(register_module("conv2", convolution(out, out, 3, 1))),
        bn2_(register_module("bn2", BatchNorm2d(out))) {
    if (stride != 1 || in != out) {
      downsample_ = convolution(in, out, 1, stride);
      downsample_norm_ = BatchNorm2d(out);
      register_module("downsample", Sequential(downsample_, downsample_norm_));
    }
  }

  at::Tensor forward(const at::Tensor& input) {
    const at::Tensor shortcut = downsample_ ? batch_norm(downsample_norm_, downsample_(input)) : input;
    const at::Tensor hidden = batch_norm_relu(bn1_, conv1_(input));
    return batch_norm_add_relu(bn2_, conv2_(hidden), shortcut);
  }

 private:
  Conv2d conv1_;
  BatchNorm2d bn1_;
  Conv2d conv2_;
  BatchNorm2d bn2_;
  Conv2d downsample_{nullptr};
  BatchNorm2d downsample_norm_{nullptr};
};

/// He et al's ResNet for small images: 6 * blocks + 2 layers.
class ResNet : public ImageClassifier {
 public:
  ResNet(int64_t channels, int64_t classes, int blocks)
      : conv1_(register_module("conv1", convolution(channels, 16, 3, 1))),
        bn1_(register_module("bn1", BatchNorm2d(16))),
        layer1_(register_module("layer1", stage(16, 16, blocks, 1))),
        layer2_(register_module("layer2", stage(16, 32, blocks, 2))),
        layer3_(register_module("layer3", stage(32, 64, blocks, 2))),
        fc_(register_module("fc", Linear(64, classes))) {
    initialise_convolutions(*this);
  }

  at::Tensor forward(const at::Tensor& images) override {
    const at::Tensor hidden = layer1_->forward(batch_norm_relu(bn1_, conv1_(images)));
    return fc_(global_average(layer3_->forward(layer2_->forward(hidden))));
  }

 private:
  static Sequential stage(int64_t in, int64_t out, int blocks, int64_t stride) {
    Sequential stage(BasicBlock(in, out, stride));
    for (int i = 1; i < blocks; ++i) {
      stage->push_back(BasicBlock(out, out, 1));
    }
    return stage;
  }

  Conv2d conv1_;
  BatchNorm2d bn1_;
  Sequential layer1_, layer2_, layer3_;
  Linear fc_;
};

}  // namespace mma::examples
