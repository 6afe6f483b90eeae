// The basic DenseNet-40-12 under the names of the public CIFAR zoos: conv1, dense1.0.bn1, trans1, ...
#pragma once

#include <torch/nn/modules/container/modulelist.h>

#include <memory>

#include "training/models/dense_features.hpp"
#include "training/models/layers.hpp"

namespace mma::examples {

/// Adds conv1(relu(bn1(x))) to the features x.
class DenseLayer : public torch::nn::Module {
 public:
  DenseLayer(int64_t in, int64_t growth)
      : bn1_(register_module("bn1", BatchNorm2d(in))),
        conv1_(register_module("conv1", convolution(in, growth, 3, 1))) {}

  void add_to(DenseFeatures& features) { features.append(conv1_(features.batch_norm_relu(bn1_))); }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
};

/// Between two dense blocks: as many channels, half the height and width. The mean of 2 x 2 pixels comes before the 1 x
/// 1 convolution, which gives the same with a quarter of the work: both are linear.
class Transition : public torch::nn::Module {
 public:
  explicit Transition(int64_t width)
      : bn1_(register_module("bn1", BatchNorm2d(width))),
        conv1_(register_module("conv1", convolution(width, width, 1, 1))) {}

  at::Tensor forward(const at::Tensor& input) { return conv1_(batch_norm_relu_mean_pool(bn1_, input)); }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
};

/// Huang et al's basic DenseNet for small images, without bottlenecks and compression: 3 * layers + 4 layers.
class DenseNet : public ImageClassifier {
 public:
  DenseNet(int64_t channels, int64_t classes, int layers, int64_t growth) : growth_(growth) {
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
    at::Tensor hidden = trans1_->forward(all_features(dense1_, conv1_(images)));
    hidden = all_features(dense3_, trans2_->forward(all_features(dense2_, hidden)));
    return fc_(global_average(batch_norm_relu(bn_, hidden)));
  }

 private:
  /// Leaves in `width` what comes out.
  static torch::nn::ModuleList dense_block(int64_t& width, int layers, int64_t growth) {
    torch::nn::ModuleList block;
    for (int i = 0; i < layers; ++i, width += growth) block->push_back(std::make_shared<DenseLayer>(width, growth));
    return block;
  }

  at::Tensor all_features(const torch::nn::ModuleList& block, const at::Tensor& images) const {
    DenseFeatures features(images, images.size(1) + static_cast<int64_t>(block->size()) * growth_);
    for (const auto& layer : *block) layer->as<DenseLayer>()->add_to(features);
    return features.all();
  }

  int64_t growth_;
  Conv2d conv1_{nullptr};
  torch::nn::ModuleList dense1_{nullptr}, dense2_{nullptr}, dense3_{nullptr};
  std::shared_ptr<Transition> trans1_, trans2_;
  BatchNorm2d bn_{nullptr};
  Linear fc_{nullptr};
};

}  // namespace mma::examples
