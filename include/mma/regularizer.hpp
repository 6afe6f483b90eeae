// mma::Regularizer<Objective>: sum over layers of coefficient * objective(rows of the layer) (Eq 13). Walks a module
// once, stays in step with it, takes layers of equal shape in one batch, and gives a loss term or adds its gradient.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "angles.hpp"
#include "detail/full_precision.hpp"
#include "detail/network_loss.hpp"
#include "layer_selection.hpp"
#include "objective.hpp"
#include "objectives/minimal_angle.hpp"
#include "weight_matrix.hpp"

namespace mma {

namespace detail {

/// Stacking copies: worth it for small matrices, where the calls cost more than the numbers.
inline constexpr int64_t largest_stacked_matrix = int64_t{1} << 17;

/// Layers of equal shape, type and device, that go through the objective in one batch of matrices.
struct Bucket {
  std::vector<size_t> layers;
  std::vector<double> coefficients;
  std::vector<int64_t> sizes;  ///< of each layer's rows [groups, n, d]
  at::Tensor weights;          ///< [layers, 1]: coefficients on the bucket's device, in its computing type
};

/// What decides how layers are bucketed: when none of it changed, neither did the buckets.
struct LayerSignature {
  const void* tensor = nullptr;
  const void* data = nullptr;
  std::vector<int64_t> sizes, strides;
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  bool trained = false;

  bool operator==(const LayerSignature&) const = default;
};

/// Layers whose nearest pairs are found in one pass.
struct NetworkPart {
  std::vector<size_t> layers;
  std::shared_ptr<NetworkLoss> loss;
  std::vector<std::vector<int64_t>> sizes;  ///< of the layers' weights
  at::Tensor nearest;                       ///< what the last search found
};

}  // namespace detail

/// The regularizer of a module. It shares ownership of the module's layers, so it may outlive the module; weights
/// changed in place, by to(device), by load, or by assigning a layer's member are seen at the next call.
/// Not thread-safe; one instance a training loop.
template <typename Objective = MinimalAngle>
class Regularizer {
  static_assert(ObjectiveFunction<Objective>,
                "mma::Regularizer<Objective>: an Objective is called as Tensor(Tensor rows /*[b,n,d]*/, Tensor usable "
                "/*[b,n] bool*/) and returns one value for each matrix, [b]");

 public:
  /// Chooses the module's layers. Throws c10::Error for an option that names no layer.
  explicit Regularizer(torch::nn::Module& module, const Options& options = {})
      : Regularizer(module, Objective{}, options) {}

  Regularizer(torch::nn::Module& module, Objective objective, const Options& options = {})
      : objective_(std::move(objective)), options_(options), layers_(detail::select_layers(module, options)) {
    detail::check_numbers(options_);
    check_layers();
  }

  /// Without a module: for tensors added by hand.
  explicit Regularizer(const Options& options, Objective objective = {})
      : objective_(std::move(objective)), options_(options) {
    detail::check_numbers(options_);
  }

  /// Adds a tensor whose rows are to be kept apart: an RNN's or attention's weight, a matrix of prototypes. Scope and
  /// include/exclude do not apply; coefficients by name do. Throws c10::Error for a tensor without rows.
  Regularizer& add(const std::string& name, const at::Tensor& weight, const WeightLayout& layout = {}) {
    return add(
        name, [weight] { return weight; }, layout);
  }

  /// The same for a tensor that is looked up at each call, such as a member that is assigned anew.
  Regularizer& add(const std::string& name, std::function<at::Tensor()> weight, const WeightLayout& layout = {}) {
    layers_.push_back({name, std::move(weight), layout, detail::coefficient_of(name, options_)});
    layers_.back().rows();  // throws
    return *this;
  }

  /// The layers, in the module's order, then those added by hand.
  const std::vector<Layer>& layers() const { return layers_; }

  Objective& objective() { return objective_; }

