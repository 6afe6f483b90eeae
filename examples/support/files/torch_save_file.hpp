// Files of torch.save and torch::save: a zip with a pickle that names the tensors and one record of bytes for each
// storage, or, before PyTorch 1.6, pickles followed by the storages. Programs use tensor_file.hpp, which also knows the
// others.
#pragma once

#include "support/files/tensor_file.hpp"

namespace mma::examples {

/// True for the first bytes of the format that torch.save wrote before PyTorch 1.6, which is no zip.
bool looks_like_legacy_torch_save(const std::string& start);

/// See read_tensor_file.
TensorFile read_torch_save_file(const std::filesystem::path& path, const std::string& key);
TensorFile read_legacy_torch_save_file(const std::filesystem::path& path, const std::string& key);

}  // namespace mma::examples
