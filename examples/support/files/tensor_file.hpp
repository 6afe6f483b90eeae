// Named tensors in one file: reads safetensors and what torch.save, torch::save or TorchScript wrote, writes
// safetensors. docs/files.md lists what is read.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

/// What tells a checkpoint of a training program from other safetensors files: the metadata's key of its record, and
/// the prefix of the network's tensors, which lie beside the optimizer's.
inline constexpr const char* checkpoint_record_key = "mma-train";
inline constexpr const char* checkpoint_model_prefix = "model.";

struct TensorFile {
  std::vector<std::pair<std::string, at::Tensor>> tensors;  ///< in the file's order, on the CPU, in the file's dtype
  std::map<std::string, std::string> metadata;              ///< safetensors' __metadata__; empty for other files
  std::vector<std::pair<std::string, std::string>> skipped = {};  ///< tensors of a kind that is not read, and which

  const at::Tensor* find(const std::string& name) const;  ///< nullptr when absent
};

/// Reads a safetensors file; a file of torch.save, old or new: a state dict, or anything that holds one at any depth;
/// of torch::save or TorchScript: a module's parameters and buffers, tensors. `key` says where they lie when there are
/// several dictionaries of tensors (see state_dict.hpp), or in safetensors the prefix of their names. "module." and
/// "_orig_mod." before all names, which DataParallel and torch.compile leave, are dropped. Nothing of a pickle is ever
/// executed. Throws UserError that names the file and what is wrong with it: absent, truncated, foreign, hostile.
TensorFile read_tensor_file(const std::filesystem::path& path, const std::string& key = "");

/// Writes safetensors, atomically (see atomic_file.hpp).
void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

}  // namespace mma::examples
