// Named tensors in one file: reads safetensors and what Python's torch.save wrote, writes safetensors.
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
  std::map<std::string, std::string> metadata;              ///< safetensors' __metadata__; empty for Python's files

  const at::Tensor* find(const std::string& name) const;  ///< nullptr when absent
};

/// Reads a safetensors file, or a zip that torch.save wrote: a state dict, or a checkpoint that holds one under
/// "state_dict" (else "model", "net", "model_state_dict"); a "module." prefix of DataParallel is dropped. Nothing of a
/// pickle is ever executed. Throws UserError that names the file and what is wrong with it: absent, truncated, foreign,
/// hostile.
TensorFile read_tensor_file(const std::filesystem::path& path);

/// Writes safetensors, atomically (see atomic_file.hpp).
void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

}  // namespace mma::examples
