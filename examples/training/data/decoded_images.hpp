// The images of a data set that is a tree of image files: decoded once by several threads into one tensor file beside
// them, which later runs read instead.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/data/dataset.hpp"

namespace mma::examples {

/// The file that keeps the decoded images, in the data set's folder.
inline constexpr const char* decoded_images_file = "mma-decoded.safetensors";

struct LabelledFile {
  std::filesystem::path path;
  int64_t label = 0;
};

struct LabelledFiles {
  std::vector<LabelledFile> train, test;
};

/// Fills in both splits: images of 3 x size x size (grey ones as RGB). The cache in `root` is made anew when a file's
/// name, size or time is not as it was or its checksum does not fit; where it cannot be written, that is said and the
/// images are decoded in each run. Throws UserError that names the image that is missing, damaged or of another size,
/// and before anything is decoded one that says how much memory they would take when the machine has less.
void read_images(const std::filesystem::path& root, const LabelledFiles& files, int64_t size, Dataset& dataset);

}  // namespace mma::examples
