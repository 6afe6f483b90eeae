#include "training/data/datasets.hpp"

#include <algorithm>

#include "support/process/error.hpp"
#include "training/data/cifar.hpp"
#include "training/data/class_folders.hpp"
#include "training/data/data_files.hpp"
#include "training/data/fashion_mnist.hpp"
#include "training/data/tiny_imagenet.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

void read_tiny_imagenet_at(const Place& place, Dataset& dataset) {
  read_tiny_imagenet(place.find({"wnids.txt"}).parent_path(), dataset);
}

void read_folder(const Place& place, Dataset& dataset) { read_class_folders(place.folder, dataset); }

/// What is known of a data set before its files are read.
struct Source {
  Dataset description;
  std::vector<std::string> inner_folders;  ///< those that its publisher's archives unpack to, and torchvision's
  void (*read)(const Place& place, Dataset& dataset);
};

/// Classes, mean and deviation of each channel, where the files may lie, and who reads them.
const std::vector<Source>& sources() {
  // clang-format off
  static const std::vector<Source> all = {
      {{"cifar100", 100, {}, {}, {.5071, .4866, .4409}, {.2673, .2564, .2762}}, {"cifar-100-binary", "cifar-100-python"}, read_cifar100},
      {{"cifar10", 10, {}, {}, {.4914, .4822, .4465}, {.2470, .2435, .2616}}, {"cifar-10-batches-bin", "cifar-10-batches-py"}, read_cifar10},
      {{"fashion-mnist", 10, {}, {}, {.2860}, {.3530}}, {"fashion-mnist", "raw", "FashionMNIST/raw"}, read_fashion_mnist},
      {{"tiny-imagenet", 200, {}, {}, {.4802, .4481, .3975}, {.2770, .2691, .2821}}, {"tiny-imagenet-200"}, read_tiny_imagenet_at},
      {{"folder", 0, {}, {}, {}, {}}, {}, read_folder},
  };
  // clang-format on
  return all;
}

}  // namespace

const std::vector<std::string>& dataset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Source& source : sources()) {
      result.push_back(source.description.name);
    }
    return result;
  }();
  return names;
}

Dataset load_dataset(const std::string& name, const fs::path& folder) {
  const auto source = std::find_if(sources().begin(), sources().end(),
                                   [&](const Source& each) { return each.description.name == name; });
  if (source == sources().end()) {
    throw UserError("unknown data set '" + name + "': expected one of " + joined(dataset_names(), ", "));
  }
  Dataset dataset = source->description;
  source->read({name, folder, source->inner_folders}, dataset);
  return dataset;
}

}  // namespace mma::examples
