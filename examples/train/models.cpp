#include "models.hpp"

#include <ATen/ops/adaptive_avg_pool2d.h>
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

#include "common/error.hpp"

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

struct Architecture {
  const char* name;
  int64_t smallest_image;
  std::shared_ptr<ImageClassifier> (*make)(int64_t channels, int64_t classes);
};

template <int blocks>
std::shared_ptr<ImageClassifier> make_resnet(int64_t channels, int64_t classes) {
  return std::make_shared<ResNet>(channels, classes, blocks);
}

template <VggShape shape>
std::shared_ptr<ImageClassifier> make_vgg(int64_t channels, int64_t classes) {
  return std::make_shared<Vgg>(channels, classes, shape);
}

/// For a CPU: VGG11 whose first layer is as wide as the others' and the last ones a quarter of theirs.
constexpr VggShape narrow_vgg11 = {{1, 1, 2, 2, 2}, {64, 64, 128, 128, 128}};

constexpr Architecture architectures[] = {
    {"resnet20", 4, make_resnet<3>},
    {"resnet56", 4, make_resnet<9>},
    {"vgg16-bn", 16, make_vgg<VggShape{{2, 2, 3, 3, 3}}>},
    {"vgg19-bn", 16, make_vgg<VggShape{{2, 2, 4, 4, 4}}>},
    {"vgg11-bn-narrow", 16, make_vgg<narrow_vgg11>},
};

}  // namespace

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

std::shared_ptr<ImageClassifier> make_model(const std::string& name, ImageShape image, int64_t classes) {
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
  return found->make(image.channels, classes);
}

}  // namespace mma::examples
