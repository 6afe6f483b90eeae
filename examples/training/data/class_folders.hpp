// Any tree of a folder a class, train/<class>/<image> and val/<class>/<image>, as torchvision's ImageFolder has it, as
// a data set of its own.
#pragma once

#include <filesystem>

#include "training/data/dataset.hpp"

namespace mma::examples {

/// Fills in everything but the name: labels are the places of the sorted names of train's folders; images, also those
/// in folders inside a class's, come as RGB and have one square size, that of the first; mean and deviation are those
/// of the training images. The second split is val, else test. Throws UserError for another layout, fewer than two
/// classes, a class without images or one that only the second split has, and for images of several sizes.
void read_class_folders(const std::filesystem::path& folder, Dataset& dataset);

}  // namespace mma::examples
