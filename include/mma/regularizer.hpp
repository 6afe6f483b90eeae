// mma::Regularizer<Objective>: sum over layers of coefficient * objective(rows of the layer) (Eq 13). Stays in step
// with its module, takes its layers in a few parts, and gives a loss term or adds its gradient.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "angles.hpp"
#include "detail/layers/measure.hpp"
#include "detail/layers/module_layers.hpp"
#include "detail/layers/part.hpp"
#include "detail/layers/parts.hpp"
#include "detail/layers/plan.hpp"
#include "detail/rows/precision.hpp"
#include "layer.hpp"
#include "objective.hpp"
#include "objectives/minimal_angle.hpp"
#include "options.hpp"
#include "report.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// The regularizer of a module: sum over its layers of coefficient * objective(rows of the layer) (Eq 13), as a term of
/// the loss or as a gradient that is added. It shares ownership of the module's layers, so it may outlive the module;
/// weights changed in place, by to(device), by load, or by assigning a layer's member are seen at the next call, and so
/// are layers that come and go (below the children alone, where the module itself lives on the stack). Not thread-safe;
/// one instance a training loop.
template <typename Objective = MinimalAngle>
class Regularizer {
  static_assert(ObjectiveFunction<Objective>,
                "mma::Regularizer<Objective>: an Objective is called as Tensor(Tensor rows /*[b,n,d]*/, Tensor usable "
                "/*[b,n] bool*/) and returns one value for each matrix, [b]");

 public:
  /// Chooses the module's layers. Throws c10::Error for an option that names no layer or means nothing, and for a layer
  /// whose weight has no rows.
  explicit Regularizer(torch::nn::Module& module, const Options& options = {})
      : Regularizer(module, Objective{}, options) {}

  /// The same with an objective that is not the default one of its type: HypersphericalEnergy{.s = 1}.
  Regularizer(torch::nn::Module& module, Objective objective, const Options& options = {})
      : objective_(std::make_shared<Objective>(std::move(objective))), options_(options), layers_(module, options) {}

  /// Without a module: for tensors added by hand. Throws c10::Error for an option that means nothing.
  explicit Regularizer(const Options& options, Objective objective = {})
      : objective_(std::make_shared<Objective>(std::move(objective))), options_(options), layers_(options) {}

  /// Adds a tensor whose rows are to be kept apart: an RNN's or attention's weight, a matrix of prototypes. Scope and
  /// include/exclude do not apply; its coefficient is the one given, else the options' for its name. Throws c10::Error
  /// for a tensor without rows.
  Regularizer& add(const std::string& name, const at::Tensor& weight, const WeightLayout& layout = {},
                   std::optional<double> coefficient = std::nullopt) {
    return add(
        name, [weight] { return weight; }, layout, coefficient);
  }

  /// The same for a tensor that is looked up at each call, such as a member that is assigned anew.
  Regularizer& add(const std::string& name, std::function<at::Tensor()> weight, const WeightLayout& layout = {},
                   std::optional<double> coefficient = std::nullopt) {
    layers_.add(name, std::move(weight), layout, coefficient);
    return *this;
  }

  /// The layers, in the module's order, then those added by hand.
  const std::vector<Layer>& layers() const { return layers_.current(); }

  /// The objective in use; what is changed here counts from the next call.
  Objective& objective() { return *objective_; }

  /// sum_l coefficient_l * objective(layer l), a scalar with an autograd graph to the weights. Frozen layers, tied
  /// weights' second occurrences and layers with fewer than two rows do not count. Of a grouped convolution the mean
  /// over its groups counts, weighted by their usable rows, whether the objective is itself a mean or a sum.
  /// A weight that forward() computes must have been computed: call forward() in a statement before.
  /// Throws c10::Error, naming the layer, for a weight that has no rows (see mma::weight_rows).
  at::Tensor loss() {
    const detail::rows::FullPrecisionGuard guard;
    update_parts();
    return sum_over_parts([&](Part& part) { return part.loss(searches()); });
  }

  /// Before the forward pass, on a GPU with Options().concurrent(true): the search of the next loss() or
  /// accumulate_gradient() begins now, on a stream of its own. If a weight is changed in between, that call searches
  /// again. Elsewhere nothing is done.
  void start() {
    if (!options_.concurrent()) {
      return;
    }
    const detail::rows::FullPrecisionGuard guard;
    const at::NoGradGuard no_grad;
    update_parts();
    for (const auto& part : parts_) part->start(searches());
  }

  /// Adds scale * d loss()/d weight to each weight's .grad without an autograd graph, and returns loss() (no graph).
  /// The numbers are those of loss().backward(). Call it after the main loss's backward(), before the optimizer's step.
  /// Throws as loss() does.
  at::Tensor accumulate_gradient(double scale = 1.0) {
    const detail::rows::FullPrecisionGuard guard;
    update_parts();
    const at::NoGradGuard no_grad;
    return sum_over_parts([&](Part& part) { return part.accumulate(scale, searches()); });
  }

  /// The objective of each layer, without its coefficient and without a graph; 0 for layers that do not count. Random
  /// draws made for it are not missed by the training.
  std::vector<std::pair<std::string, at::Tensor>> layer_losses() {
    const detail::rows::FullPrecisionGuard guard;
    const at::NoGradGuard no_grad;
    const auto before = objective_state();
    std::vector<std::pair<std::string, at::Tensor>> result;
    for (const Layer& layer : layers_.in_use()) {
      result.emplace_back(layer.name, detail::layers::loss_of(*objective_, layer, options_));
    }
    load_objective_state(before);
    return result;
  }

