#include "regularizer.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/modules/linear.h>
#include <mma/layer.hpp>
#include <mma/report.hpp>

#include <atomic>
#include <sstream>

#include "dispatch.hpp"
#include "errors.hpp"
#include "objectives.hpp"

namespace mma::python {
namespace {

/// A copied module of any kind: its parameters can be set for the length of a report.
template <typename Base>
class Copy : public Base {
 public:
  using Base::Base;

  void set_parameter(const std::string& name, const at::Tensor& tensor) { this->parameters_.insert(name, tensor); }
  void forget_parameters() { this->parameters_.clear(); }
};

using Container = Copy<torch::nn::Module>;

struct LayerCopy : Container {
  LayerCopy(const std::string& type, const WeightLayout& its_layout) : Container(type), layout(its_layout) {}

  at::Tensor weight;
  WeightLayout layout;
};

/// A linear one: the last of these is the output layer. LibTorch's own type, because the walk asks for that.
struct LinearCopy : Copy<torch::nn::LinearImpl> {
  explicit LinearCopy(const WeightLayout& its_layout)
      : Copy(torch::nn::LinearOptions(1, 1).bias(false)), layout(its_layout) {
    forget_parameters();
    weight.reset();
  }

  WeightLayout layout;
};

template <typename Type>
void teach() {
  register_layer<Type>([](const Type& layer) { return layer.weight; }, [](const Type& layer) { return layer.layout; });
}

void teach_copies() {
  static const bool once = [] {
    teach<LayerCopy>();
    teach<LinearCopy>();
    return true;
  }();
  (void)once;
}

std::shared_ptr<torch::nn::Module> copy_of(const Node& node) {
  const auto& [name, type, kind, transposed, groups] = node;
  const WeightLayout layout{.transposed = transposed, .groups = groups};
  if (kind == "linear") return std::make_shared<LinearCopy>(layout);
  if (kind == "layer") return std::make_shared<LayerCopy>(type, layout);
  return std::make_shared<Container>(type);
}

/// Where the copy of a layer holds its weight.
at::Tensor* slot_of(torch::nn::Module& copy) {
  if (auto* linear = dynamic_cast<LinearCopy*>(&copy)) return &linear->weight;
  if (auto* layer = dynamic_cast<LayerCopy*>(&copy)) return &layer->weight;
  return nullptr;
}

void set_parameter(torch::nn::Module& copy, const std::string& name, const at::Tensor& tensor) {
  if (auto* linear = dynamic_cast<LinearCopy*>(&copy)) return linear->set_parameter(name, tensor);
  dynamic_cast<Container&>(copy).set_parameter(name, tensor);
}

void forget_parameters(torch::nn::Module& copy) {
  if (auto* linear = dynamic_cast<LinearCopy*>(&copy)) return linear->forget_parameters();
  dynamic_cast<Container&>(copy).forget_parameters();
}

/// "layer1.0.conv" -> "layer1.0" and "conv".
std::pair<std::string, std::string> parent_and_own(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? std::pair(std::string(), name)
                                  : std::pair(name.substr(0, dot), name.substr(dot + 1));
}

bool is_alias(const at::Tensor& slot, const at::Tensor& weight, bool trained) {
  return slot.defined() && slot.is_leaf() && slot.requires_grad() == trained && slot.device() == weight.device() &&
         slot.scalar_type() == weight.scalar_type() && slot.sizes() == weight.sizes() &&
         slot.strides() == weight.strides() && slot.is_alias_of(weight) &&
         slot.storage_offset() == weight.storage_offset();
}

/// A leaf with the weight's memory. It stays the same while that does, so that the library sees the same weight.
void set_alias(at::Tensor& slot, const at::Tensor& weight, bool trained) {
  const bool plain = weight.defined() && weight.has_storage() && weight.layout() == c10::kStrided;
  if (!plain || !is_alias(slot, weight, trained)) {
    slot = weight.defined() ? weight.detach() : weight;
    if (trained) slot.requires_grad_();
  }
  if (slot.defined()) slot.mutable_grad().reset();
}

std::vector<bool> which_require_gradients(at::TensorList weights) {
  std::vector<bool> result;
  for (const at::Tensor& weight : weights) result.push_back(weight.requires_grad());
  return result;
}

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<Regularizer>> entries;

  static Registry& instance() {
    static Registry registry;
    return registry;
  }
};

std::string next_key() {
  static std::atomic<int64_t> count{0};
  return std::to_string(count++);
}

}  // namespace

