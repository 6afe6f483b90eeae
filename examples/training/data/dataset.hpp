// Images with labels, whole in memory as uint8.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mma::examples {

struct LabelledImages {
  at::Tensor images;  ///< uint8 [N, channels, height, width]
  at::Tensor labels;  ///< int64 [N]
};

struct Dataset {
  std::string name;
  int64_t classes = 0;
  LabelledImages train;
  LabelledImages test;
  std::vector<double> mean;       ///< of each channel of the train split, in [0, 1]: published, of a tree measured
  std::vector<double> deviation;  ///< standard deviation of each channel
};

}  // namespace mma::examples
