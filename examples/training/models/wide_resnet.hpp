// WRN-16-8 and WRN-28-10 under the names of the public CIFAR zoos: conv1, block1.layer.0.bn1, ...
#pragma once

#include <ATen/ops/dropout.h>

#include <memory>
#include <string>

#include "training/models/layers.hpp"

namespace mma::examples {

/// x' + conv2(dropout(relu(bn2(conv1(a))))), where a = relu(bn1(x)) and x' is x, or a through a 1x1 convolution when
/// the shape changes.
class PreActivationBlock : public torch::nn::Module {
 public:
  PreActivationBlock(int64_t in, int64_t out, int64_t stride, double dropout)
      : bn1_(register_module("bn1", BatchNorm2d(in))),
        conv1_(register_module("conv1", convolution(in, out, 3, stride))),
        bn2_(register_module("bn2", BatchNorm2d(out))),
        conv2_(register_module("conv2", convolution(out, out, 3, 1))),
        dropout_(dropout) {
    if (in != out) shortcut_ = register_module("convShortcut", convolution(in, out, 1, stride));
  }

  at::Tensor forward(const at::Tensor& input) {
    const at::Tensor active = batch_norm_relu(bn1_, input);
    at::Tensor hidden = batch_norm_relu(bn2_, conv1_(active));
    if (dropout_ > 0) hidden = at::dropout(hidden, dropout_, is_training());
    return conv2_(hidden).add_(shortcut_ ? shortcut_(active) : input);
  }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
  BatchNorm2d bn2_;
  Conv2d conv2_;
  Conv2d shortcut_{nullptr};
  double dropout_;
};

/// Zagoruyko and Komodakis' wide residual network: 6 * blocks + 4 layers.
class WideResNet : public ImageClassifier {
 public:
  WideResNet(int64_t channels, int64_t classes, int blocks, int64_t widening, double dropout)
      : conv1_(register_module("conv1", convolution(channels, 16, 3, 1))),
        block1_(register_stage("block1", stage(16, 16 * widening, blocks, 1, dropout))),
        block2_(register_stage("block2", stage(16 * widening, 32 * widening, blocks, 2, dropout))),
        block3_(register_stage("block3", stage(32 * widening, 64 * widening, blocks, 2, dropout))),
        bn1_(register_module("bn1", BatchNorm2d(64 * widening))),
        fc_(register_module("fc", Linear(64 * widening, classes))) {
    initialise_convolutions(*this);
    torch::nn::init::zeros_(fc_->bias);
  }

  at::Tensor forward(const at::Tensor& images) override {
    const at::Tensor hidden = block2_->forward(block1_->forward(conv1_(images)));
    return fc_(global_average(batch_norm_relu(bn1_, block3_->forward(hidden))));
  }

 private:
  static Sequential stage(int64_t in, int64_t out, int blocks, int64_t stride, double dropout) {
    Sequential stage(PreActivationBlock(in, out, stride, dropout));
    for (int i = 1; i < blocks; ++i) stage->push_back(PreActivationBlock(out, out, 1, dropout));
    return stage;
  }

  /// In the zoos a stage is a module that holds its blocks as `layer`.
  Sequential register_stage(const std::string& name, const Sequential& blocks) {
    register_module(name, std::make_shared<torch::nn::Module>())->register_module("layer", blocks);
    return blocks;
  }

  Conv2d conv1_;
  Sequential block1_, block2_, block3_;
  BatchNorm2d bn1_;
  Linear fc_;
};

}  // namespace mma::examples