  /// sum_l coefficient_l * objective(layer l), a scalar with an autograd graph to the weights. Frozen layers, tied
  /// weights' second occurrences and layers with fewer than two rows do not count. Of a grouped convolution the mean
  /// over its groups counts, weighted by their usable rows, whether the objective is itself a mean or a sum.
  at::Tensor loss() {
    const detail::FullPrecisionGuard guard;
    update_buckets();
    at::Tensor total;
    for (detail::NetworkPart& part : parts_) {
      const std::vector<at::Tensor> weights = weights_of(part);
      detail::FoundPairs found;
      found.nearest = kept_nearest(part);
      add_to(total, detail::NetworkLossFunction::apply(part.loss, &found, at::TensorList(weights)));
      keep_nearest(part, found);
    }
    for (const detail::Bucket& bucket : buckets_) {
      const Batch batch = gather(bucket);
      at::Tensor values = detail::values_of(objective_, batch.rows, batch.usable);
      add_to(total, at::where(batch.shares != 0, values * batch.shares, 0.0).sum());
    }
    ++step_;
    return total.defined() ? total : at::scalar_tensor(0.0, at::kFloat);
  }

  /// Before the forward pass, on a GPU with Options().concurrent(true): the search of the next loss() or
  /// accumulate_gradient() begins now, on a stream of its own. If a weight is changed in between, that call searches
  /// again. Elsewhere nothing is done.
  void start() {
    if (!options_.concurrent()) {
      return;
    }
    const detail::FullPrecisionGuard guard;
    const at::NoGradGuard no_grad;
    update_buckets();
    for (detail::NetworkPart& part : parts_) {
      part.loss->start(weights_of(part), kept_nearest(part));
    }
  }

  /// Adds scale * d loss()/d weight to each weight's .grad without an autograd graph, and returns loss() (no graph).
  /// The numbers are those of loss().backward(). Call it after the main loss's backward(), before the optimizer's step.
  at::Tensor accumulate_gradient(double scale = 1.0) {
    const detail::FullPrecisionGuard guard;
    update_buckets();
    check_leaves();
    const at::NoGradGuard no_grad;
    at::Tensor total;
    for (detail::NetworkPart& part : parts_) {
      const detail::FoundPairs found = part.loss->accumulate(weights_of(part), scale, kept_nearest(part));
      add_to(total, found.value);
      keep_nearest(part, found);
    }
    for (const detail::Bucket& bucket : buckets_) {
      const Batch batch = gather(bucket);
      const auto [values, gradient] =
          detail::value_and_gradient(objective_, batch.rows, batch.usable, batch.shares * scale);
      add_to(total, at::where(batch.shares != 0, values * batch.shares, 0.0).sum());
      scatter(bucket, gradient);
    }
    ++step_;
    return total.defined() ? total : at::scalar_tensor(0.0, at::kFloat);
  }

  /// The objective of each layer, without its coefficient and without a graph; 0 for layers that do not count. Random
  /// draws made for it are not missed by the training.
  std::vector<std::pair<std::string, at::Tensor>> layer_losses() {
    const detail::FullPrecisionGuard guard;
    const at::NoGradGuard no_grad;
    const auto before = state();
    std::vector<std::pair<std::string, at::Tensor>> result;
    for (const Layer& layer : layers_) {
      const at::Tensor rows = detail::in_computing_type(layer.rows());
      if (!skip_reason(layer.weight(), rows).empty()) {
        result.emplace_back(layer.name, at::scalar_tensor(0.0, rows.options()));
        continue;
      }
      const at::Tensor usable = detail::usable_rows(rows);
      const at::Tensor shares = detail::group_shares(usable.unsqueeze(0)).squeeze(0).to(rows.scalar_type());
      const at::Tensor values = detail::values_of(objective_, rows, usable);
      result.emplace_back(layer.name, at::where(shares > 0, values * shares, 0.0).sum());
    }
    load_state(before);
    return result;
  }

  /// The angles of every layer, those that are not in the loss included, with the reason.
  Report report(const AngleOptions& options = {}) const {
    const at::AutoGradMode as_in_training(true);
    Report result;
    std::map<TensorKey, std::string> seen;
    for (const Layer& layer : layers_) {
      const at::Tensor weight = layer.weight();
      const at::Tensor rows = layer.rows();
      LayerAngles angles = measure_angles(layer.name, rows, options);
      const auto [first, is_first] = seen.emplace(key_of(weight), layer.name);
      std::string reason = is_first ? skip_reason(weight, rows) : "tied to " + first->second;
      if (angles.note.empty()) {
        angles.note = std::move(reason);
      } else if (!reason.empty() && reason != angles.note) {
        angles.note += ", " + reason;
      }
      angles.coefficient = layer.coefficient;
      result.layers.push_back(std::move(angles));
    }
    return result;
  }

