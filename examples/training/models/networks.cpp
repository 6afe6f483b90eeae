#include "training/models/networks.hpp"

#include <algorithm>

#include "support/process/error.hpp"
#include "training/models/densenet.hpp"
#include "training/models/resnet.hpp"
#include "training/models/vgg.hpp"
#include "training/models/wide_resnet.hpp"

namespace mma::examples {
namespace {

using Made = std::shared_ptr<ImageClassifier>;

template <int blocks>
Made resnet(int64_t channels, int64_t classes, double) {
  return std::make_shared<ResNet>(channels, classes, blocks);
}

template <VggShape shape>
Made vgg(int64_t channels, int64_t classes, double) {
  return std::make_shared<Vgg>(channels, classes, shape);
}

template <int blocks, int64_t widening>
Made wide_resnet(int64_t channels, int64_t classes, double dropout) {
  return std::make_shared<WideResNet>(channels, classes, blocks, widening, dropout);
}

template <int layers, int64_t growth>
Made densenet(int64_t channels, int64_t classes, double) {
  return std::make_shared<DenseNet>(channels, classes, layers, growth);
}

}  // namespace

const std::vector<Network>& networks() {
  static const std::vector<Network> all = {
      {"resnet20", "resnet", 4, false, resnet<3>},
      {"resnet56", "resnet", 4, false, resnet<9>},
      {"vgg16-bn", "vgg-bn", 16, false, vgg<VggShape{{2, 2, 3, 3, 3}}>},
      {"vgg19-bn", "vgg-bn", 16, false, vgg<VggShape{{2, 2, 4, 4, 4}}>},
      {"wrn-16-8", "wrn", 4, true, wide_resnet<2, 8>},
      {"wrn-28-10", "wrn", 4, true, wide_resnet<4, 10>},
      {"densenet-40-12", "densenet", 4, false, densenet<12, 12>},
      {"vgg11-bn-narrow", "vgg-bn", 16, false, vgg<narrow_vgg11>},
  };
  return all;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Network& network : networks()) names.emplace_back(network.name);
  return names;
}

const Network& network_named(const std::string& name) {
  const auto found = std::ranges::find_if(networks(), [&](const Network& each) { return each.name == name; });
  if (found != networks().end()) return *found;
  std::string known;
  for (const std::string& each : model_names()) known += (known.empty() ? "" : ", ") + each;
  throw UserError("unknown model '" + name + "': expected one of " + known);
}

Made make_model(const std::string& name, ImageShape image, int64_t classes, double dropout) {
  const Network& network = network_named(name);
  if (image.size < network.smallest_image) {
    const std::string smallest = std::to_string(network.smallest_image), given = std::to_string(image.size);
    throw UserError(name + " needs images of at least " + smallest + " x " + smallest + " pixels, but these have " +
                    given + " x " + given);
  }
  if (dropout > 0 && !network.has_dropout) throw UserError(name + " has no dropout: a WRN is needed");
  return network.make(image.channels, classes, dropout);
}

}  // namespace mma::examples
