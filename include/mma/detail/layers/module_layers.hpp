// All that a Regularizer knows of its layers: those of its module, walked again when the module's tree has changed,
// then those added by hand; what no rule takes; and the words for settings that would silently do nothing.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../../layer.hpp"
#include "../../options.hpp"
#include "../../weight_matrix.hpp"
#include "walk.hpp"

namespace mma::detail::layers {

/// A module's tree, watched for layers that come and go. Holds nothing alive. Of a module that no shared_ptr owns (on
/// the stack, or still in its constructor) nobody can tell whether it is still there: it is looked at once, and only
/// changes below its children are seen.
class WatchedTree {
 public:
  explicit WatchedTree(torch::nn::Module& module) {
    if (auto owned = module.weak_from_this(); !owned.expired()) {
      roots_.push_back({"", owned});
    } else {
      visit(Rules::instance().all(), module, "", unowned_);
      for (const auto& child : module.named_children()) {
        roots_.push_back({child.key(), child.value()});
      }
    }
  }

  /// False from the moment that the module, or a child of one that nobody owns, is gone.
  bool alive() const {
    return std::none_of(roots_.begin(), roots_.end(), [](const Root& root) { return root.module.expired(); });
  }

  /// Whether other modules, or others names, are there than at the last walk. For each step: 200 modules take some
  /// 10 us, because apply() copies no lists of children.
  bool changed() const {
    size_t count = 0;
    bool same = true;
    for_each([&](const std::string& name, torch::nn::Module& module) {
      same = same && count < seen_.size() && seen_[count].is(module, name);
      ++count;
    });
    return !same || count != seen_.size();
  }

  Walk walk() {
    const std::vector<Rule> rules = Rules::instance().all();
    Walk result = unowned_;
    seen_.clear();
    for_each([&](const std::string& name, torch::nn::Module& module) {
      seen_.push_back({&module, module.weak_from_this(), name});
      visit(rules, module, name, result);
    });
    return result;
  }

 private:
  struct Root {
    std::string name;
    std::weak_ptr<torch::nn::Module> module;
  };
  struct Seen {
    const torch::nn::Module* address;         // compared, never followed
    std::weak_ptr<torch::nn::Module> module;  // another module may have come to lie at the address of one that is gone
    std::string name;

    bool is(const torch::nn::Module& other, const std::string& its_name) const {
      return address == &other && !module.expired() && name == its_name;
    }
  };

  void for_each(const torch::nn::Module::NamedModuleApplyFunction& action) const {
    for (const Root& root : roots_) {
      if (const auto module = root.module.lock()) {
        module->apply(action, root.name);
      }
    }
  }

  std::vector<Root> roots_;
  Walk unowned_;  ///< what the module itself has, where nobody owns it
  std::vector<Seen> seen_;
};

/// See the head of this file. Layers are kept alive, the module is not: once it is gone they stay as they were.
class ModuleLayers {
 public:
  /// Without a module: for tensors added by hand. Throws c10::Error for numbers that mean nothing.
  explicit ModuleLayers(const Options& options) : options_(options) { check_numbers(options_); }

  /// Throws c10::Error for numbers that mean nothing, for patterns and names that match no layer, and for a weight that
  /// has no rows.
  ModuleLayers(torch::nn::Module& module, const Options& options) : ModuleLayers(options) {
    tree_.emplace(module);
    const Walk walk = tree_->walk();
    check_patterns(walk.layers, options_);
    take(walk.layers);
    for (const Layer& layer : layers_) {
      check_weight(layer.weight(), layer.layout, layer.name);
    }
  }

  /// Adds a layer by hand, with a coefficient of its own or the options' one for its name. Throws c10::Error for a
  /// tensor without rows and for a coefficient that is not finite.
  void add(const std::string& name, std::function<at::Tensor()> weight, const WeightLayout& layout,
           std::optional<double> coefficient = std::nullopt) {
    if (coefficient) {
      check_coefficient(*coefficient, " of '" + name + "'");
    }
    Layer layer{name, std::move(weight), layout, coefficient.value_or(coefficient_of(name, options_))};
    layer.rows();  // throws
    layers_.push_back(layer);
    added_.push_back(std::move(layer));
    ++generation_;
  }