  /// What a resumed run needs to go on bit for bit: the step, the neighbours that refresh_every keeps, and the
  /// objective's own state.
  std::map<std::string, at::Tensor> state() const {
    std::map<std::string, at::Tensor> result{{"step", at::scalar_tensor(step_, at::kLong)}};
    for (size_t k = 0; options_.refresh_every() > 1 && k < parts_.size(); ++k) {
      if (parts_[k].nearest.defined()) {
        result.emplace("nearest." + std::to_string(k), parts_[k].nearest.to(at::kCPU, at::kInt, false, true));
      }
    }
    if constexpr (HasState<Objective>) {
      for (const auto& [key, value] : const_cast<Objective&>(objective_).state()) {
        result.emplace("objective." + key, value);
      }
    }
    return result;
  }

  /// Throws c10::Error for a state that lacks something.
  void load_state(const std::map<std::string, at::Tensor>& state) {
    const auto step = state.find("step");
    TORCH_CHECK(step != state.end() && step->second.numel() == 1,
                "mma: the regularizer's state has no 'step'; expected what Regularizer::state() returned.");
    step_ = step->second.item<int64_t>();
    loaded_nearest_.clear();
    for (size_t k = 0; state.contains("nearest." + std::to_string(k)); ++k) {
      loaded_nearest_.push_back(state.at("nearest." + std::to_string(k)).clone());
    }
    signatures_.clear();
    parts_.clear();
    if constexpr (HasState<Objective>) {
      std::map<std::string, at::Tensor> own;
      for (const auto& [key, value] : state) {
        if (key.rfind("objective.", 0) == 0) {
          own.emplace(key.substr(10), value);
        }
      }
      objective_.load_state(own);
    }
  }

 private:
  /// A weight by what it holds: the same tensor twice, or two that share their memory in the same way.
  using TensorKey = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>>;

  static TensorKey key_of(const at::Tensor& weight) {
    const void* data = weight.numel() > 0 ? weight.const_data_ptr() : weight.unsafeGetTensorImpl();
    return {data, weight.sizes().vec(), weight.strides().vec()};
  }

  /// The matrices of a bucket: rows [b, n, d] in the computing type, usable [b, n], and what each matrix weighs in the
  /// loss [b]: its layer's coefficient times its share of the layer's usable rows.
  struct Batch {
    at::Tensor rows, usable, shares;
  };

  void check_layers() const {
    for (const Layer& layer : layers_) {
      detail::check_weight(layer.weight(), layer.layout, layer.name);
    }
  }

  bool searches() const { return step_ % options_.refresh_every() == 0; }

  /// The neighbours that this step takes from an earlier one; undefined when it searches.
  at::Tensor kept_nearest(const detail::NetworkPart& part) const { return searches() ? at::Tensor() : part.nearest; }

  /// For the steps to come. What a step without a search gives is not kept: in a CUDA graph that memory is the graph's.
  void keep_nearest(detail::NetworkPart& part, const detail::FoundPairs& found) const {
    if (options_.refresh_every() > 1 && (searches() || !part.nearest.defined())) {
      part.nearest = found.nearest;
    }
  }

  std::vector<at::Tensor> weights_of(const detail::NetworkPart& part) const {
    std::vector<at::Tensor> result;
    for (const size_t k : part.layers) {
      result.push_back(layers_[k].weight());
    }
    return result;
  }

  /// accumulate_gradient writes to .grad, which a weight computed from other tensors does not have.
  void check_leaves() const {
    const at::AutoGradMode as_in_training(true);
    const auto check = [&](const std::vector<size_t>& layers) {
      for (const size_t k : layers) {
        TORCH_CHECK(layers_[k].weight().is_leaf(), "mma: layer '", layers_[k].name,
                    "' has a weight that is computed from other tensors; expected a leaf, or use loss() for it.");
      }
    };
    for (const detail::Bucket& bucket : buckets_) check(bucket.layers);
    for (const detail::NetworkPart& part : parts_) check(part.layers);
  }

