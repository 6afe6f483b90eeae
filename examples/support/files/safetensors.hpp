// The safetensors format: 8 bytes of header length, a JSON header with each tensor's type, shape and place, the data.
// Programs use tensor_file.hpp, which also knows the other formats.
#pragma once

#include <ostream>
#include <string>

#include "support/files/file_contents.hpp"
#include "support/files/tensors.hpp"

namespace mma::examples {

/// True for the first bytes of a safetensors file, whole or truncated.
bool looks_like_safetensors(const std::string& start);

/// UserError's sentences begin with `name`.
TensorFile read_safetensors(const SeekableFile& file, const std::string& name);

/// Throws UserError for a tensor that the format cannot hold.
void write_safetensors(std::ostream& stream, const TensorFile& file);

}  // namespace mma::examples
