// What to regularize, and how strongly: hidden, output or all layers, include and exclude by name, coefficients by
// name, the minimum number of rows; how often to search, and a process's share of the layers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/platform.hpp"

namespace mma {

/// Whether a shell pattern, as Options takes them, matches the whole of a layer's name.
inline bool name_matches(std::string_view pattern, std::string_view name) { return detail::matches(pattern, name); }

/// Which layers of a module are regularized.
enum class Scope {
  Hidden,  ///< every layer but the output layer
  Output,  ///< the output layer alone: the last Linear of the module, unless Options::output_layer() names it
  All      ///< both
};

/// What to regularize. Patterns are shell patterns (*, ?, [abc], [!abc], \ before a character that stands for itself)
/// on a layer's whole dotted name, such as "layer1.*". A pattern that matches no layer, a number that means nothing and
/// a coefficient that is not finite throw c10::Error where the Regularizer is made.
class Options {
 public:
  /// lambda of Eq 13, for every layer that no pattern gives another one. Default 0.07, the paper's for VGG; it uses
  /// 0.03 for networks with skip connections.
  Options& coefficient(double value) {
    coefficient_ = value;
    return *this;
  }
  /// lambda for the layers whose name matches; the last pattern that matches wins. A tensor added by hand to a module's
  /// regularizer takes its own in add(); without a module the pattern has until the first use to match what was added.
  Options& coefficient(const std::string& pattern, double value) {
    pattern_coefficients_.emplace_back(pattern, value);
    return *this;
  }
  /// Which of the module's layers. Default Scope::All.
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
  /// Default false.
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

  /// lambda where no pattern matches.
  double coefficient() const { return coefficient_; }
  /// Patterns and their lambda, in the order in which they were given.
  const std::vector<std::pair<std::string, double>>& pattern_coefficients() const { return pattern_coefficients_; }
  Scope scope() const { return scope_; }                                ///< which layers
  const std::string& output_layer() const { return output_layer_; }     ///< empty: the last Linear
  const std::vector<std::string>& include() const { return include_; }  ///< empty: all
  const std::vector<std::string>& exclude() const { return exclude_; }  ///< empty: none
  int64_t minimum_rows() const { return minimum_rows_; }                ///< in each group
  bool across_groups() const { return across_groups_; }                 ///< all filters of a grouped convolution
  int64_t refresh_every() const { return refresh_every_; }              ///< calls from one search to the next
  bool concurrent() const { return concurrent_; }                       ///< start() searches on its own stream
  int64_t rank() const { return rank_; }                                ///< this process, from 0
  int64_t world_size() const { return world_size_; }                    ///< 1: no sharing

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
  int64_t rank_ = 0, world_size_ = 1;
};

}  // namespace mma
