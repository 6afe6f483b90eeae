#include "training/models/weights.hpp"

#include <c10/core/GradMode.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "support/files/made_weights.hpp"
#include "support/process/error.hpp"

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

constexpr size_t most_names = 20;  // in a sentence

/// "'a', 'b' and 3 more"
std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most_names); ++i) text += (i == 0 ? "'" : ", '") + names[i] + "'";
  if (names.size() > most_names) text += c10::str(" and ", names.size() - most_names, " more");
  return text;
}

bool may_be_missing(const std::string& name) { return name.ends_with("num_batches_tracked"); }

void check_names(const TensorsByName& source, const NamedTensors& targets, const std::string& file) {
  Fault missing;
  TensorsByName rest = source;
  for (const auto& [name, target] : targets) {
    if (rest.erase(name) == 0 && !may_be_missing(name)) missing.found("it has no tensor '" + name + "'");
  }
  missing.throw_if_any(file);
  if (rest.empty()) return;
  std::vector<std::string> unexpected;
  for (const auto& [name, tensor] : rest) unexpected.push_back(name);
  throw UserError(file + " does not fit the network: the network has no tensor" + (rest.size() == 1 ? " " : "s ") +
                  listed(unexpected));
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

/// What thop adds to every module.
bool is_left_by_a_tool(const NamedTensors::value_type& entry) {
  const std::string last = entry.first.substr(entry.first.rfind('.') + 1);
  return entry.second.numel() == 1 && (last == "total_ops" || last == "total_params");
}

bool has_all(const std::set<std::string>& names, const NamedTensors& targets) {
  return std::ranges::all_of(
      targets, [&](const auto& target) { return names.contains(target.first) || may_be_missing(target.first); });
}

/// "model." when all names begin with it; "" when they share no prefix.
std::string shared_prefix(const NamedTensors& tensors) {
  if (tensors.empty()) return "";
  const size_t dot = tensors.front().first.find('.');
  if (dot == std::string::npos) return "";
  const std::string prefix = tensors.front().first.substr(0, dot + 1);
  const auto has_it = [&](const auto& entry) { return entry.first.starts_with(prefix); };
  return std::ranges::all_of(tensors, has_it) ? prefix : "";
}

/// The tensors without the prefixes that they share, when the network's are among them then.
std::optional<NamedTensors> without_prefixes(const NamedTensors& targets, NamedTensors tensors) {
  constexpr int most_prefixes = 8;
  for (int taken = 0; taken <= most_prefixes; ++taken) {
    std::set<std::string> names;
    for (const auto& [name, tensor] : tensors) names.insert(name);
    if (has_all(names, targets)) return tensors;
    const std::string prefix = shared_prefix(tensors);
    if (prefix.empty()) return std::nullopt;
    for (auto& [name, tensor] : tensors) name.erase(0, prefix.size());
  }
  return std::nullopt;
}

NamedTensors with_made_weights(const NamedTensors& tensors, std::string& words) {
  NamedTensors result;
  std::vector<std::string> names;
  for (MadeWeight& weight : made_weights(tensors)) {
    if (!weight.note.empty()) names.push_back(weight.name + " (" + weight.note + ")");
    result.emplace_back(std::move(weight.name), std::move(weight.tensor));
  }
  if (!names.empty()) words += "made of what is stored: " + listed(names) + "\n";
  return result;
}

}  // namespace

FittedTensors fitted_to(const NamedTensors& targets, const NamedTensors& source) {
  NamedTensors rest;
  std::vector<std::string> ignored;
  for (const auto& entry : source) {
    if (is_left_by_a_tool(entry)) {
      ignored.push_back(entry.first);
    } else {
      rest.push_back(entry);
    }
  }
  FittedTensors fitted;
  if (!ignored.empty()) fitted.words = "ignored, numbers that no layer has: " + listed(ignored) + "\n";
  if (auto tensors = without_prefixes(targets, rest)) {
    fitted.tensors = std::move(*tensors);
    return fitted;
  }
  std::string words;
  if (auto tensors = without_prefixes(targets, with_made_weights(rest, words))) {
    fitted.tensors = std::move(*tensors);
    fitted.words += words;
  } else {
    fitted.tensors = std::move(rest);  // load_tensors says what does not fit
  }
  return fitted;
}

std::string words_about_skipped(const TensorFile& file) {
  if (file.skipped.empty()) return "";
  std::vector<std::string> names;
  for (const auto& [name, why] : file.skipped) names.push_back(name + " (" + why + ")");
  return "skipped: " + listed(names) + "\n";
}

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
