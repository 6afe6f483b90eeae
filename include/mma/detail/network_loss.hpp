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
#include <string>
#include <utility>
#include <vector>

#include "../weight_matrix.hpp"
#include "cpu_network.hpp"
#include "full_precision.hpp"
#include "nearest_pairs.hpp"
#include "network_pairs.hpp"
#include "row_norms.hpp"

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

/// Layers of one device and computing type. Made anew when a weight's memory, shape or type changes.
class NetworkLoss {
 public:
  NetworkLoss(const std::vector<NetworkLayer>& layers, const PairObjective& objective) {
    PairPlan plan;
    plan.objective = objective;
    for (const NetworkLayer& layer : layers) {
      const at::Tensor rows = weight_rows(layer.weight.detach(), layer.layout, layer.name);
      Source source{layer.name, layer.layout, rows.sizes().vec(), {}, {}};
      if (!in_place(layer)) {
        source.copy = at::empty(rows.sizes(), rows.options().dtype(in_computing_type(rows).scalar_type()));
      }
      const at::Tensor& matrices = source.copy.defined() ? source.copy : rows;
      for (int64_t g = 0; g < rows.size(0); ++g) {
        plan.matrices.push_back({matrices[g], sources_.size()});
      }
      plan.coefficients.push_back(layer.coefficient);
      sources_.push_back(std::move(source));
    }
    plan_ = plan;
    network_ = make_network(std::move(plan));
  }

  /// Whether there is a pass for the device and type of this weight.
  static bool supports(const at::Tensor& weight) { return weight.is_cpu(); }

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

  FoundPairs find(at::TensorList weights, const at::Tensor& nearest) {
    take_copies(weights);
    return network_->find(nearest);
  }

  /// Adds scale * d value/d weight to each weight's .grad.
  FoundPairs accumulate(at::TensorList weights, double scale, const at::Tensor& nearest) {
    take_copies(weights);
    std::vector<at::Tensor> gradients;
    for (size_t k = 0; k < sources_.size(); ++k) {
      const at::Tensor target = gradient_target(weights[k], sources_[k]);
      append_matrices(target, gradients);
    }
    FoundPairs found = network_->find_and_add_gradient(gradients, scale, nearest);
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].gradient.defined()) {
        add_to_grad(weights[k], rows_to_weight(sources_[k].gradient, weights[k], sources_[k].layout));
      }
    }
    return found;
  }

  /// factor * d value/d weight of each weight, without a graph.
  std::vector<at::Tensor> gradients(const FoundPairs& found, at::TensorList weights, const at::Tensor& factor) {
    take_copies(weights);  // another step's may be there
    std::vector<at::Tensor> results, rows, matrices;
    for (size_t k = 0; k < sources_.size(); ++k) {
      const Source& source = sources_[k];
      const bool copied = source.copy.defined();
      results.push_back(copied ? at::Tensor() : at::zeros(weights[k].sizes(), weights[k].options()));
      rows.push_back(copied ? at::zeros_like(source.copy) : results.back().view(source.sizes));
      append_matrices(rows.back(), matrices);
    }
    network_->add_gradient(found, matrices, factor, 1);
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (!results[k].defined()) {
        results[k] = rows_to_weight(rows[k], weights[k], sources_[k].layout);
      }
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
    at::Tensor copy;             ///< of the rows, in the computing type; undefined where the weight's memory is taken
    at::Tensor gradient;         ///< where .grad cannot be added to in place
  };

  /// A weight computed from other tensors has new memory at each step.
  static bool in_place(const NetworkLayer& layer) {
    const at::Tensor& weight = layer.weight;
    return weight.is_leaf() && weight.is_contiguous() && !layer.layout.transposed &&
           weight.scalar_type() == in_computing_type(weight).scalar_type();
  }

  static std::unique_ptr<PairNetwork> make_network(PairPlan plan) {
    if (plan.matrices.front().rows.scalar_type() == at::kDouble) {
      return std::make_unique<CpuNetwork<double>>(std::move(plan));
    }
    return std::make_unique<CpuNetwork<float>>(std::move(plan));
  }

  void take_copies(at::TensorList weights) {
    for (size_t k = 0; k < sources_.size(); ++k) {
      if (sources_[k].copy.defined()) {
        sources_[k].copy.copy_(weight_rows(weights[k].detach(), sources_[k].layout, sources_[k].name));
      }
    }
  }

  static void append_matrices(const at::Tensor& rows, std::vector<at::Tensor>& matrices) {
    for (int64_t g = 0; g < rows.size(0); ++g) {
      matrices.push_back(rows[g]);
    }
  }

  /// The memory [groups, n, d] that the gradient of a weight is added to: its .grad, or zeros to be added to it later.
  static at::Tensor gradient_target(const at::Tensor& weight, Source& source) {
    at::Tensor& grad = weight.mutable_grad();
    if (!source.copy.defined() && !grad.defined()) {
      grad = at::zeros(weight.sizes(), weight.options());
    }
    if (!source.copy.defined() && grad.is_contiguous() && grad.scalar_type() == weight.scalar_type() &&
        grad.layout() == c10::kStrided && grad.device() == weight.device()) {
      source.gradient.reset();
      return grad.detach().view(source.sizes);
    }
    const at::ScalarType type = in_computing_type(weight).scalar_type();
    if (!source.gradient.defined()) {
      source.gradient = at::empty(source.sizes, weight.options().dtype(type));
    }
    return source.gradient.zero_();
  }

  std::vector<Source> sources_;
  PairPlan plan_;
  std::unique_ptr<PairNetwork> network_;
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