  /// The layers as they are now: the module's in its order, then those added. For each step, once: see
  /// WatchedTree::changed. Throws c10::Error when the output layer that the options name is gone.
  const std::vector<Layer>& current() {
    if (tree_ && tree_->alive() && tree_->changed()) {
      take(tree_->walk().layers);
    }
    return layers_;
  }

  /// current(), where something is about to be regularized: warns once where there is nothing, and throws for a
  /// coefficient by name that no tensor added by hand has.
  const std::vector<Layer>& in_use() {
    current();
    if (!checked_) {
      check_use();
      checked_ = true;
    }
    return layers_;
  }

  /// What current() gave last, without a look at the module.
  const std::vector<Layer>& known() const { return layers_; }

  /// Another number after each change of the list.
  int64_t generation() const { return generation_; }

  /// The module's parameters of two or more dimensions that no rule takes and that no layer, added ones included,
  /// shares memory with. Nothing of a module that is gone.
  std::vector<LeftOut> left_out() {
    const at::NoGradGuard no_grad;
    std::vector<LeftOut> result;
    if (!tree_ || !tree_->alive()) {
      return result;
    }
    current();
    const Walk walk = tree_->walk();
    for (const FreeMatrix& matrix : walk.free) {
      if (!is_in_a_layer(matrix.parameter, walk.layers)) {
        result.push_back({matrix.name, matrix.parameter.sizes().vec(), matrix.module});
      }
    }
    return result;
  }

 private:
  void take(const std::vector<FoundLayer>& found) {
    found_ = found.size();
    layers_ = selected(found, options_);
    layers_.insert(layers_.end(), added_.begin(), added_.end());
    checked_ = false;
    ++generation_;
  }

  void check_use() const {
    if (!tree_) {
      for (const auto& [pattern, value] : options_.pattern_coefficients()) {
        const bool used = std::any_of(added_.begin(), added_.end(),
                                      [&p = pattern](const Layer& layer) { return matches(p, layer.name); });
        TORCH_CHECK(used, "mma: the pattern '", pattern, "' of coefficient matches none of the ", added_.size(),
                    " tensors that were added; expected the name that one was given in add().");
      }
    } else if (layers_.empty() && found_ == 0) {
      TORCH_WARN(
          "mma: the module has no layer of a known type, so nothing is regularized; expected a linear or "
          "convolutional layer, a tensor given to Regularizer::add(), or a type taught by mma::register_layer().");
    } else if (layers_.empty()) {
      TORCH_WARN("mma: the options choose none of the module's ", found_,
                 " layers, so nothing is regularized; expected another scope or pattern, or a tensor given to "
                 "Regularizer::add().");
    }
  }

  static bool shares_memory(const at::Tensor& a, const at::Tensor& b) {
    return a.is_same(b) || (a.defined() && b.defined() && a.has_storage() && b.has_storage() && a.is_alias_of(b));
  }

  bool is_in_a_layer(const at::Tensor& parameter, const std::vector<FoundLayer>& found) const {
    return std::any_of(
               found.begin(), found.end(),
               [&](const FoundLayer& candidate) { return shares_memory(parameter, candidate.layer.weight()); }) ||
           std::any_of(added_.begin(), added_.end(),
                       [&](const Layer& layer) { return shares_memory(parameter, layer.weight()); });
  }

  Options options_;
  std::optional<WatchedTree> tree_;
  size_t found_ = 0;  ///< layers of the module, before the options chose
  std::vector<Layer> layers_, added_;
  int64_t generation_ = 0;
  bool checked_ = false;
};

}  // namespace mma::detail::layers