Regularizer::Regularizer(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights,
                         const Options& options, AnyObjective objective)
    : key_(next_key()) {
  if (modules.empty()) {
    regularizer_ = std::make_unique<mma::Regularizer<AnyObjective>>(options, std::move(objective));
    return;
  }
  teach_copies();
  root_ = copy_of(modules.front());
  rebuild(modules, weights);
  regularizer_ = std::make_unique<mma::Regularizer<AnyObjective>>(*root_, std::move(objective), options);
}

void Regularizer::rebuild(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights) {
  for (const auto& child : root_->named_children()) root_->unregister_module(child.key());
  std::map<std::string, torch::nn::Module*> by_name{{"", root_.get()}};
  modules_ = {root_.get()};
  slots_.clear();
  layer_names_.clear();
  type_names_.clear();
  for (size_t k = 0; k < modules.size(); ++k) {
    const std::string& name = std::get<0>(modules[k]);
    type_names_[name] = std::get<1>(modules[k]);
    if (k > 0) {
      const auto [parent, own] = parent_and_own(name);
      modules_.push_back(by_name.at(parent)->register_module(own, copy_of(modules[k])).get());
      by_name[name] = modules_.back();
    }
    if (at::Tensor* slot = slot_of(*modules_.back())) {
      slots_.push_back(slot);
      layer_names_.push_back(name.empty() ? "(module)" : name);
    }
  }
  for (const auto& slot : added_) slots_.push_back(&slot->weight);
  TORCH_CHECK(weights.size() == slots_.size(), "mma: ", weights.size(), " weights of ", slots_.size(), " layers.");
  for (size_t k = 0; k < slots_.size(); ++k) set_alias(*slots_[k], weights[k], weights[k].requires_grad());
}

void Regularizer::set_modules(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights) {
  const std::lock_guard guard(mutex_);
  with_value_errors([&] { rebuild(modules, weights); });
}

void Regularizer::add(const std::string& name, const at::Tensor& weight, bool transposed, int64_t groups,
                      std::optional<double> coefficient) {
  const std::lock_guard guard(mutex_);
  with_value_errors([&] {
    auto slot = std::make_shared<Slot>();
    set_alias(slot->weight, weight, weight.requires_grad());
    regularizer_->add(
        name, [slot] { return slot->weight; }, {.transposed = transposed, .groups = groups}, coefficient);
    added_.push_back(slot);
    slots_.push_back(&slot->weight);
  });
}

std::vector<size_t> Regularizer::chosen() {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    const auto& layers = regularizer_->layers();
    chosen_.clear();
    size_t k = 0;
    for (size_t found = 0; found < layer_names_.size() && k + added_.size() < layers.size(); ++found) {
      if (layers[k].name == layer_names_[found]) {
        chosen_.push_back(found);
        ++k;
      }
    }
    for (size_t a = 0; a < added_.size(); ++a) chosen_.push_back(layer_names_.size() + a);
    forget_others();
    return chosen_;
  });
}

std::vector<std::string> Regularizer::names() {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    std::vector<std::string> result;
    for (const Layer& layer : regularizer_->layers()) result.push_back(layer.name);
    return result;
  });
}

/// Weights of layers that the options leave out are not kept alive.
void Regularizer::forget_others() {
  std::vector<bool> used(slots_.size());
  for (const size_t k : chosen_) used[k] = true;
  for (size_t k = 0; k < slots_.size(); ++k) {
    if (!used[k]) slots_[k]->reset();
  }
}

void Regularizer::set_weights(at::TensorList weights, const std::vector<bool>& trained) {
  TORCH_CHECK(weights.size() == chosen_.size() && trained.size() == chosen_.size(), "mma: ", weights.size(),
              " weights of ", chosen_.size(), " layers.");
  for (size_t k = 0; k < chosen_.size(); ++k) set_alias(*slots_[chosen_[k]], weights[k], trained[k]);
}

void Regularizer::set_weights(at::TensorList weights) { set_weights(weights, which_require_gradients(weights)); }

std::pair<at::Tensor, std::vector<at::Tensor>> Regularizer::loss(at::TensorList weights,
                                                                 const std::vector<bool>& trained, bool with_gradient) {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    set_weights(weights, trained);
    before_ = regularizer_->objective().state();
    std::vector<at::Tensor> gradients;
    if (!with_gradient) {
      const at::NoGradGuard no_grad;
      return std::pair(regularizer_->loss(), std::move(gradients));
    }
    const at::Tensor value = regularizer_->accumulate_gradient();
    for (size_t k = 0; k < chosen_.size(); ++k) {
      at::Tensor& gradient = slots_[chosen_[k]]->mutable_grad();
      gradients.push_back(gradient.defined() ? gradient
                          : trained[k]       ? at::zeros_like(weights[k])
                                             : at::empty({0}, weights[k].options()));
      gradient.reset();
    }
    return std::pair(value, std::move(gradients));
  });
}

