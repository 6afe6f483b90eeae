// TinyImageNet as its publisher lays it out (wnids.txt, train/<wnid>/images/*.JPEG, val/images,
// val/val_annotations.txt) and as the usual scripts leave it: images in train/<wnid>, val/<wnid> or val/<wnid>/images.
#pragma once

#include <filesystem>

#include "training/data/dataset.hpp"

namespace mma::examples {

/// Fills in images of 3 x 64 x 64, the number of classes, and the labels: places of the wnids in sorted order, as in
/// public PyTorch code. The images are in the same order in every layout. Throws UserError that names the file or line
/// that is missing, damaged or of another size.
void read_tiny_imagenet(const std::filesystem::path& root, Dataset& dataset);

}  // namespace mma::examples
