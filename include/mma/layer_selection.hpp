// Which layers of a module are regularized, and how strongly: Options, and the walk that finds the layers.
// hidden / output / all, include and exclude by name, coefficients by name, minimum number of rows.
#pragma once

#include <fnmatch.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "detail/network_pairs.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// Hidden: every layer but the output layer. Output: the last Linear of the module unless named. All: both.
enum class Scope { Hidden, Output, All };

/// What to regularize. Patterns are shell patterns (fnmatch: *, ?, [..]) on a layer's dotted name, such as "layer1.*".
class Options {
 public:
  /// lambda of Eq 13, for every layer that no pattern gives another one. Default 0.07, the paper's for VGG; it uses
  /// 0.03 for networks with skip connections.
  Options& coefficient(double value) {
    coefficient_ = value;
    return *this;
  }
  /// lambda for the layers whose name matches; the last pattern that matches wins.
  Options& coefficient(const std::string& pattern, double value) {
    pattern_coefficients_.emplace_back(pattern, value);
    return *this;
  }
  /// Default Scope::All.
  Options& scope(Scope value) {
    scope_ = value;
    return *this;
  }
  /// The output layer's name, where it is not the last Linear.
  Options& output_layer(const std::string& name) {
    output_layer_ = name;
    return *this;
  }
  /// Only layers that match one of the patterns given so.
  Options& include(const std::string& pattern) {
    include_.push_back(pattern);
    return *this;
  }
  /// No layer that matches one of the patterns given so.
  Options& exclude(const std::string& pattern) {
    exclude_.push_back(pattern);
    return *this;
  }
  /// Layers with fewer rows (in each group) are in the report, but not in the loss. Default 2.
  Options& minimum_rows(int64_t value) {
    minimum_rows_ = value;
    return *this;
  }
  /// Compares all filters of a grouped convolution with each other, not only those of one group. Default false.
  Options& across_groups(bool value) {
    across_groups_ = value;
    return *this;
  }

  /// Searches each row's nearest row every `steps` calls and keeps it in between, while angles and gradients stay exact
  /// for the rows kept. Default 1. For objectives over nearest pairs; the energies have no search to save.
  Options& refresh_every(int64_t steps) {
    refresh_every_ = steps;
    return *this;
  }
  /// On a GPU, Regularizer::start() before the forward pass begins the search on a stream of its own, beside it.
  Options& concurrent(bool value) {
    concurrent_ = value;
    return *this;
  }
  /// For data-parallel training: process `rank` of `world_size` takes its share of the layers, balanced by cost, times
  /// world_size, so that the mean over the processes is the whole regularizer, without communication of its own. Add
  /// the gradient before the gradients are averaged: loss() in the loss, or accumulate_gradient() before an all-reduce
  /// by hand (DistributedDataParallel-like reducers have already sent what accumulate_gradient() would add to).
  Options& share(int64_t rank, int64_t world_size) {
    rank_ = rank;
    world_size_ = world_size;
    return *this;
  }

  /// In what type a GPU's products look for each row's nearest row. The same rows are found with each: what lies within
  /// the type's error is decided by exact angles. Default SearchPrecision::Float32; TF32 and BFloat16 are faster on
  /// GPUs with tensor cores for them (compute capability 8.0). A CPU searches in the weight's own type.
  Options& search_precision(SearchPrecision value) {
    search_precision_ = value;
    return *this;
  }

  double coefficient() const { return coefficient_; }
  const std::vector<std::pair<std::string, double>>& pattern_coefficients() const { return pattern_coefficients_; }
  Scope scope() const { return scope_; }
  const std::string& output_layer() const { return output_layer_; }
  const std::vector<std::string>& include() const { return include_; }
  const std::vector<std::string>& exclude() const { return exclude_; }
  int64_t minimum_rows() const { return minimum_rows_; }
  bool across_groups() const { return across_groups_; }
  int64_t refresh_every() const { return refresh_every_; }
  SearchPrecision search_precision() const { return search_precision_; }
  bool concurrent() const { return concurrent_; }
  int64_t rank() const { return rank_; }
  int64_t world_size() const { return world_size_; }

 private:
  double coefficient_ = 0.07;
  std::vector<std::pair<std::string, double>> pattern_coefficients_;
  Scope scope_ = Scope::All;
  std::string output_layer_;
  std::vector<std::string> include_, exclude_;
  int64_t minimum_rows_ = 2;
  bool across_groups_ = false;
  int64_t refresh_every_ = 1;
  bool concurrent_ = false;
  SearchPrecision search_precision_ = SearchPrecision::Float32;
  int64_t rank_ = 0, world_size_ = 1;
};

/// A layer in step with its module: the weight is read from the module's member each time.
struct Layer {
  std::string name;
  std::function<at::Tensor()> weight;
  WeightLayout layout;
  double coefficient = 0;

  /// The weight as [groups, rows, dimension], in its own dtype.
  at::Tensor rows() const { return weight_rows(weight(), layout, name); }
};

namespace detail {

inline bool matches(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

inline bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const auto& pattern) { return matches(pattern, name); });
}

struct FoundLayer {
  Layer layer;
  bool is_linear = false;
};

