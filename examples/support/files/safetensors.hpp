// The safetensors format: 8 bytes of header length, a JSON header with each tensor's type, shape and place, the data.
// Programs use tensor_file.hpp, which also knows the other formats.
#pragma once

#include <istream>
#include <ostream>

#include "support/files/tensor_file.hpp"

namespace mma::examples {

/// True for the first bytes of a safetensors file, whole or truncated.
bool looks_like_safetensors(const std::string& start);

/// Reads a file of `size` bytes. UserError's sentences begin with `name`.
TensorFile read_safetensors(std::istream& stream, uint64_t size, const std::string& name);

/// Throws UserError for a tensor that the format cannot hold.
void write_safetensors(std::ostream& stream, const TensorFile& file);

}  // namespace mma::examples