std::vector<at::Tensor> Regularizer::hessian_product(at::TensorList weights, const std::vector<bool>& trained,
                                                     const std::vector<at::Tensor>& directions) {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    set_weights(weights, trained);
    const State now = regularizer_->state();
    regularizer_->objective().load_state(before_);
    const at::Tensor value = regularizer_->loss();
    regularizer_->load_state(now);
    std::vector<at::Tensor> leaves, along, result;
    for (size_t k = 0; k < chosen_.size(); ++k) {
      if (!trained[k]) continue;
      leaves.push_back(*slots_[chosen_[k]]);
      along.push_back(directions[k]);
    }
    const std::vector<at::Tensor> products = python::hessian_product(value, leaves, along);
    for (size_t k = 0, leaf = 0; k < chosen_.size(); ++k) {
      result.push_back(trained[k] ? at::empty_like(weights[k]).copy_(products[leaf++])
                                  : at::empty({0}, weights[k].options()));
    }
    return result;
  });
}

at::Tensor Regularizer::accumulate_gradient(const std::vector<at::Tensor>& weights, double scale) {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    set_weights(weights);
    for (size_t k = 0; k < chosen_.size(); ++k) {
      if (weights[k].requires_grad()) slots_[chosen_[k]]->mutable_grad() = weights[k].grad();
    }
    const at::Tensor value = regularizer_->accumulate_gradient(scale);
    for (size_t k = 0; k < chosen_.size(); ++k) {
      at::Tensor& gradient = slots_[chosen_[k]]->mutable_grad();
      if (gradient.defined() && !weights[k].grad().defined()) weights[k].mutable_grad() = gradient;
      gradient.reset();
    }
    return value;
  });
}

void Regularizer::start(const std::vector<at::Tensor>& weights) {
  const std::lock_guard guard(mutex_);
  with_value_errors([&] {
    set_weights(weights);
    regularizer_->start();
  });
}

std::vector<std::pair<std::string, at::Tensor>> Regularizer::layer_losses(const std::vector<at::Tensor>& weights) {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    set_weights(weights);
    return regularizer_->layer_losses();
  });
}

std::pair<std::string, std::string> Regularizer::report(
    const std::vector<at::Tensor>& all_weights,
    const std::vector<std::tuple<size_t, std::string, at::Tensor>>& parameters, double cosine_threshold,
    int64_t histogram_bins) {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] {
    for (size_t k = 0; k < slots_.size(); ++k) set_alias(*slots_[k], all_weights[k], all_weights[k].requires_grad());
    for (const auto& [module, name, tensor] : parameters) set_parameter(*modules_[module], name, tensor);
    Report report = regularizer_->report({.cosine_threshold = cosine_threshold, .histogram_bins = histogram_bins});
    for (torch::nn::Module* module : modules_) forget_parameters(*module);
    forget_others();
    name_types(report);
    std::ostringstream table;
    table << report;
    return std::pair(as_python_says(table.str()), report.json());
  });
}

/// A linear layer's copy cannot have the name of another type.
void Regularizer::name_types(Report& report) const {
  for (LeftOut& matrix : report.left_out) {
    const auto found = type_names_.find(parent_and_own(matrix.name).first);
    if (found != type_names_.end()) matrix.module = found->second;
  }
}

State Regularizer::state() {
  const std::lock_guard guard(mutex_);
  return with_value_errors([&] { return regularizer_->state(); });
}

void Regularizer::load_state(const State& state) {
  const std::lock_guard guard(mutex_);
  with_value_errors([&] { regularizer_->load_state(state); });
}

std::shared_ptr<Regularizer> new_regularizer(const std::vector<Node>& modules, const std::vector<at::Tensor>& weights,
                                             const Options& options, const std::string& objective,
                                             const std::vector<double>& numbers) {
  auto result = with_value_errors(
      [&] { return std::make_shared<Regularizer>(modules, weights, options, objective_of(objective, numbers)); });
  Registry& registry = Registry::instance();
  const std::lock_guard guard(registry.mutex);
  std::erase_if(registry.entries, [](const auto& entry) { return entry.second.expired(); });
  registry.entries[result->key()] = result;
  return result;
}

std::shared_ptr<Regularizer> regularizer_by_key(const std::string& key) {
  Registry& registry = Registry::instance();
  const std::lock_guard guard(registry.mutex);
  const auto found = registry.entries.find(key);
  auto result = found == registry.entries.end() ? nullptr : found->second.lock();
  TORCH_CHECK(result, "mma: the Regularizer of this graph is gone; expected it to live as long as what was compiled.");
  return result;
}

}  // namespace mma::python
