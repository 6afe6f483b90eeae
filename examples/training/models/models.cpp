#include "training/models/models.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/dropout.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/pooling.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using torch::nn::BatchNorm2d;
using torch::nn::Conv2d;
using torch::nn::Conv2dOptions;
using torch::nn::Linear;
using torch::nn::Sequential;

/// Mean of each channel over the whole picture: [B, C, H, W] -> [B, C].
at::Tensor global_average(const at::Tensor& images) { return at::adaptive_avg_pool2d(images, {1, 1}).flatten(1); }

/// He's initialisation by fan-out, with the normal distribution; biases 0. BatchNorm is 1 and 0 from its constructor.
void initialise_convolutions(torch::nn::Module& model) {
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

Conv2d convolution(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return Conv2d(Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

/// relu(x' + bn2(conv2(relu(bn1(conv1(x)))))), where x' is x, or x through a 1x1 convolution when the shape changes.
class BasicBlock : public torch::nn::Module {
 public:
  BasicBlock(int64_t in, int64_t out, int64_t stride)
      : conv1_(register_module("conv1", convolution(in, out, 3, stride))),
        bn1_(register_module("bn1", BatchNorm2d(out))),
        conv2_(register_module("conv2", convolution(out, out, 3, 1))),
        bn2_(register_module("bn2", BatchNorm2d(out))) {
    if (stride != 1 || in != out) {
      downsample_ = register_module("downsample", Sequential(convolution(in, out, 1, stride), BatchNorm2d(out)));
    }
  }

  at::Tensor forward(const at::Tensor& input) {
    const at::Tensor shortcut = downsample_ ? downsample_->forward(input) : input;
    const at::Tensor hidden = bn1_(conv1_(input)).relu_();
    return bn2_(conv2_(hidden)).add_(shortcut).relu_();
  }

 private:
  Conv2d conv1_;
  BatchNorm2d bn1_;
  Conv2d conv2_;
  BatchNorm2d bn2_;
  Sequential downsample_{nullptr};
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
    const at::Tensor hidden = layer1_->forward(bn1_(conv1_(images)).relu_());
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

/// The convolutions of each of VGG's five stages, and their filters.
struct VggShape {
  std::array<int, 5> depth;
  std::array<int64_t, 5> width = {64, 128, 256, 512, 512};
};

/// Simonyan and Zisserman's VGG with batch normalisation and a single fully connected layer.
class Vgg : public ImageClassifier {
 public:
  Vgg(int64_t channels, int64_t classes, const VggShape& shape)
      : features_(register_module("features", features(channels, shape))),
        classifier_(register_module("classifier", Linear(shape.width.back(), classes))) {
    initialise_convolutions(*this);
    torch::nn::init::normal_(classifier_->weight, 0, 0.01);
    torch::nn::init::zeros_(classifier_->bias);
  }

  at::Tensor forward(const at::Tensor& images) override {
    return classifier_(global_average(features_->forward(images)));
  }

 private:
  static Sequential features(int64_t channels, const VggShape& shape) {
    Sequential features;
    for (size_t stage = 0; stage < shape.depth.size(); ++stage) {
      const int64_t width = shape.width[stage];
      for (int i = 0; i < shape.depth[stage]; ++i) {
        features->push_back(Conv2d(Conv2dOptions(channels, width, 3).padding(1)));
        features->push_back(BatchNorm2d(width));
        features->push_back(torch::nn::ReLU(torch::nn::ReLUOptions(/*inplace=*/true)));
        channels = width;
      }
      // Images of 16 to 31 pixels arrive at the last pooling as one pixel: rounding up leaves it as it is.
      const bool last = stage + 1 == shape.depth.size();
      features->push_back(torch::nn::MaxPool2d(torch::nn::MaxPool2dOptions(2).ceil_mode(last)));
    }
    return features;
  }

  Sequential features_;
  Linear classifier_;
};

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
    const at::Tensor active = bn1_(input).relu_();
    at::Tensor hidden = bn2_(conv1_(active)).relu_();
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
    return fc_(global_average(bn1_(block3_->forward(hidden)).relu_()));
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

/// x and conv1(relu(bn1(x))), one channel after the other.
class DenseLayer : public torch::nn::Module {
 public:
  DenseLayer(int64_t in, int64_t growth)
      : bn1_(register_module("bn1", BatchNorm2d(in))),
        conv1_(register_module("conv1", convolution(in, growth, 3, 1))) {}

  at::Tensor forward(const at::Tensor& input) { return at::cat({input, conv1_(bn1_(input).relu_())}, 1); }

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

  at::Tensor forward(const at::Tensor& input) { return at::avg_pool2d(conv1_(bn1_(input).relu_()), 2); }

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
    return fc_(global_average(bn_(hidden).relu_()));
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

struct Architecture {
  const char* name;
  int64_t smallest_image;
  bool has_dropout;
  std::shared_ptr<ImageClassifier> (*make)(int64_t channels, int64_t classes, double dropout);
};

template <int blocks>
std::shared_ptr<ImageClassifier> make_resnet(int64_t channels, int64_t classes, double) {
  return std::make_shared<ResNet>(channels, classes, blocks);
}

template <VggShape shape>
std::shared_ptr<ImageClassifier> make_vgg(int64_t channels, int64_t classes, double) {
  return std::make_shared<Vgg>(channels, classes, shape);
}

template <int blocks, int64_t widening>
std::shared_ptr<ImageClassifier> make_wide_resnet(int64_t channels, int64_t classes, double dropout) {
  return std::make_shared<WideResNet>(channels, classes, blocks, widening, dropout);
}

template <int layers, int64_t growth>
std::shared_ptr<ImageClassifier> make_densenet(int64_t channels, int64_t classes, double) {
  return std::make_shared<DenseNet>(channels, classes, layers, growth);
}

/// For a CPU: VGG11 whose first layer is as wide as the others' and the last ones a quarter of theirs.
constexpr VggShape narrow_vgg11 = {{1, 1, 2, 2, 2}, {64, 64, 128, 128, 128}};

constexpr Architecture architectures[] = {
    {"resnet20", 4, false, make_resnet<3>},
    {"resnet56", 4, false, make_resnet<9>},
    {"vgg16-bn", 16, false, make_vgg<VggShape{{2, 2, 3, 3, 3}}>},
    {"vgg19-bn", 16, false, make_vgg<VggShape{{2, 2, 4, 4, 4}}>},
    {"wrn-16-8", 4, true, make_wide_resnet<2, 8>},
    {"wrn-28-10", 4, true, make_wide_resnet<4, 10>},
    {"densenet-40-12", 4, false, make_densenet<12, 12>},
    {"vgg11-bn-narrow", 16, false, make_vgg<narrow_vgg11>},
};

}  // namespace

at::Tensor ImageClassifier::training_logits(const at::Tensor& images, const at::Tensor& /*labels*/) {
  return forward(images);
}

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Architecture& architecture : architectures) {
      result.emplace_back(architecture.name);
    }
    return result;
  }();
  return names;
}

std::shared_ptr<ImageClassifier> make_model(const std::string& name, ImageShape image, int64_t classes,
                                            double dropout) {
  const auto* found = std::find_if(std::begin(architectures), std::end(architectures),
                                   [&](const Architecture& architecture) { return architecture.name == name; });
  if (found == std::end(architectures)) {
    std::string known;
    for (const std::string& each : model_names()) {
      known += (known.empty() ? "" : ", ") + each;
    }
    throw UserError("unknown model '" + name + "': expected one of " + known);
  }
  if (image.size < found->smallest_image) {
    throw UserError(name + " needs images of at least " + std::to_string(found->smallest_image) + " x " +
                    std::to_string(found->smallest_image) + " pixels, but these have " + std::to_string(image.size) +
                    " x " + std::to_string(image.size));
  }
  if (dropout > 0 && !found->has_dropout) {
    throw UserError(name + " has no dropout: a WRN is needed");
  }
  return found->make(image.channels, classes, dropout);
}

}  // namespace mma::examples
