// CIFAR-100 and CIFAR-10 (binary or Python's pickles), Fashion-MNIST (IDX, plain or .gz), TinyImageNet (JPEG files) and
// any tree of a folder a class, by name. What may lie where: docs/files.md. A new one is a reader beside this file and
// a line in datasets.cpp.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/data/dataset.hpp"

namespace mma::examples {

/// cifar100, cifar10, fashion-mnist, tiny-imagenet, folder.
const std::vector<std::string>& dataset_names();

/// Reads a data set from the folder that holds its files, or the one above. Throws UserError for an unknown name, a
/// missing, truncated, damaged or oversized file, or a label outside the classes.
Dataset load_dataset(const std::string& name, const std::filesystem::path& folder);

}  // namespace mma::examples
