// What the walk takes of a module: a rule knows one module type, its weight and how the rows lie in it. Those of
// LibTorch's linear and convolutional layers, and those that a user adds (mma::register_layer).
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <typeindex>
#include <typeinfo>
#include <utility>
#include <vector>

#include "../../weight_matrix.hpp"

namespace mma::detail::layers {

/// A module's matrix of rows.
struct Taken {
  std::function<at::Tensor()> weight;
  WeightLayout layout;
  std::string parameter;  ///< the name under which the module registers it; empty where that is not known
};

/// nullopt for a module of another type.
using Rule = std::function<std::optional<Taken>(torch::nn::Module&)>;

/// How to read a module's weight at each call. The member, not the registered parameter: `b->weight = a->weight`
/// changes only that. A module that no shared_ptr owns cannot be kept alive, so its tensor is kept instead.
template <typename Impl, typename Read>
std::function<at::Tensor()> weight_reader(Impl& module, Read read) {
  if (auto owner = std::dynamic_pointer_cast<Impl>(module.weak_from_this().lock())) {
    return [owner, read] { return read(std::as_const(*owner)); };
  }
  return [weight = at::Tensor(read(std::as_const(module)))] { return weight; };
}

/// For modules of type Impl and of types that derive from it.
template <typename Impl, typename Read, typename Layout>
Rule make_rule(Read read, Layout layout, const std::string& parameter = "") {
  return [read, layout, parameter](torch::nn::Module& module) -> std::optional<Taken> {
    auto* own = dynamic_cast<Impl*>(&module);
    if (own == nullptr) {
      return std::nullopt;
    }
    return Taken{weight_reader(*own, read), layout(std::as_const(*own)), parameter};
  };
}

template <typename Impl>
Rule convolution_rule(bool transposed) {
  return make_rule<Impl>([](const Impl& layer) { return layer.weight; },
                         [transposed](const Impl& layer) {
                           return WeightLayout{.transposed = transposed, .groups = layer.options.groups()};
                         },
                         "weight");
}

inline std::vector<Rule> built_in_rules() {
  namespace nn = torch::nn;
  return {make_rule<nn::LinearImpl>([](const nn::LinearImpl& layer) { return layer.weight; },
                                    [](const nn::LinearImpl&) { return WeightLayout{}; }, "weight"),
          convolution_rule<nn::Conv1dImpl>(false),
          convolution_rule<nn::Conv2dImpl>(false),
          convolution_rule<nn::Conv3dImpl>(false),
          convolution_rule<nn::ConvTranspose1dImpl>(true),
          convolution_rule<nn::ConvTranspose2dImpl>(true),
          convolution_rule<nn::ConvTranspose3dImpl>(true)};
}

/// All rules of this process; the one added last is asked first. Thread-safe.
class Rules {
 public:
  static Rules& instance() {
    static Rules rules;
    return rules;
  }

  /// Takes the place of an earlier rule of the same type.
  void add(std::type_index type, Rule rule) {
    const std::lock_guard guard(mutex_);
    std::erase_if(own_, [&](const auto& entry) { return entry.first == type; });
    own_.emplace(own_.begin(), type, std::move(rule));
  }

  /// In the order in which they are asked. A copy: a rule is a user's code, which may itself add one.
  std::vector<Rule> all() const {
    const std::lock_guard guard(mutex_);
    std::vector<Rule> result;
    for (const auto& entry : own_) {
      result.push_back(entry.second);
    }
    result.insert(result.end(), built_in_.begin(), built_in_.end());
    return result;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<std::type_index, Rule>> own_;
  std::vector<Rule> built_in_ = built_in_rules();
};

}  // namespace mma::detail::layers
