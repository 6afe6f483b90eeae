// mma::Regularizer over a Python module: the module's tree is copied as LibTorch modules that hold names, types and,
// for the length of a call, weights. So the library's own walk, patterns, scopes, ties and shares decide, and no Python
// runs inside a call.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <mma/any_objective.hpp>
#include <mma/regularizer.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace mma::python {

/// A Python module: dotted name, the name of its type, "" or "linear" or "layer", and a layer's layout.
using Node = std::tuple<std::string, std::string, std::string, bool, int64_t>;
using State = std::map<std::string, at::Tensor>;

/// A layer of the copy, and where its weight of this moment lies.
struct Slot {
  at::Tensor weight;
};

/// Thread-safe, one call at a time. Errors are Python's.
class Regularizer {
 public:
  /// The modules, the root first, and the weights of those that are layers, in that order.
  Regularizer(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights, const Options& options,
              AnyObjective objective);

  /// Other modules are there; the weights are those of their layers, then of what was added.
  void set_modules(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights);
  void add(const std::string& name, const at::Tensor& weight, bool transposed, int64_t groups,
           std::optional<double> coefficient);

  /// Which of the layers the options choose: numbers in the order in which set_modules() takes weights. What `weights`
  /// means below: the weights of these, in this order.
  std::vector<size_t> chosen();
  std::vector<std::string> names();

  /// The loss, and of each trained weight its gradient; without a graph. `trained` says which require a gradient.
  std::pair<at::Tensor, std::vector<at::Tensor>> loss(at::TensorList weights, const std::vector<bool>& trained,
                                                      bool with_gradient);
  /// Of the last loss(): d(sum_k gradient_k . directions_k)/d weight; a direction may be undefined.
  std::vector<at::Tensor> hessian_product(at::TensorList weights, const std::vector<bool>& trained,
                                          const std::vector<at::Tensor>& directions);
  /// Adds scale * gradient to each weight's .grad.
  at::Tensor accumulate_gradient(const std::vector<at::Tensor>& weights, double scale);
  void start(const std::vector<at::Tensor>& weights);
  std::vector<std::pair<std::string, at::Tensor>> layer_losses(const std::vector<at::Tensor>& weights);

  /// Table and JSON. `all_weights`: of all layers, chosen or not; `parameters`: those of each module by its number.
  std::pair<std::string, std::string> report(const std::vector<at::Tensor>& all_weights,
                                             const std::vector<std::tuple<size_t, std::string, at::Tensor>>& parameters,
                                             double cosine_threshold, int64_t histogram_bins);
  State state();
  void load_state(const State& state);

  /// By which the operators find it: unique in this process.
  const std::string& key() const { return key_; }

 private:
  void rebuild(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights);
  void set_weights(at::TensorList weights, const std::vector<bool>& trained);
  void set_weights(at::TensorList weights);
  void forget_others();
  void name_types(Report& report) const;

  std::mutex mutex_;
  std::string key_;
  std::shared_ptr<torch::nn::Module> root_;
  std::vector<torch::nn::Module*> modules_;        ///< the copies, in Python's order; alive below root_
  std::vector<at::Tensor*> slots_;                 ///< of the layers of modules_, then of what was added
  std::vector<std::string> layer_names_;           ///< of the slots that are layers of modules_
  std::map<std::string, std::string> type_names_;  ///< of the modules by their names
  std::vector<std::shared_ptr<Slot>> added_;
  std::vector<size_t> chosen_;
  std::unique_ptr<mma::Regularizer<AnyObjective>> regularizer_;
  State before_;  ///< the objective's, before the last loss()
};

/// Throws for one that is gone.
std::shared_ptr<Regularizer> regularizer_by_key(const std::string& key);
std::shared_ptr<Regularizer> new_regularizer(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights,
                                             const Options& options, const std::string& objective,
                                             const std::vector<double>& numbers);

}  // namespace mma::python
