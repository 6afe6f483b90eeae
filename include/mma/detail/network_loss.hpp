// The loss of many layers over pairs of nearest rows as one term: takes the weights as rows, in place where their
// memory allows it, runs the device's pass over all of them, and is one node of the autograd graph.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../weight_matrix.hpp"
#include "cpu_network.hpp"
#include "cuda_network.hpp"
#include "full_precision.hpp"
#include "nearest_pairs.hpp"
#include "network_pairs.hpp"
#include "row_norms.hpp"
#include "side_stream.hpp"

namespace mma::detail {

/// Adds to .grad, or makes it.
inline void add_to_grad(const at::Tensor& weight, const at::Tensor& part) {
  at::Tensor& grad = weight.mutable_grad();
  if (grad.defined()) {
    grad.add_(part);
  } else {
    grad = part;
  }
}

/// A layer of a NetworkLoss.
struct NetworkLayer {
  std::string name;
  at::Tensor weight;  ///< as it was when the pass was made
  WeightLayout layout;
  double coefficient = 0;
};

/// Layers of one device and type of rows. Made anew when a weight's memory, shape or type changes.
class NetworkLoss {
 public:
  NetworkLoss(const std::vector<NetworkLayer>& layers, const PairObjective& objective,
              SearchPrecision precision = SearchPrecision::Float32) {
    PairPlan plan;
    plan.objective = objective;
    for (const NetworkLayer& layer : layers) {
      sources_.push_back(source_of(layer));
      const Source& source = sources_.back();
      append_matrices(source.copy.defined() ? source.copy : rows_in_place(layer.weight.detach(), source),
                      sources_.size() - 1, plan.matrices);
      plan.coefficients.push_back(layer.coefficient);
    }
    plan_ = plan;
    network_ = make_network(std::move(plan), precision);
  }

  ~NetworkLoss() { forget_start(); }
  NetworkLoss(const NetworkLoss&) = delete;
  NetworkLoss& operator=(const NetworkLoss&) = delete;

  /// The type in which a weight's rows are read: the GPU's kernels take half precision as it is.
  static at::ScalarType row_type(const at::Tensor& weight) {
    return weight.is_cuda() ? weight.scalar_type() : in_computing_type_of(weight);
  }

  /// Whether there is a pass for the device and type of this weight.
  static bool supports(const at::Tensor& weight, SearchPrecision precision) {
    return weight.is_cpu() || CudaNetwork::available(weight.device(), row_type(weight), precision);
  }

  /// Neighbours from a checkpoint, if they can be of these layers; else undefined.
  at::Tensor checked_nearest(const at::Tensor& nearest) const {
    const at::Tensor host = nearest.to(at::kCPU, at::kInt).reshape({-1}).contiguous();
    const auto* index = host.const_data_ptr<int32_t>();
    int64_t row = 0;
    for (const PairMatrix& matrix : plan_.matrices) {
      const int64_t n = matrix.rows.size(0);
      for (int64_t r = 0; r < n; ++r, ++row) {
        if (row >= host.numel() || index[row] < 0 || index[row] >= n) {
          return {};
        }
      }
    }
    return row == host.numel() ? host.to(plan_.matrices.front().rows.device()) : at::Tensor();
  }

  /// find() begins now, on a stream of its own; the next find() or accumulate() of the same weights takes it. On a CPU
  /// nothing is begun.
  void start(at::TensorList weights, const at::Tensor& nearest) {
    const c10::Device device = plan_.matrices.front().rows.device();
    if (device.is_cpu()) {
      return;
    }
    forget_start();
    if (!side_) {
      side_ = std::make_unique<SideStream>(device);
    }
    side_->run([&] {
      take_copies(weights);
      started_ = {network_->find(nearest), versions_of(weights)};
    });
  }

  FoundPairs find(at::TensorList weights, const at::Tensor& nearest) {
    if (std::optional<FoundPairs> found = take_started(weights)) {
      return *std::move(found);
    }
    take_copies(weights);
    return network_->find(nearest);
  }

