// The basic DenseNet-40-12 under the names of the public CIFAR zoos: conv1, dense1.0.bn1, trans1, ...
#pragma once

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>

#include <memory>

#include "training/models/layers.hpp"

namespace mma::examples {

/// x and conv1(relu(bn1(x))), one channel after the other.
class DenseLayer : public torch::nn::Module {
 public:
  DenseLayer(int64_t in, int64_t growth)
      : bn1_(register_module("bn1", BatchNorm2d(in))),
        conv1_(register_module("conv1", convolution(in, growth, 3, 1))) {}

  at::Tensor forward(const at::Tensor& input) { return at::cat({input, conv1_(batch_norm_relu(bn1_, input))}, 1); }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
};

/// Between two dense blocks: as many channels, half the height and width.
class Transition : public torch::nn::Module {
 public:
  explicit Transition(int64_t width)
      : bn1_(register_module("bn1", BatchNorm2d(width))),
        conv1_(register_module("conv1", convolution(width, width, 1, 1))) {}

  at::Tensor forward(const at::Tensor& input) { return at::avg_pool2d(conv1_(batch_norm_relu(bn1_, input)), 2); }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
};

/// Huang et al's basic DenseNet for small images, without bottlenecks and compression: 3 * layers + 4 layers.
class DenseNet : public ImageClassifier {
 public:
  DenseNet(int64_t channels, int64_t classes, int layers, int64_t growth) {
    int64_t width = 16;
    conv1_ = register_module("conv1", convolution(channels, width, 3, 1));
    dense1_ = register_module("dense1", dense_block(width, layers, growth));
    trans1_ = register_module("trans1", std::make_shared<Transition>(width));
    dense2_ = register_module("dense2", dense_block(width, layers, growth));
    trans2_ = register_module("trans2", std::make_shared<Transition>(width));
    dense3_ = register_module("dense3", dense_block(width, layers, growth));
    bn_ = register_module("bn", BatchNorm2d(width));
    fc_ = register_module("fc", Linear(width, classes));
    initialise_convolutions(*this);
    torch::nn::init::zeros_(fc_->bias);
  }

  at::Tensor forward(const at::Tensor& images) override {
    at::Tensor hidden = trans1_->forward(dense1_->forward(conv1_(images)));
    hidden = dense3_->forward(trans2_->forward(dense2_->forward(hidden)));
    return fc_(global_average(batch_norm_relu(bn_, hidden)));
  }

 private:
  /// Leaves in `width` what comes out.
  static Sequential dense_block(int64_t& width, int layers, int64_t growth) {
    Sequential block;
    for (int i = 0; i < layers; ++i, width += growth) block->push_back(DenseLayer(width, growth));
    return block;
  }

  Conv2d conv1_{nullptr};
  Sequential dense1_{nullptr}, dense2_{nullptr}, dense3_{nullptr};
  std::shared_ptr<Transition> trans1_, trans2_;
  BatchNorm2d bn_{nullptr};
  Linear fc_{nullptr};
};

}  // namespace mma::examples
