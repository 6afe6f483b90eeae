// From a module to its layers: the walk over everything below it, the matrices that no rule takes, and which layers the
// options choose with which coefficient. What keeps the layers in step with the module is module_layers.hpp.
#pragma once

#include <c10/util/Exception.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../layer.hpp"
#include "../../options.hpp"
#include "../pairs/math.hpp"
#include "../platform.hpp"
#include "rules.hpp"

namespace mma::detail::layers {

/// A layer that a rule found, before the options choose.
struct FoundLayer {
  Layer layer;
  bool is_linear = false;
};

/// A parameter that no rule takes, as far as its own module can tell: a layer may still hold the same memory.
struct FreeMatrix {
  std::string name;
  at::Tensor parameter;
  std::string module;
};

/// What a walk found, in the order of registration.
struct Walk {
  std::vector<FoundLayer> layers;
  std::vector<FreeMatrix> free;
};

/// A module's type as people say it: "LSTM" for torch::nn::LSTMImpl.
inline std::string type_name(const torch::nn::Module& module) {
  std::string name = module.name();
  for (const std::string_view prefix : {"torch::nn::", "(anonymous namespace)::"}) {
    if (name.starts_with(prefix)) {
      name.erase(0, prefix.size());
    }
  }
  if (name.size() > 4 && name.ends_with("Impl")) {
    name.erase(name.size() - 4);
  }
  return name;
}

/// What the first rule that knows the module's type takes of it.
inline std::optional<Taken> take(const std::vector<Rule>& rules, torch::nn::Module& module) {
  for (const Rule& rule : rules) {
    if (std::optional<Taken> taken = rule(module)) {
      return taken;
    }
  }
  return std::nullopt;
}

/// The module itself, without what is below it.
inline void visit(const std::vector<Rule>& rules, torch::nn::Module& module, const std::string& name, Walk& walk) {
  const std::optional<Taken> taken = take(rules, module);
  if (taken) {
    const bool is_linear = dynamic_cast<torch::nn::LinearImpl*>(&module) != nullptr;
    walk.layers.push_back({{name.empty() ? "(module)" : name, taken->weight, taken->layout}, is_linear});
  }
  for (const auto& parameter : module.named_parameters(/*recurse=*/false)) {
    const bool is_taken = taken && taken->parameter == parameter.key();
    if (parameter.value().defined() && parameter.value().dim() >= 2 && !is_taken) {
      walk.free.push_back(
          {name.empty() ? parameter.key() : name + "." + parameter.key(), parameter.value(), type_name(module)});
    }
  }
}

inline bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) { return matches(pattern, name); });
}

inline void check_coefficient(double value, const std::string& of_what) {
  TORCH_CHECK(pairs::is_finite(value), "mma: the coefficient", of_what, " is ",
              pairs::is_nan(value) ? "NaN" : "infinite", "; expected a finite number.");
}

/// Throws for numbers that mean nothing.
inline void check_numbers(const Options& options) {
  check_coefficient(options.coefficient(), "");
  for (const auto& [pattern, value] : options.pattern_coefficients()) {
    check_coefficient(value, " for '" + pattern + "'");
  }
  TORCH_CHECK(options.minimum_rows() >= 1, "mma: minimum_rows is ", options.minimum_rows(), "; expected 1 or more.");
  TORCH_CHECK(options.refresh_every() >= 1, "mma: refresh_every is ", options.refresh_every(), "; expected 1 or more.");
  TORCH_CHECK(options.world_size() >= 1 && options.rank() >= 0 && options.rank() < options.world_size(),
              "mma: share is (", options.rank(), ", ", options.world_size(),
              "); expected a rank from 0 to world_size - 1.");
}

/// Throws for a pattern that means no layer: a slip of the pen would silently regularize the wrong thing.
inline void check_pattern(const std::vector<FoundLayer>& found, const std::string& pattern, const char* option,
                          const char* advice = "") {
  const bool used = std::any_of(found.begin(), found.end(),
                                [&](const FoundLayer& layer) { return matches(pattern, layer.layer.name); });
  const std::string expected = found.empty()
                                   ? "expected none, the module has no layer of a known type"
                                   : "expected one that matches a name such as '" + found.front().layer.name + "'";
  TORCH_CHECK(used, "mma: the pattern '", pattern, "' of ", option, " matches no layer; ", expected, advice, ".");
}

inline void check_patterns(const std::vector<FoundLayer>& found, const Options& options) {
  for (const auto& pattern : options.include()) {
    check_pattern(found, pattern, "include");
  }
  for (const auto& pattern : options.exclude()) {
    check_pattern(found, pattern, "exclude");
  }
  for (const auto& [pattern, value] : options.pattern_coefficients()) {
    check_pattern(found, pattern, "coefficient", "; a tensor added by hand takes its own coefficient in add()");
  }
}

/// The name of the layer that Scope means by output; empty where there is none. Throws for one that is not there.
inline std::string output_layer_name(const std::vector<FoundLayer>& found, const Options& options) {
  const std::string& named = options.output_layer();
  if (!named.empty()) {
    const bool present =
        std::any_of(found.begin(), found.end(), [&](const FoundLayer& layer) { return layer.layer.name == named; });
    TORCH_CHECK(present, "mma: the output layer '", named, "' is not among the module's ", found.size(),
                " layers; expected the dotted name of a linear or convolutional layer.");
    return named;
  }
  const auto last = std::find_if(found.rbegin(), found.rend(), [](const FoundLayer& layer) { return layer.is_linear; });
  return last == found.rend() ? "" : last->layer.name;
}

/// lambda of a layer by its name: the last pattern that matches, else the one for all.
inline double coefficient_of(const std::string& name, const Options& options) {
  double result = options.coefficient();
  for (const auto& [pattern, value] : options.pattern_coefficients()) {
    if (matches(pattern, name)) {
      result = value;
    }
  }
  return result;
}

/// The layers that the options choose, with their coefficients.
inline std::vector<Layer> selected(const std::vector<FoundLayer>& found, const Options& options) {
  const std::string output = output_layer_name(found, options);
  std::vector<Layer> result;
  for (const FoundLayer& candidate : found) {
    Layer layer = candidate.layer;
    const bool is_output = layer.name == output;
    if ((options.scope() == Scope::Hidden && is_output) || (options.scope() == Scope::Output && !is_output)) {
      continue;
    }
    if ((!options.include().empty() && !matches_any(options.include(), layer.name)) ||
        matches_any(options.exclude(), layer.name)) {
      continue;
    }
    layer.coefficient = coefficient_of(layer.name, options);
    layer.layout.across_groups = layer.layout.across_groups || options.across_groups();
    result.push_back(std::move(layer));
  }
  return result;
}

}  // namespace mma::detail::layers
