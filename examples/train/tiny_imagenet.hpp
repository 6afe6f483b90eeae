// TinyImageNet as its publisher lays it out: wnids.txt, train/<wnid>/images/*.JPEG, val/images,
// val/val_annotations.txt. All images are decoded once by several threads into one tensor file beside them, which later
// runs read instead.
#pragma once

#include "train/datasets.hpp"

namespace mma::examples {

/// The file that keeps the decoded images, in the data set's folder.
inline constexpr const char* tiny_imagenet_cache = "mma-decoded.safetensors";

/// Fills in images of 3 x 64 x 64 (grey ones as RGB), the number of classes, and the labels: places of the wnids in
/// sorted order, as in public PyTorch code. The cache is made anew when a file's name, size or time is not as it was
/// or its checksum does not fit; where it cannot be written, that is said and the images are decoded in each run.
/// Throws UserError that names the file or line that is missing, damaged or of another size.
void read_tiny_imagenet(const std::filesystem::path& root, Dataset& dataset);

}  // namespace mma::examples
