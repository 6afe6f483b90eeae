// An embedding network with its weights from a file: a checkpoint of mma-faces train, or a state dict.
#pragma once

#include <filesystem>
#include <string>

#include "faces/embedding.hpp"

namespace mma::examples {

struct FaceNetwork {
  std::string model;  ///< "ir-50"
  int64_t channels = 3;
  FeatureNetwork features;  ///< in evaluation mode, on its device
};

/// Reads what read_tensor_file reads; `key` as there. A checkpoint says which network it holds; for other files
/// `model` is needed (empty: not given). The first convolution says whether images are grey or in colour.
/// Throws UserError that names the file, or the flag --model, and what does not fit.
FaceNetwork read_face_network(const std::filesystem::path& path, const std::string& model, const std::string& device,
                              const std::string& key = "");

}  // namespace mma::examples
