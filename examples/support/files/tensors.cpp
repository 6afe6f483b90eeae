#include "support/files/tensors.hpp"

#include <algorithm>

namespace mma::examples {

const at::Tensor* TensorFile::find(const std::string& name) const {
  const auto found = std::ranges::find(tensors, name, &NamedTensors::value_type::first);
  return found == tensors.end() ? nullptr : &found->second;
}

bool is_checkpoint(const TensorFile& file) { return file.metadata.contains(checkpoint_record_key); }

NamedTensors tensors_under(const TensorFile& file, const std::string& prefix) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return tensors;
}

NamedTensors network_tensors(const TensorFile& file) {
  return is_checkpoint(file) ? tensors_under(file, checkpoint_model_prefix) : file.tensors;
}

}  // namespace mma::examples
