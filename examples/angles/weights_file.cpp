#include "angles/weights_file.hpp"

#include <fnmatch.h>

#include <algorithm>

#include "support/files/element_type.hpp"
#include "support/files/made_weights.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using NamedTensor = std::pair<std::string, at::Tensor>;

constexpr size_t most_names = 5;  // in a sentence

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
std::vector<NamedTensor> tensors_of_network(const TensorFile& file) {
  if (!file.metadata.contains(checkpoint_record_key)) return file.tensors;
  const std::string prefix = checkpoint_model_prefix;
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return tensors;
}

bool can_be_a_weight(const MadeWeight& weight) {
  return weight.tensor.dim() >= 2 && c10::isFloatingType(weight.tensor.scalar_type());
}

/// In a type that angles are computed in.
void widen(MadeWeight& weight) {
  const c10::ScalarType type = weight.tensor.scalar_type();
  if (type == at::kHalf || type == at::kBFloat16 || type == at::kFloat || type == at::kDouble) return;
  weight.tensor = weight.tensor.to(at::kFloat);
  weight.note += (weight.note.empty() ? "" : ", ") + name_of(type);
}

/// The matrices that can be weights; the others go to `unshown`.
std::vector<MadeWeight> candidates_in(const TensorFile& file, std::vector<UnshownTensor>& unshown) {
  std::vector<MadeWeight> candidates;
  for (MadeWeight& weight : made_weights(tensors_of_network(file))) {
    if (can_be_a_weight(weight)) {
      widen(weight);
      candidates.push_back(std::move(weight));
    } else if (weight.tensor.dim() >= 2) {
      unshown.push_back({weight.name, weight.tensor.sizes().vec(), name_of(weight.tensor.scalar_type())});
    }
  }
  for (const auto& [name, why] : file.skipped) unshown.push_back({name, {}, why});
  return candidates;
}

/// "3 tensors WHAT: a, b, c" of those that the condition takes; "" when there are none.
template <class Condition>
std::string counted(const std::vector<UnshownTensor>& unshown, const std::string& what, const Condition& is_meant) {
  std::string names;
  size_t count = 0;
  for (const UnshownTensor& tensor : unshown) {
    if (!is_meant(tensor) || ++count > most_names) continue;
    names += (count == 1 ? "" : ", ") + tensor.name + (tensor.why.empty() ? "" : " (" + tensor.why + ")");
  }
  if (count == 0) return "";
  if (count > most_names) names += " and " + std::to_string(count - most_names) + " more";
  return std::to_string(count) + (count == 1 ? " tensor " : " tensors ") + what + ": " + names;
}

/// A slip of the pen would silently measure the wrong thing.
void check_pattern(const std::string& option, const std::string& pattern, const std::vector<MadeWeight>& candidates) {
  const auto is_matched = [&](const MadeWeight& weight) { return matches(pattern, weight.name); };
  if (std::ranges::none_of(candidates, is_matched)) {
    throw UserError(option + " " + pattern + ": matches none of the file's " + std::to_string(candidates.size()) +
                    " weights; expected a pattern for names such as " + candidates.front().name);
  }
}

void check_patterns(const LayerPatterns& patterns, const std::vector<MadeWeight>& candidates) {
  for (const auto& pattern : patterns.include) check_pattern("--include", pattern, candidates);
  for (const auto& pattern : patterns.exclude) check_pattern("--exclude", pattern, candidates);
  for (const auto& pattern : patterns.only) check_pattern("--only", pattern, candidates);
  for (const auto& pattern : patterns.transposed) check_pattern("--transposed", pattern, candidates);
  for (const auto& [pattern, groups] : patterns.groups) check_pattern("--groups", pattern, candidates);
}

WeightLayout layout_of(const MadeWeight& weight, const LayerPatterns& patterns) {
  WeightLayout layout;
  layout.transposed = matches_any(patterns.transposed, weight.name);
  for (const auto& [pattern, groups] : patterns.groups) {
    if (matches(pattern, weight.name)) layout.groups = groups;
  }
  if (weight.tensor.size(0) % layout.groups != 0) {
    throw UserError("--groups " + std::to_string(layout.groups) + ": does not divide the " +
                    std::to_string(weight.tensor.size(0)) + " filters of " + weight.name);
  }
  return layout;
}

}  // namespace

std::string words_about(const std::vector<UnshownTensor>& unshown) {
  std::string left_out = counted(unshown, "left out", [](const auto& tensor) { return tensor.why.empty(); });
  if (!left_out.empty()) left_out += "; --include shows them\n";
  std::string skipped = counted(unshown, "skipped", [](const auto& tensor) { return !tensor.why.empty(); });
  if (!skipped.empty()) skipped += "; no layer can be like that\n";
  return left_out + skipped;
}

StoredLayers read_layers(const std::filesystem::path& path, const LayerPatterns& patterns, const std::string& key) {
  StoredLayers result;
  const std::vector<MadeWeight> candidates = candidates_in(read_tensor_file(path, key), result.unshown);
  const std::string expected = "floating-point tensors of two or more dimensions whose names end in 'weight'";
  const auto refuse = [&](const std::string& what) {
    std::string words = words_about(result.unshown);
    std::ranges::replace(words, '\n', ';');
    if (!words.empty()) words = "; " + words.substr(0, words.size() - 1);
    throw UserError(path.string() + what + words);
  };
  if (candidates.empty()) refuse(": holds no layers; expected " + expected);
  check_patterns(patterns, candidates);

  for (const MadeWeight& weight : candidates) {
    const bool is_layer = weight.name.ends_with("weight") || matches_any(patterns.include, weight.name);
    const bool is_wanted = patterns.only.empty() || matches_any(patterns.only, weight.name);
    if (!is_wanted || matches_any(patterns.exclude, weight.name)) continue;
    if (is_layer) {
      result.layers.push_back(
          {without(".weight", weight.name), weight.tensor, layout_of(weight, patterns), weight.note});
    } else {
      result.unshown.push_back({weight.name, weight.tensor.sizes().vec(), ""});
    }
  }
  if (result.layers.empty()) refuse(": no layers are left; expected " + expected);
  return result;
}

}  // namespace mma::examples
