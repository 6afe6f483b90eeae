// One set of pairs to verify, wherever it comes from: LFW's pairs.txt with a folder of images, or a .bin file.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "faces/embedding.hpp"
#include "faces/pairs_file.hpp"

namespace mma::examples {

struct PairSet {
  std::string name;              ///< "lfw"
  std::vector<ImagePair> pairs;  ///< fold after fold
  std::vector<int64_t> ends;     ///< of the folds, as fold_boundaries has them: the first is 0
  int64_t images = 0;
  std::vector<std::string> image_names;  ///< empty for a .bin file, whose images have none
  std::function<at::Tensor(int64_t image, int64_t channels)>
      image;  ///< decodes it: uint8 [channels, face_size, face_size]

  int64_t folds() const { return std::ssize(ends) - 1; }

  /// What a sentence about an image begins with.
  std::function<std::string(int64_t image)> describe;
};

/// `images` may be empty where only the pairs are wanted: then no image is looked for.
PairSet pair_set_of_folder(const std::filesystem::path& pairs, const std::filesystem::path& images);

/// `folds` as insightface deals them out, see fold_boundaries.
PairSet pair_set_of_bin(const std::filesystem::path& path, int64_t folds);

}  // namespace mma::examples
