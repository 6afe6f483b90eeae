// Features in a safetensors file, so that anybody's network can be judged, and ours be looked at elsewhere: the tensor
// "features" [rows, dimension]. With the metadata "images", a name a line ("Abel_Pacheco/Abel_Pacheco_0001"), row i is
// the i-th name's image. Without it rows 2 i and 2 i + 1 are the two images of pair i, the first being pair 0.
#pragma once

#include <filesystem>

#include "faces/pairs_file.hpp"
#include "support/files/tensor_file.hpp"

namespace mma::examples {

struct StoredFeatures {
  at::Tensor rows;                 ///< of any floating type
  std::vector<std::string> names;  ///< of the rows; empty: two rows for each pair
};

/// Throws UserError that begins with the path.
StoredFeatures read_features(const std::filesystem::path& path);

/// Safetensors, atomically.
void write_features(const std::filesystem::path& path, const StoredFeatures& features);

/// The pairs with rows of the file in place of images. `names`: of the images; empty where they have none. Throws
/// UserError, which begins with `path`, for an image whose name the file does not have, or a wrong number of rows.
std::vector<ImagePair> rows_of_pairs(const std::vector<ImagePair>& pairs, const std::vector<std::string>& names,
                                     const StoredFeatures& features, const std::string& path);

}  // namespace mma::examples