  /// Adds scale * d value/d weight to each weight's .grad.
  FoundPairs accumulate(at::TensorList weights, double scale, const at::Tensor& nearest) {
    std::optional<FoundPairs> started = take_started(weights);
    if (!started) {
      take_copies(weights);
    }
    std::vector<at::Tensor> gradients;
    for (size_t k = 0; k < sources_.size(); ++k) {
      append_groups(gradient_target(weights[k], sources_[k]), gradients);
    }
    FoundPairs found;
    if (started) {
      found = *std::move(started);
      network_->add_gradient(found, gradients, {}, scale);
    } else {
      found = network_->find_and_add_gradient(gradients, scale, nearest);
    }
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].gradient.defined()) {
        add_to_grad(weights[k], as_weight(sources_[k].gradient, weights[k], sources_[k]));
      }
    }
    return found;
  }

  /// factor * d value/d weight of each weight, without a graph. All in one piece of memory, which is set to zero at
  /// once.
  std::vector<at::Tensor> gradients(const FoundPairs& found, at::TensorList weights, const at::Tensor& factor) {
    take_copies(weights);  // another step's may be there
    const at::Tensor memory = at::zeros({gradient_numbers()}, plan_.matrices.front().rows.options());
    std::vector<at::Tensor> rows, matrices;
    int64_t begin = 0;
    for (const Source& source : sources_) {
      rows.push_back(memory.narrow(0, begin, source.numel()).view(source.sizes));
      append_groups(rows.back(), matrices);
      begin += aligned(source.numel());
    }
    network_->add_gradient(found, matrices, factor, 1);
    std::vector<at::Tensor> results;
    for (size_t k = 0; k < sources_.size(); ++k) {
      results.push_back(as_weight(rows[k], weights[k], sources_[k]));
    }
    return results;
  }

  /// The same, differentiable in the weights and the factor.
  std::vector<at::Tensor> differentiable_gradients(const FoundPairs& found, at::TensorList weights,
                                                   const at::Tensor& factor) const {
    std::vector<at::Tensor> results;
    int64_t begin = 0;
    for (size_t k = 0; k < sources_.size(); ++k) {
      const std::vector<int64_t>& sizes = sources_[k].sizes;
      const int64_t count = sizes[0] * sizes[1];
      const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, count).view({sizes[0], sizes[1]}); };
      const at::Tensor rows = in_computing_type(weight_rows(weights[k], sources_[k].layout, sources_[k].name));
      const at::Tensor usable = part(found.norms).lt(zero_norm).logical_not();
      const at::Tensor shares = group_shares(usable.unsqueeze(0)).reshape(-1);
      const at::Tensor per_matrix = factor.to(at::kDouble) * shares * plan_.coefficients[k];
      const at::Tensor nearest = part(found.nearest).to(at::kLong);
      const at::Tensor angles = part(found.angles), norms = part(found.norms);
      const PairChoice& choice = plan_.objective.choice;
      const at::Tensor gradient =
          plan_.objective.function == PairFunction::Cosine
              ? NearestPairs<CosineOfAngle>::gradient(rows, usable, {{}, nearest, angles, norms}, per_matrix, choice)
              : NearestPairs<MinusAngle>::gradient(rows, usable, {{}, nearest, angles, norms}, per_matrix, choice);
      results.push_back(rows_to_weight(gradient, weights[k], sources_[k].layout));
      begin += count;
    }
    return results;
  }

 private:
  struct Source {
    std::string name;
    WeightLayout layout;
    std::vector<int64_t> sizes;  ///< [groups, n, d]
    at::Tensor copy;             ///< of the rows, in the rows' type; undefined where the weight's memory is taken
    at::Tensor gradient;         ///< where .grad cannot be added to in place

    int64_t numel() const { return sizes[0] * sizes[1] * sizes[2]; }
  };

  /// What start() found, and the weights' versions then.
  struct Started {
    FoundPairs found;
    std::vector<uint32_t> versions;
  };

  static at::ScalarType in_computing_type_of(const at::Tensor& weight) {
    return weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  }

  /// Gradients start at whole cache lines.
  static int64_t aligned(int64_t numbers) { return (numbers + 63) / 64 * 64; }

  int64_t gradient_numbers() const {
    int64_t result = 0;
    for (const Source& source : sources_) {
      result += aligned(source.numel());
    }
    return result;
  }

  static Source source_of(const NetworkLayer& layer) {
    const at::Tensor rows = weight_rows(layer.weight.detach(), layer.layout, layer.name);
    Source source{layer.name, layer.layout, rows.sizes().vec(), {}, {}};
    // A weight computed from other tensors has new memory at each step.
    if (!layer.weight.is_leaf() || !rows_are_blocks(layer.weight, layer.layout) ||
        layer.weight.scalar_type() != row_type(layer.weight)) {
      source.copy = at::empty(rows.sizes(), rows.options().dtype(row_type(layer.weight)));
    }
    return source;
  }

  /// Whether each row is one block of memory. In which order its entries are there is the same for all rows, so it
  /// changes no angle: channels_last weights are taken as they are.
  static bool rows_are_blocks(const at::Tensor& weight, const WeightLayout& layout) {
    return !layout.transposed && weight.is_non_overlapping_and_dense() &&
           weight.stride(0) * weight.size(0) == weight.numel();
  }

  static at::Tensor rows_in_place(const at::Tensor& weight, const Source& source) {
    const std::vector<int64_t>& sizes = source.sizes;
    return weight.as_strided(sizes, {sizes[1] * sizes[2], sizes[2], 1}, weight.storage_offset());
  }

  /// A gradient [groups, n, d] as the weight is.
  static at::Tensor as_weight(const at::Tensor& rows, const at::Tensor& weight, const Source& source) {
    return source.copy.defined() ? rows_to_weight(rows, weight, source.layout)
                                 : rows.as_strided(weight.sizes(), weight.strides(), rows.storage_offset());
  }

  static std::unique_ptr<PairNetwork> make_network(PairPlan plan, SearchPrecision precision) {
    const at::Tensor& rows = plan.matrices.front().rows;
    if (rows.is_cuda()) {
      return std::make_unique<CudaNetwork>(std::move(plan), precision);
    }
    if (rows.scalar_type() == at::kDouble) {
      return std::make_unique<CpuNetwork<double>>(std::move(plan));
    }
    return std::make_unique<CpuNetwork<float>>(std::move(plan));
  }

  static std::vector<uint32_t> versions_of(at::TensorList weights) {
    std::vector<uint32_t> result;
    for (const at::Tensor& weight : weights) {
      result.push_back(static_cast<uint32_t>(weight._version()));
    }
    return result;
  }

  /// What start() began, unless the weights have changed since.
  std::optional<FoundPairs> take_started(at::TensorList weights) {
    const bool usable = started_ && started_->versions == versions_of(weights);
    const std::optional<Started> started = forget_start();
    return usable ? std::optional(started->found) : std::nullopt;
  }

  /// Nothing is begun any more: what comes next on the current stream comes after it.
  std::optional<Started> forget_start() {
    std::optional<Started> started = std::move(started_);
    started_.reset();
    if (started) {
      const FoundPairs& found = started->found;
      side_->join({found.value, found.norms, found.nearest, found.angles, found.slopes});
    }
    return started;
  }

  void take_copies(at::TensorList weights) {
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].copy.defined()) {
        sources_[k].copy.copy_(weight_rows(weights[k].detach(), sources_[k].layout, sources_[k].name));
      }
    }
  }

  static void append_groups(const at::Tensor& rows, std::vector<at::Tensor>& matrices) {
    for (int64_t g = 0; g < rows.size(0); ++g) {
      matrices.push_back(rows[g]);
    }
  }

  static void append_matrices(const at::Tensor& rows, size_t layer, std::vector<PairMatrix>& matrices) {
    for (int64_t g = 0; g < rows.size(0); ++g) {
      matrices.push_back({rows[g], layer});
    }
  }

  /// The memory [groups, n, d] that the gradient of a weight is added to: its .grad, or zeros to be added to it later.
  static at::Tensor gradient_target(const at::Tensor& weight, Source& source) {
    at::Tensor& grad = weight.mutable_grad();
    if (!source.copy.defined() && !grad.defined()) {
      grad = at::zeros_like(weight.detach());
    }
    if (!source.copy.defined() && grad.layout() == c10::kStrided && grad.strides() == weight.strides() &&
        grad.scalar_type() == weight.scalar_type() && grad.device() == weight.device()) {
      source.gradient.reset();
      return rows_in_place(grad.detach(), source);
    }
    if (!source.gradient.defined()) {
      source.gradient = at::empty(source.sizes, weight.options().dtype(row_type(weight)));
    }
    return source.gradient.zero_();
  }

  std::vector<Source> sources_;
  PairPlan plan_;
  std::unique_ptr<PairNetwork> network_;
  std::unique_ptr<SideStream> side_;
  std::optional<Started> started_;
};

