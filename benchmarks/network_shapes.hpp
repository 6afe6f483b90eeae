// The weights of the paper's networks with 100 classes, as shapes in the modules' order: what the benchmarks of the
// regularizer alone need of a network. Convolutions [out, in, k, k], linear layers [out, in]; no biases, no BatchNorm.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace mma::benchmarks {

using WeightShapes = std::vector<std::vector<int64_t>>;

inline constexpr int64_t shape_classes = 100;

/// Three stages of basic blocks with a 1x1 convolution beside the first block of a stage that changes the shape.
inline WeightShapes residual_shapes(int64_t blocks, const std::array<int64_t, 3>& widths) {
  int64_t in = 16;
  WeightShapes shapes{{in, 3, 3, 3}};
  for (const int64_t width : widths) {
    for (int64_t block = 0; block < blocks; ++block) {
      shapes.push_back({width, in, 3, 3});
      shapes.push_back({width, width, 3, 3});
      if (in != width) {
        shapes.push_back({width, in, 1, 1});
      }
      in = width;
    }
  }
  shapes.push_back({shape_classes, in});
  return shapes;
}

inline WeightShapes vgg19_shapes() {
  constexpr std::array<int64_t, 5> depths{2, 2, 4, 4, 4}, widths{64, 128, 256, 512, 512};
  int64_t in = 3;
  WeightShapes shapes;
  for (size_t stage = 0; stage < depths.size(); ++stage) {
    for (int64_t layer = 0; layer < depths[stage]; ++layer) {
      shapes.push_back({widths[stage], in, 3, 3});
      in = widths[stage];
    }
  }
  shapes.push_back({shape_classes, in});
  return shapes;
}

/// Three dense blocks of twelve layers that each add twelve channels, 1x1 convolutions between them.
inline WeightShapes densenet_shapes() {
  constexpr int64_t growth = 12, layers = 12, dense_blocks = 3;
  int64_t channels = 16;
  WeightShapes shapes{{channels, 3, 3, 3}};
  for (int64_t block = 0; block < dense_blocks; ++block) {
    for (int64_t layer = 0; layer < layers; ++layer, channels += growth) {
      shapes.push_back({growth, channels, 3, 3});
    }
    if (block + 1 < dense_blocks) {
      shapes.push_back({channels, channels, 1, 1});
    }
  }
  shapes.push_back({shape_classes, channels});
  return shapes;
}

/// Of "vgg19-bn", "resnet56", "wrn-28-10", "densenet-40-12"; throws std::invalid_argument for another name.
inline WeightShapes weight_shapes(const std::string& network) {
  if (network == "vgg19-bn") return vgg19_shapes();
  if (network == "resnet56") return residual_shapes(9, {16, 32, 64});
  if (network == "wrn-28-10") return residual_shapes(4, {160, 320, 640});
  if (network == "densenet-40-12") return densenet_shapes();
  throw std::invalid_argument("no shapes of a network '" + network +
                              "': expected vgg19-bn, resnet56, wrn-28-10 or densenet-40-12");
}

}  // namespace mma::benchmarks
