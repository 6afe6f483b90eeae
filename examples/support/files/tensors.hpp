// Named tensors, and what a file of them holds, whatever its format.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct TensorFile {
  NamedTensors tensors;                                           ///< in the file's order, on the CPU, in its dtype
  std::map<std::string, std::string> metadata;                    ///< safetensors' __metadata__; empty for other files
  std::vector<std::pair<std::string, std::string>> skipped = {};  ///< tensors of a kind that is not read, and which

  const at::Tensor* find(const std::string& name) const;  ///< nullptr when absent
};

/// A checkpoint is a safetensors file of a network and of what its training goes on with. It has a record of the
/// training in its metadata, under this key, and the network's tensors beside the others, with this prefix.
inline constexpr const char* checkpoint_record_key = "mma-train";
inline constexpr const char* checkpoint_model_prefix = "model.";

bool is_checkpoint(const TensorFile& file);

/// The tensors whose names begin with the prefix, without it.
NamedTensors tensors_under(const TensorFile& file, const std::string& prefix);

/// Of a checkpoint the network's alone, of another file all.
NamedTensors network_tensors(const TensorFile& file);

}  // namespace mma::examples
