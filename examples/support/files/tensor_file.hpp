// Named tensors in one file: reads safetensors and what torch.save, torch::save or TorchScript wrote, writes
// safetensors. docs/files.md lists what is read.
#pragma once

#include <filesystem>
#include <string>

#include "support/files/tensors.hpp"

namespace mma::examples {

/// Reads a safetensors file; a file of torch.save, old or new: a state dict, or anything that holds one at any depth;
/// of torch::save or TorchScript: a module's parameters and buffers, tensors. `key` says where they lie when there are
/// several dictionaries of tensors (see state_dict.hpp), or in safetensors the prefix of their names. "module." and
/// "_orig_mod." before all names, which DataParallel and torch.compile leave, are dropped. Nothing of a pickle is ever
/// executed. Throws UserError that names the file and what is wrong with it: absent, truncated, foreign, hostile.
TensorFile read_tensor_file(const std::filesystem::path& path, const std::string& key = "");

/// Writes safetensors, atomically (see atomic_file.hpp).
void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

}  // namespace mma::examples
