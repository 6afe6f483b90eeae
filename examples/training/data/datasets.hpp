// CIFAR-100 and CIFAR-10 (binary or Python's pickles), Fashion-MNIST (IDX, plain or .gz), TinyImageNet (JPEG files) and
// any tree of a folder a class, each whole in memory as uint8. What may lie where: docs/files.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
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

/// cifar100, cifar10, fashion-mnist, tiny-imagenet, folder.
const std::vector<std::string>& dataset_names();

/// Reads a data set from the folder that holds its files, or the one above. Throws UserError for an unknown name, a
/// missing, truncated, damaged or oversized file, or a label outside the classes.
Dataset load_dataset(const std::string& name, const std::filesystem::path& folder);

}  // namespace mma::examples
