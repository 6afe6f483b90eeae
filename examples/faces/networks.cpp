#include "faces/networks.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/dropout.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <array>

#include "support/process/error.hpp"
#include "training/models/normalisation.hpp"

namespace mma::examples {
namespace {

using torch::nn::BatchNorm1d;
using torch::nn::BatchNorm2d;
using torch::nn::Conv2d;
using torch::nn::Conv2dOptions;
using torch::nn::Linear;
using torch::nn::PReLU;
using torch::nn::PReLUOptions;
using torch::nn::Sequential;

struct IrShape {
  const char* name;
  int64_t stem_stride;
  std::array<int, 4> blocks;
  std::array<int64_t, 4> width;
  int64_t embedding;

  int64_t stride() const { return 16 * stem_stride; }
};

constexpr IrShape shapes[] = {
    {"ir-18", 1, {2, 2, 2, 2}, {64, 128, 256, 512}, 512},
    {"ir-50", 1, {3, 4, 14, 3}, {64, 128, 256, 512}, 512},
    {"ir-100", 1, {3, 13, 30, 3}, {64, 128, 256, 512}, 512},
    {"ir-small", 2, {1, 2, 2, 1}, {16, 32, 64, 128}, 128},
};

Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return Conv2d(Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

PReLU prelu(int64_t channels) { return PReLU(PReLUOptions().num_parameters(channels)); }

/// x' + bn3(conv2(prelu(bn2(conv1(bn1(x)))))), where x' is x, or x through a 1x1 convolution when the shape changes.
/// The second convolution has the stride.
class IrBlock : public torch::nn::Module {
 public:
  IrBlock(int64_t in, int64_t out, int64_t stride)
      : bn1_(register_module("bn1", BatchNorm2d(in))),
        conv1_(register_module("conv1", convolution(in, out, 3, 1))),
        bn2_(register_module("bn2", BatchNorm2d(out))),
        prelu_(register_module("prelu", prelu(out))),
        conv2_(register_module("conv2", convolution(out, out, 3, stride))),
        bn3_(register_module("bn3", BatchNorm2d(out))) {
    if (stride != 1 || in != out) {
      downsample_ = convolution(in, out, 1, stride);
      downsample_norm_ = BatchNorm2d(out);
      register_module("downsample", Sequential(downsample_, downsample_norm_));
    }
  }

  at::Tensor forward(const at::Tensor& input) {
    const at::Tensor hidden = prelu_(batch_norm(bn2_, conv1_(batch_norm(bn1_, input))));
    const at::Tensor shortcut = downsample_ ? batch_norm(downsample_norm_, downsample_(input)) : input;
    return batch_norm_add(bn3_, conv2_(hidden), shortcut);
  }

 private:
  BatchNorm2d bn1_;
  Conv2d conv1_;
  BatchNorm2d bn2_;
  PReLU prelu_;
  Conv2d conv2_;
  BatchNorm2d bn3_;
  Conv2d downsample_{nullptr};
  BatchNorm2d downsample_norm_{nullptr};
};

/// insightface's IResNet.
class IrNetwork : public EmbeddingNetwork {
 public:
  IrNetwork(const IrShape& shape, ImageShape image, int64_t embedding, double dropout)
      : EmbeddingNetwork(embedding),
        conv1_(register_module("conv1", convolution(image.channels, shape.width[0], 3, shape.stem_stride))),
        bn1_(register_module("bn1", BatchNorm2d(shape.width[0]))),
        prelu_(register_module("prelu", prelu(shape.width[0]))) {
    for (size_t stage = 0; stage < 4; ++stage) {
      const int64_t in = shape.width[stage == 0 ? 0 : stage - 1];
      layers_[stage] =
          register_module("layer" + std::to_string(stage + 1), layer(in, shape.width[stage], shape.blocks[stage]));
    }
    const int64_t side = (image.size + shape.stride() - 1) / shape.stride();
    bn2_ = register_module("bn2", BatchNorm2d(shape.width[3]));
    fc_ = register_module("fc", Linear(shape.width[3] * side * side, embedding));
    features_ = register_module("features", BatchNorm1d(embedding));
    features_->weight.set_requires_grad(false);  // the head divides by the length, which it would only follow
    dropout_ = dropout;
    for (const auto& module : modules(/*include_self=*/false)) {
      if (auto* convolution = module->as<Conv2d>()) torch::nn::init::normal_(convolution->weight, 0, 0.1);
    }
  }

  at::Tensor forward(const at::Tensor& images) override {
    at::Tensor hidden = prelu_(batch_norm(bn1_, conv1_(images)));
    for (Sequential& layer : layers_) hidden = layer->forward(hidden);
    hidden = batch_norm(bn2_, hidden);
    if (dropout_ > 0) hidden = at::dropout(hidden, dropout_, is_training());
    return batch_norm(features_, fc_(hidden.flatten(1)));
  }

 private:
  static Sequential layer(int64_t in, int64_t out, int blocks) {
    Sequential layer(IrBlock(in, out, 2));
    for (int i = 1; i < blocks; ++i) layer->push_back(IrBlock(out, out, 1));
    return layer;
  }

  Conv2d conv1_;
  BatchNorm2d bn1_;
  PReLU prelu_;
  std::array<Sequential, 4> layers_{nullptr, nullptr, nullptr, nullptr};
  BatchNorm2d bn2_{nullptr};
  Linear fc_{nullptr};
  BatchNorm1d features_{nullptr};
  double dropout_ = 0;
};

}  // namespace

const std::vector<std::string>& embedding_network_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const IrShape& shape : shapes) result.emplace_back(shape.name);
    return result;
  }();
  return names;
}

std::shared_ptr<EmbeddingNetwork> make_embedding_network(const std::string& name, ImageShape image, int64_t embedding,
                                                         double dropout) {
  const auto* shape = std::ranges::find_if(shapes, [&](const IrShape& each) { return each.name == name; });
  if (shape == std::end(shapes)) {
    std::string known;
    for (const std::string& each : embedding_network_names()) known += (known.empty() ? "" : ", ") + each;
    throw UserError("unknown network '" + name + "': expected one of " + known);
  }
  if (image.size < shape->stride()) {
    const std::string smallest = std::to_string(shape->stride()), given = std::to_string(image.size);
    throw UserError(name + " needs images of at least " + smallest + " x " + smallest + " pixels, but these have " +
                    given + " x " + given);
  }
  return std::make_shared<IrNetwork>(*shape, image, embedding > 0 ? embedding : shape->embedding, dropout);
}

}  // namespace mma::examples
