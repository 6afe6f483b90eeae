#include "angles/weights_file.hpp"

#include <fnmatch.h>

#include <algorithm>

#include "common/error.hpp"
#include "common/tensor_file.hpp"

namespace mma::examples {
namespace {

using NamedTensor = std::pair<std::string, at::Tensor>;

std::string without(const std::string& suffix, const std::string& name) {
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

bool matches(const std::string& pattern, const std::string& tensor_name) {
  return ::fnmatch(pattern.c_str(), tensor_name.c_str(), 0) == 0 ||
         ::fnmatch(pattern.c_str(), without(".weight", tensor_name).c_str(), 0) == 0;
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& tensor_name) {
  return std::ranges::any_of(patterns, [&](const std::string& pattern) { return matches(pattern, tensor_name); });
}

/// A checkpoint of mma-train also holds the optimizer's and the regularizer's tensors.
std::vector<NamedTensor> tensors_of_network(TensorFile file) {
  if (!file.metadata.contains(checkpoint_record_key)) return std::move(file.tensors);
  const std::string prefix = checkpoint_model_prefix;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return tensors;
}

bool can_be_a_weight(const NamedTensor& tensor) {
  return tensor.second.dim() >= 2 && c10::isFloatingType(tensor.second.scalar_type());
}

/// A slip of the pen would silently measure the wrong thing.
void check_pattern(const std::string& option, const std::string& pattern, const std::vector<NamedTensor>& candidates) {
  const auto is_matched = [&](const NamedTensor& tensor) { return matches(pattern, tensor.first); };
  if (std::ranges::none_of(candidates, is_matched)) {
    throw UserError(option + " " + pattern + ": matches none of the file's " + std::to_string(candidates.size()) +
                    " weights; expected a pattern for names such as " + candidates.front().first);
  }
}

void check_patterns(const LayerPatterns& patterns, const std::vector<NamedTensor>& candidates) {
  for (const auto& pattern : patterns.include) check_pattern("--include", pattern, candidates);
  for (const auto& pattern : patterns.exclude) check_pattern("--exclude", pattern, candidates);
  for (const auto& pattern : patterns.only) check_pattern("--only", pattern, candidates);
  for (const auto& pattern : patterns.transposed) check_pattern("--transposed", pattern, candidates);
  for (const auto& [pattern, groups] : patterns.groups) check_pattern("--groups", pattern, candidates);
}

WeightLayout layout_of(const NamedTensor& tensor, const LayerPatterns& patterns) {
  WeightLayout layout;
  layout.transposed = matches_any(patterns.transposed, tensor.first);
  for (const auto& [pattern, groups] : patterns.groups) {
    if (matches(pattern, tensor.first)) layout.groups = groups;
  }
  if (tensor.second.size(0) % layout.groups != 0) {
    throw UserError("--groups " + std::to_string(layout.groups) + ": does not divide the " +
                    std::to_string(tensor.second.size(0)) + " filters of " + tensor.first);
  }
  return layout;
}

}  // namespace

std::vector<StoredLayer> read_layers(const std::filesystem::path& path, const LayerPatterns& patterns) {
  std::vector<NamedTensor> candidates = tensors_of_network(read_tensor_file(path));
  std::erase_if(candidates, [](const NamedTensor& tensor) { return !can_be_a_weight(tensor); });
  const std::string expected = "floating-point tensors of two or more dimensions whose names end in 'weight'";
  if (candidates.empty()) throw UserError(path.string() + ": holds no layers; expected " + expected);
  check_patterns(patterns, candidates);

  std::vector<StoredLayer> layers;
  for (const NamedTensor& tensor : candidates) {
    const bool is_layer = tensor.first.ends_with("weight") || matches_any(patterns.include, tensor.first);
    const bool is_wanted = patterns.only.empty() || matches_any(patterns.only, tensor.first);
    if (!is_layer || !is_wanted || matches_any(patterns.exclude, tensor.first)) continue;
    layers.push_back({without(".weight", tensor.first), tensor.second, layout_of(tensor, patterns)});
  }
  if (layers.empty()) throw UserError(path.string() + ": no layers are left; expected " + expected + " or --include");
  return layers;
}

}  // namespace mma::examples
