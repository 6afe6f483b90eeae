#include "train/weights.hpp"

#include <c10/core/GradMode.h>
#include <c10/util/StringUtil.h>

#include <map>

#include "common/error.hpp"

namespace mma::examples {
namespace {

using TensorsByName = std::map<std::string, at::Tensor>;

/// Collects tensors with the same fault; throws about the first.
class Fault {
 public:
  void found(const std::string& first) {
    if (count_++ == 0) first_ = first;
  }
  void throw_if_any(const std::string& file) const {
    if (count_ == 0) return;
    const std::string others = count_ == 1 ? "" : c10::str(" (and ", count_ - 1, " more like it)");
    throw UserError(c10::str(file, " does not fit the network: ", first_, others));
  }

 private:
  std::string first_;
  int64_t count_ = 0;
};

bool may_be_missing(const std::string& name) { return name.ends_with("num_batches_tracked"); }

void check_names(const TensorsByName& source, const NamedTensors& targets, const std::string& file) {
  Fault missing;
  Fault unexpected;
  TensorsByName rest = source;
  for (const auto& [name, target] : targets) {
    if (rest.erase(name) == 0 && !may_be_missing(name)) missing.found("it has no tensor '" + name + "'");
  }
  for (const auto& [name, tensor] : rest) unexpected.found("the network has no tensor '" + name + "'");
  missing.throw_if_any(file);
  unexpected.throw_if_any(file);
}

void check_shapes(const TensorsByName& source, const NamedTensors& targets, const std::string& file) {
  Fault fault;
  for (const auto& [name, target] : targets) {
    const auto entry = source.find(name);
    if (entry == source.end()) continue;
    const at::Tensor& tensor = entry->second;
    if (tensor.sizes() != target.sizes()) {
      fault.found(c10::str("its '", name, "' has the shape ", tensor.sizes(), ", the network's ", target.sizes()));
    } else if (tensor.is_floating_point() != target.is_floating_point()) {
      fault.found(c10::str("its '", name, "' is of type ", tensor.dtype(), ", the network's ", target.dtype()));
    }
  }
  fault.throw_if_any(file);
}

}  // namespace

NamedTensors parameters_of(const torch::nn::Module& model) {
  NamedTensors tensors;
  for (const auto& item : model.named_parameters()) tensors.emplace_back(item.key(), item.value());
  return tensors;
}

NamedTensors state_of(const torch::nn::Module& model) {
  NamedTensors tensors = parameters_of(model);
  for (const auto& item : model.named_buffers()) tensors.emplace_back(item.key(), item.value());
  return tensors;
}

NamedTensors tensors_under(const TensorFile& file, const std::string& prefix) {
  NamedTensors tensors;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return tensors;
}

void load_tensors(const NamedTensors& source, const NamedTensors& targets, const std::string& file) {
  const TensorsByName by_name(source.begin(), source.end());
  check_names(by_name, targets, file);
  check_shapes(by_name, targets, file);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, target] : targets) {
    const auto entry = by_name.find(name);
    if (entry != by_name.end()) target.copy_(entry->second);
  }
}

}  // namespace mma::examples