  /// The angles of every layer, those that are not in the loss included, with the reason; and the module's matrices
  /// that no rule takes.
  Report report(const AngleOptions& options = {}) const {
    Report result{detail::layers::measure(layers_.current(), options_, options), {}};
    result.left_out = layers_.left_out();
    return result;
  }

  /// What a resumed run needs to go on bit for bit: the step, the neighbours that refresh_every keeps, and the
  /// objective's own state.
  std::map<std::string, at::Tensor> state() const {
    std::map<std::string, at::Tensor> result{{"step", at::scalar_tensor(step_, at::kLong)}};
    for (size_t k = 0; k < parts_.size(); ++k) {
      if (const at::Tensor nearest = parts_[k]->nearest(); nearest.defined()) {
        result.emplace(nearest_key(k), nearest.to(at::kCPU, at::kInt, false, true));
      }
    }
    for (const auto& [key, value] : objective_state()) result.emplace("objective." + key, value);
    return result;
  }

  /// Goes on from state(), for the same layers. Throws c10::Error for a state that lacks something.
  void load_state(const std::map<std::string, at::Tensor>& state) {
    const auto step = state.find("step");
    TORCH_CHECK(step != state.end() && step->second.numel() == 1,
                "mma: the regularizer's state has no 'step'; expected what Regularizer::state() returned.");
    step_ = step->second.item<int64_t>();
    loaded_nearest_.clear();
    std::map<std::string, at::Tensor> own;
    for (const auto& [key, value] : state) {
      if (key.starts_with("nearest.")) loaded_nearest_.emplace(key, value.clone());
      if (key.starts_with("objective.")) own.emplace(key.substr(10), value);
    }
    for (const auto& part : parts_) part->set_nearest({});
    take_loaded_nearest();
    load_objective_state(own);
  }

 private:
  using Part = detail::layers::Part;

  static std::string nearest_key(size_t part) { return "nearest." + std::to_string(part); }

  bool searches() const { return step_ % options_.refresh_every() == 0; }

  /// The parts' values on the first one's device; the next step begins.
  template <typename Value>
  at::Tensor sum_over_parts(const Value& value_of) {
    at::Tensor total;
    for (const auto& part : parts_) {
      const at::Tensor value = value_of(*part);
      total = total.defined() ? total + value.to(total.device()) : value;
    }
    ++step_;
    return total.defined() ? total : at::scalar_tensor(0.0, at::kFloat);
  }

  std::map<std::string, at::Tensor> objective_state() const {
    if constexpr (HasState<Objective>) {
      return objective_->state();
    } else {
      return {};
    }
  }

  void load_objective_state(const std::map<std::string, at::Tensor>& state) {
    if constexpr (HasState<Objective>) objective_->load_state(state);
  }

  /// Makes the parts where something about the layers has changed.
  void update_parts() {
    const at::AutoGradMode as_in_training(true);
    const std::vector<Layer>& layers = layers_.in_use();
    bool same = layers_.generation() == generation_;
    for (size_t k = 0; k < layers.size(); ++k) {
      const at::Tensor weight = layers[k].weight();
      detail::check_weight(weight, layers[k].layout, layers[k].name);
      same = same && signatures_[k].is_of(weight);
    }
    if (!same) {
      make_parts(layers);
    }
  }

  void make_parts(const std::vector<Layer>& layers) {
    // Neighbours stay where the layers do.
    const auto before = generation_ == layers_.generation() ? nearest_of_parts() : std::vector<at::Tensor>();
    generation_ = layers_.generation();
    signatures_.clear();
    for (const Layer& layer : layers) signatures_.emplace_back(layer.weight());
    parts_ = detail::layers::make_parts(detail::layers::terms_of(layers, options_), objective_,
                                        options_.refresh_every() > 1);
    for (size_t k = 0; k < std::min(before.size(), parts_.size()); ++k) parts_[k]->set_nearest(before[k]);
    take_loaded_nearest();
  }

  std::vector<at::Tensor> nearest_of_parts() const {
    std::vector<at::Tensor> result;
    for (const auto& part : parts_) result.push_back(part->nearest());
    return result;
  }

  /// The neighbours of a checkpoint, once there are parts to take them.
  void take_loaded_nearest() {
    if (parts_.empty() || loaded_nearest_.empty()) {
      return;
    }
    for (size_t k = 0; k < parts_.size(); ++k) {
      const auto found = loaded_nearest_.find(nearest_key(k));
      parts_[k]->set_nearest(found == loaded_nearest_.end() ? at::Tensor() : found->second);
    }
    loaded_nearest_.clear();
  }

  std::shared_ptr<Objective> objective_;
  Options options_;
  mutable detail::layers::ModuleLayers layers_;  ///< looks at the module, whoever asks
  int64_t generation_ = -1;                      ///< of the layers that the parts are of
  std::vector<detail::layers::Signature> signatures_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::map<std::string, at::Tensor> loaded_nearest_;  ///< until the parts are made
  int64_t step_ = 0;
};

}  // namespace mma