/// How to read a module's weight. The member, not the registered parameter: `b->weight = a->weight` changes only that.
/// A module that lives on the stack cannot be kept alive, so its tensor is kept instead.
template <typename LayerImpl>
std::function<at::Tensor()> weight_reader(LayerImpl& module) {
  if (auto owner = std::dynamic_pointer_cast<LayerImpl>(module.weak_from_this().lock())) {
    return [owner] { return owner->weight; };
  }
  return [weight = module.weight] { return weight; };
}

template <typename LayerImpl>
bool add_if_convolution(torch::nn::Module& module, const std::string& name, bool transposed,
                        std::vector<FoundLayer>& found) {
  auto* convolution = dynamic_cast<LayerImpl*>(&module);
  if (convolution == nullptr) {
    return false;
  }
  found.push_back({{name, weight_reader(*convolution), {transposed, convolution->options.groups(), false}}, false});
  return true;
}

inline void add_if_layer(torch::nn::Module& module, const std::string& name, std::vector<FoundLayer>& found) {
  namespace nn = torch::nn;
  if (auto* linear = dynamic_cast<nn::LinearImpl*>(&module)) {
    found.push_back({{name, weight_reader(*linear), {}}, true});
    return;
  }
  add_if_convolution<nn::Conv1dImpl>(module, name, false, found) ||
      add_if_convolution<nn::Conv2dImpl>(module, name, false, found) ||
      add_if_convolution<nn::Conv3dImpl>(module, name, false, found) ||
      add_if_convolution<nn::ConvTranspose1dImpl>(module, name, true, found) ||
      add_if_convolution<nn::ConvTranspose2dImpl>(module, name, true, found) ||
      add_if_convolution<nn::ConvTranspose3dImpl>(module, name, true, found);
}

/// Every layer below a module in the order of registration. Walks by hand: named_modules() needs a shared_ptr to the
/// module itself, which one on the stack does not have.
inline void find_layers(torch::nn::Module& module, const std::string& name, std::vector<FoundLayer>& found) {
  add_if_layer(module, name.empty() ? "(module)" : name, found);
  for (const auto& child : module.named_children()) {
    find_layers(*child.value(), name.empty() ? child.key() : name + "." + child.key(), found);
  }
}

inline void check_pattern(const std::vector<FoundLayer>& found, const std::string& pattern, const char* option) {
  const bool used = std::any_of(found.begin(), found.end(),
                                [&](const FoundLayer& layer) { return matches(pattern, layer.layer.name); });
  TORCH_CHECK(used, "mma: the pattern '", pattern, "' of ", option,
              " matches no layer; expected one that matches a name such as '",
              found.empty() ? "features.0" : found.front().layer.name, "'.");
}

/// Throws for numbers that mean nothing.
inline void check_numbers(const Options& options) {
  TORCH_CHECK(options.minimum_rows() >= 1, "mma: minimum_rows is ", options.minimum_rows(), "; expected 1 or more.");
  TORCH_CHECK(options.refresh_every() >= 1, "mma: refresh_every is ", options.refresh_every(), "; expected 1 or more.");
  TORCH_CHECK(options.world_size() >= 1 && options.rank() >= 0 && options.rank() < options.world_size(),
              "mma: share is (", options.rank(), ", ", options.world_size(),
              "); expected a rank from 0 to world_size - 1.");
}

/// Throws for a name or a pattern that means no layer: a slip of the pen would silently regularize the wrong thing.
inline void check_options(const std::vector<FoundLayer>& found, const Options& options) {
  for (const auto& pattern : options.include()) {
    check_pattern(found, pattern, "include");
  }
  for (const auto& pattern : options.exclude()) {
    check_pattern(found, pattern, "exclude");
  }
  if (!options.output_layer().empty()) {
    const bool present = std::any_of(found.begin(), found.end(), [&](const FoundLayer& layer) {
      return layer.layer.name == options.output_layer();
    });
    TORCH_CHECK(present, "mma: the output layer '", options.output_layer(), "' is not among the module's ",
                found.size(), " layers; expected the dotted name of a linear or convolutional layer.");
  }
}

inline std::string output_layer_name(const std::vector<FoundLayer>& found, const Options& options) {
  if (!options.output_layer().empty()) {
    return options.output_layer();
  }
  const auto last = std::find_if(found.rbegin(), found.rend(), [](const FoundLayer& layer) { return layer.is_linear; });
  return last == found.rend() ? "" : last->layer.name;
}

inline double coefficient_of(const std::string& name, const Options& options) {
  double result = options.coefficient();
  for (const auto& [pattern, value] : options.pattern_coefficients()) {
    if (matches(pattern, name)) {
      result = value;
    }
  }
  return result;
}

/// The layers of a module that the options choose, with their coefficients.
inline std::vector<Layer> select_layers(torch::nn::Module& module, const Options& options) {
  std::vector<FoundLayer> found;
  find_layers(module, "", found);
  check_options(found, options);
  const std::string output = output_layer_name(found, options);
  std::vector<Layer> result;
  for (auto& [layer, is_linear] : found) {
    const bool is_output = layer.name == output;
    if ((options.scope() == Scope::Hidden && is_output) || (options.scope() == Scope::Output && !is_output)) {
      continue;
    }
    if ((!options.include().empty() && !matches_any(options.include(), layer.name)) ||
        matches_any(options.exclude(), layer.name)) {
      continue;
    }
    layer.coefficient = coefficient_of(layer.name, options);
    layer.layout.across_groups = options.across_groups();
    result.push_back(std::move(layer));
  }
  return result;
}

}  // namespace detail
}  // namespace mma