  /// Why a layer is not in the loss; empty when it is.
  std::string skip_reason(const at::Tensor& weight, const at::Tensor& rows) const {
    if (!weight.requires_grad()) {
      return "frozen";
    }
    if (rows.size(1) < 2 || rows.size(2) == 0) {
      return "fewer than 2 rows";
    }
    if (rows.size(1) < options_.minimum_rows()) {
      return "fewer than " + std::to_string(options_.minimum_rows()) + " rows";
    }
    return "";
  }

  /// Groups the layers that count by shape, type and device; only when something about them changed.
  void update_buckets() {
    const at::AutoGradMode as_in_training(true);  // a computed weight is not frozen because the caller needs no graph
    std::vector<detail::LayerSignature> signatures;
    for (const Layer& layer : layers_) {
      const at::Tensor weight = layer.weight();
      detail::check_weight(weight, layer.layout, layer.name);
      const bool leaf = weight.is_leaf();  // else it is computed anew at each step
      signatures.push_back({leaf ? weight.unsafeGetTensorImpl() : nullptr, leaf ? std::get<0>(key_of(weight)) : nullptr,
                            weight.sizes().vec(), weight.strides().vec(), weight.scalar_type(), weight.device(),
                            weight.requires_grad()});
    }
    if (signatures == signatures_) {
      return;
    }
    signatures_ = std::move(signatures);
    make_buckets();
  }

  void make_buckets() {
    buckets_.clear();
    const std::vector<size_t> layers = share_of(counting_layers());
    const std::optional<detail::PairObjective> pairs = detail::pair_objective_of(objective_);
    std::vector<size_t> in_parts, in_buckets;
    for (const size_t k : layers) {
      (pairs && detail::NetworkLoss::supports(layers_[k].weight(), options_.search_precision()) ? in_parts : in_buckets)
          .push_back(k);
    }
    make_parts(in_parts, pairs.value_or(detail::PairObjective{}));
    for (const size_t k : in_buckets) {
      put_into_bucket(k);
    }
  }

  /// The layers in the loss, tied weights once.
  std::vector<size_t> counting_layers() const {
    std::vector<size_t> result;
    std::map<TensorKey, size_t> seen;
    for (size_t k = 0; k < layers_.size(); ++k) {
      const at::Tensor weight = layers_[k].weight();
      if (skip_reason(weight, layers_[k].rows().detach()).empty() && seen.emplace(key_of(weight), k).second) {
        result.push_back(k);
      }
    }
    return result;
  }

  /// Those of them that this process takes: the costliest first, each to the process with the least to do.
  std::vector<size_t> share_of(std::vector<size_t> layers) const {
    std::vector<double> cost(layers_.size());
    for (const size_t k : layers) {
      const at::Tensor rows = layers_[k].rows().detach();
      const auto n = static_cast<double>(rows.size(1));
      cost[k] = static_cast<double>(rows.numel()) * (n / 2 + 8);  // half the cosines; reading, angles, gradient
    }
    std::stable_sort(layers.begin(), layers.end(), [&](size_t a, size_t b) { return cost[a] > cost[b]; });
    std::vector<double> load(static_cast<size_t>(options_.world_size()));
    std::vector<size_t> own;
    for (const size_t k : layers) {
      const auto least = std::min_element(load.begin(), load.end());
      if (least - load.begin() == options_.rank()) {
        own.push_back(k);
      }
      *least += cost[k];
    }
    std::sort(own.begin(), own.end());
    return own;
  }

  /// A layer's lambda, times the number of processes among which the layers are shared.
  double factor_of(size_t k) const { return layers_[k].coefficient * static_cast<double>(options_.world_size()); }