/// A pass, kept alive by the graph that will run its backward.
struct NetworkLossHolder : torch::CustomClassHolder {
  explicit NetworkLossHolder(std::shared_ptr<NetworkLoss> l) : loss(std::move(l)) {}
  std::shared_ptr<NetworkLoss> loss;
};

/// The value as a function of the weights. `found` holds the neighbours to take, if any, and gets what the pass found.
struct NetworkLossFunction : torch::autograd::Function<NetworkLossFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const std::shared_ptr<NetworkLoss>& loss,
                            FoundPairs* found, at::TensorList weights) {
    *found = loss->find(weights, found->nearest);
    torch::autograd::variable_list saved(weights.begin(), weights.end());
    saved.insert(saved.end(), {found->norms, found->nearest, found->angles, found->slopes});
    context->save_for_backward(std::move(saved));
    context->saved_data["loss"] = at::IValue::make_capsule(c10::make_intrusive<NetworkLossHolder>(loss));
    return found->value;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    const size_t count = saved.size() - 4;
    const at::TensorList weights(saved.data(), count);
    const FoundPairs found{{}, saved[count], saved[count + 1], saved[count + 2], saved[count + 3]};
    auto& loss = *static_cast<NetworkLossHolder&>(*context->saved_data["loss"].toCapsule()).loss;
    torch::autograd::variable_list result(2);  // for loss and found
    const auto gradients = at::GradMode::is_enabled() ? loss.differentiable_gradients(found, weights, grad_outputs[0])
                                                      : loss.gradients(found, weights, grad_outputs[0]);
    result.insert(result.end(), gradients.begin(), gradients.end());
    return result;
  }
};

}  // namespace mma::detail
