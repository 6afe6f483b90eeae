// Files of torch.save and torch::save: a zip with a pickle that names the tensors and one record of bytes for each
// storage, or, before PyTorch 1.6, pickles followed by the storages. Programs use tensor_file.hpp, which also knows the
// others.
#pragma once

#include <string>

#include "support/files/file_contents.hpp"
#include "support/files/tensors.hpp"

namespace mma::examples {

/// True for the first bytes of the format that torch.save wrote before PyTorch 1.6, which is no zip.
bool looks_like_legacy_torch_save(const std::string& start);

/// See read_tensor_file. UserError's sentences begin with `name`.
TensorFile read_torch_save_file(const SeekableFile& file, const std::string& name, const std::string& key);
TensorFile read_legacy_torch_save_file(const SeekableFile& file, const std::string& name, const std::string& key);

}  // namespace mma::examples