  /// Layers of one device and type go together. What was found before stays where the layers are the same.
  void make_parts(const std::vector<size_t>& layers, const detail::PairObjective& objective) {
    std::vector<at::Tensor> kept = std::move(loaded_nearest_);
    loaded_nearest_.clear();
    const std::vector<detail::NetworkPart> before = std::move(parts_);
    parts_.clear();
    std::map<std::pair<at::ScalarType, std::string>, size_t> part_of;
    for (const size_t k : layers) {
      const at::Tensor weight = layers_[k].weight();
      const at::ScalarType type = detail::NetworkLoss::row_type(weight);
      const auto [place, is_new] = part_of.try_emplace({type, weight.device().str()}, parts_.size());
      if (is_new) {
        parts_.emplace_back();
      }
      parts_[place->second].layers.push_back(k);
      parts_[place->second].sizes.push_back(weight.sizes().vec());
    }
    for (size_t p = 0; p < parts_.size(); ++p) {
      detail::NetworkPart& part = parts_[p];
      std::vector<detail::NetworkLayer> members;
      for (const size_t k : part.layers) {
        members.push_back({layers_[k].name, layers_[k].weight(), layers_[k].layout, factor_of(k)});
      }
      part.loss = std::make_shared<detail::NetworkLoss>(members, objective, options_.search_precision());
      const bool same = p < before.size() && before[p].layers == part.layers && before[p].sizes == part.sizes;
      part.nearest = p < kept.size() ? part.loss->checked_nearest(kept[p]) : same ? before[p].nearest : at::Tensor();
    }
  }

  /// With the others of its shape, type and device.
  void put_into_bucket(size_t k) {
    const at::Tensor weight = layers_[k].weight(), rows = layers_[k].rows().detach();
    const bool stacked = rows.size(1) * rows.size(2) <= detail::largest_stacked_matrix;
    const auto type = detail::in_computing_type(rows).scalar_type();
    const auto fits = [&](const detail::Bucket& bucket) {
      return stacked && bucket.sizes == rows.sizes() && bucket.weights.scalar_type() == type &&
             bucket.weights.device() == weight.device();
    };
    auto bucket = std::find_if(buckets_.begin(), buckets_.end(), fits);
    if (bucket == buckets_.end()) {
      bucket = buckets_.insert(buckets_.end(), detail::Bucket{});
      bucket->sizes = rows.sizes().vec();
    }
    bucket->layers.push_back(k);
    bucket->coefficients.push_back(factor_of(k));
    bucket->weights = at::tensor(bucket->coefficients, rows.options().dtype(type)).unsqueeze(1);
  }

  Batch gather(const detail::Bucket& bucket) const {
    std::vector<at::Tensor> parts;
    for (const size_t k : bucket.layers) {
      parts.push_back(detail::in_computing_type(layers_[k].rows()));
    }
    const auto count = static_cast<int64_t>(parts.size());
    const at::Tensor rows = parts.size() == 1 ? parts.front() : at::cat(parts);
    const at::Tensor usable = detail::usable_rows(rows);
    const at::Tensor shares = detail::group_shares(usable.reshape({count, bucket.sizes[0], -1})).to(rows.scalar_type());
    return {rows, usable, (shares * bucket.weights).reshape(-1)};
  }

  static void add_to(at::Tensor& total, const at::Tensor& value) {
    total = total.defined() ? total + value.to(total.device()) : value;
  }

  /// Adds the gradient [b, n, d] of a bucket's matrices to the .grad of its weights.
  void scatter(const detail::Bucket& bucket, const at::Tensor& gradient) const {
    for (size_t k = 0; k < bucket.layers.size(); ++k) {
      const Layer& layer = layers_[bucket.layers[k]];
      const at::Tensor weight = layer.weight();
      const at::Tensor part = detail::rows_to_weight(
          gradient.narrow(0, static_cast<int64_t>(k) * bucket.sizes[0], bucket.sizes[0]), weight, layer.layout);
      detail::add_to_grad(weight, part);
    }
  }

  Objective objective_;
  Options options_;
  std::vector<Layer> layers_;
  std::vector<detail::LayerSignature> signatures_;
  std::vector<detail::NetworkPart> parts_;
  std::vector<detail::Bucket> buckets_;
  std::vector<at::Tensor> loaded_nearest_;  ///< of each part, until the parts are made
  int64_t step_ = 0;
};

}  // namespace mma
