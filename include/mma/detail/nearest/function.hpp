// The objectives over nearest rows as functions of weights: the one node of the autograd graph, for a network's layers
// as for a single matrix, and the passes that it runs: an engine over the weights' memory.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "../../side_stream.hpp"
#include "../layers/weight_memory.hpp"
#include "../rows/precision.hpp"
#include "factory.hpp"
#include "portable/double_backward.hpp"

namespace mma::detail::nearest {

/// Values and gradients of weights of one device and type. Made anew when a weight's memory, shape or type changes.
class Pass {
 public:
  /// groups_are_layers: each group of a weight has a value of its own.
  Pass(const std::vector<layers::Member>& members, const Objective& objective, bool groups_are_layers = false)
      : memory_(members), groups_are_layers_(groups_are_layers), objective_(objective) {
    engine_ = make_engine({memory_.matrices(groups_are_layers), objective});
  }

  ~Pass() { forget_start(); }
  Pass(const Pass&) = delete;
  Pass& operator=(const Pass&) = delete;

  const at::TensorOptions& options() const { return memory_.options(); }  ///< of the rows

  /// Neighbours from a checkpoint, if they can be of these weights; else undefined.
  at::Tensor checked_nearest(const at::Tensor& nearest) const {
    const at::Tensor host = nearest.to(at::kCPU, at::kInt).reshape({-1}).contiguous();
    const auto* index = host.const_data_ptr<int32_t>();
    int64_t row = 0;
    for (const Matrix& matrix : memory_.matrices()) {
      const int64_t n = matrix.rows.size(0);
      for (int64_t r = 0; r < n; ++r, ++row) {
        if (row >= host.numel() || index[row] < 0 || index[row] >= n) {
          return {};
        }
      }
    }
    return row == host.numel() ? host.to(options().device()) : at::Tensor();
  }

  /// find() begins now, on a stream of its own; the next find() or accumulate() of the same weights takes it. On a CPU
  /// nothing is begun.
  void start(at::TensorList weights, const at::Tensor& nearest) {
    if (options().device().is_cpu()) {
      return;
    }
    forget_start();
    if (!side_) {
      side_ = std::make_unique<SideStream>(options().device());
    }
    side_->run([&] {
      memory_.take(weights);
      started_ = {engine_->find(nearest), versions_of(weights)};
    });
  }

  Found find(at::TensorList weights, const at::Tensor& nearest) {
    if (std::optional<Found> found = take_started(weights)) {
      return *std::move(found);
    }
    memory_.take(weights);
    return engine_->find(nearest);
  }

  /// Adds scale * sum_l factors_l d values_l/d weight to each weight's .grad.
  Found accumulate(at::TensorList weights, const at::Tensor& factors, double scale, const at::Tensor& nearest) {
    std::optional<Found> started = take_started(weights);
    if (!started) {
      memory_.take(weights);
    }
    const std::vector<at::Tensor> gradients = memory_.gradients_in_place(weights);
    if (started) {
      engine_->add_gradient(*started, gradients, factors, scale);
    } else {
      started = engine_->find_and_add_gradient(gradients, factors, scale, nearest);
    }
    memory_.keep_gradients(weights);
    return *std::move(started);
  }

  /// sum_l factors_l d values_l/d weight of each weight, without a graph.
  std::vector<at::Tensor> gradients(const Found& found, at::TensorList weights, const at::Tensor& factors) {
    memory_.take(weights);  // another step's may be there
    const auto gradients = memory_.new_gradients();
    engine_->add_gradient(found, gradients.matrices, factors, 1);
    return memory_.as_weights(gradients, weights);
  }

  /// find() and gradients() of one weight at once.
  std::pair<Found, at::Tensor> find_with_gradient(const at::Tensor& weight, const at::Tensor& factors) {
    memory_.take(weight);
    const auto gradients = memory_.new_gradients();
    Found found = engine_->find_and_add_gradient(gradients.matrices, factors, 1, {});
    return {std::move(found), memory_.as_weights(gradients, weight).front()};
  }

  /// The same, differentiable in the weights and the factors.
  std::vector<at::Tensor> differentiable_gradients(const Found& found, at::TensorList weights,
                                                   const at::Tensor& factors) const {
    std::vector<at::Tensor> results;
    int64_t row = 0, layer = 0;
    for (size_t k = 0; k < memory_.count(); ++k) {
      const int64_t groups = memory_.sizes(k)[0], n = memory_.sizes(k)[1];
      const int64_t count = groups_are_layers_ ? groups : 1;
      const at::Tensor gradient =
          portable::differentiable_gradient(memory_.rows(k, weights[k]), {found, row, groups, n, groups_are_layers_},
                                            objective_, factors.narrow(0, layer, count));
      results.push_back(memory_.as_weight_of(k, gradient, weights[k]));
      row += groups * n;
      layer += count;
    }
    return results;
  }

 private:
  /// What start() found, and the weights' versions then.
  struct Started {
    Found found;
    std::vector<uint32_t> versions;
  };

  static std::vector<uint32_t> versions_of(at::TensorList weights) {
    std::vector<uint32_t> result;
    for (const at::Tensor& weight : weights) {
      result.push_back(static_cast<uint32_t>(weight._version()));
    }
    return result;
  }

  /// What start() began, unless the weights have changed since.
  std::optional<Found> take_started(at::TensorList weights) {
    if (!started_) {
      return std::nullopt;
    }
    const bool usable = started_->versions == versions_of(weights);
    const std::optional<Started> started = forget_start();
    return usable ? std::optional(started->found) : std::nullopt;
  }

  /// Nothing is begun any more: what comes next on the current stream comes after it.
  std::optional<Started> forget_start() {
    std::optional<Started> started = std::move(started_);
    started_.reset();
    if (started) {
      const Found& found = started->found;
      side_->join({found.values, found.norms, found.nearest, found.angles, found.slopes});
    }
    return started;
  }

  layers::WeightMemory memory_;
  bool groups_are_layers_;
  Objective objective_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<SideStream> side_;
  std::optional<Started> started_;
};

/// A pass, kept alive by the graph that will run its backward.
struct PassHolder : torch::CustomClassHolder {
  explicit PassHolder(std::shared_ptr<Pass> p) : pass(std::move(p)) {}
  std::shared_ptr<Pass> pass;
};

/// The values [layers] (float64) as a function of the weights. `found` holds the neighbours to take, if any, and gets
/// what the pass found.
struct Function : torch::autograd::Function<Function> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const std::shared_ptr<Pass>& pass, Found* found,
                            at::TensorList weights) {
    *found = pass->find(weights, found->nearest);
    torch::autograd::variable_list saved(weights.begin(), weights.end());
    saved.insert(saved.end(), {found->norms, found->nearest, found->angles, found->slopes});
    context->save_for_backward(std::move(saved));
    context->saved_data["pass"] = at::IValue::make_capsule(c10::make_intrusive<PassHolder>(pass));
    return found->values;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const rows::FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    const size_t count = saved.size() - 4;
    const at::TensorList weights(saved.data(), count);
    const Found found{{}, saved[count], saved[count + 1], saved[count + 2], saved[count + 3]};
    Pass& pass = *static_cast<PassHolder&>(*context->saved_data["pass"].toCapsule()).pass;
    const auto gradients = at::GradMode::is_enabled() ? pass.differentiable_gradients(found, weights, grad_outputs[0])
                                                      : pass.gradients(found, weights, grad_outputs[0].contiguous());
    torch::autograd::variable_list result(2);  // for pass and found
    result.insert(result.end(), gradients.begin(), gradients.end());
    return result;
  }
};

/// A pass over matrices [n, d] or [b, n, d] for one step, a value each.
inline std::shared_ptr<Pass> pass_over(const at::Tensor& matrices, const at::Tensor& rows, const Objective& objective) {
  const int64_t count = matrices.dim() == 2 ? 1 : matrices.size(0);
  return std::make_shared<Pass>(std::vector<layers::Member>{{"rows", rows, {.groups = count}, true}}, objective, true);
}

/// [b, n, d] laid end to end.
inline at::Tensor end_to_end(const at::Tensor& matrices) {
  return matrices.dim() == 2 ? matrices : matrices.flatten(0, 1);
}

/// The values [b] of matrices [b, n, d] or [n, d] (float32 or float64) in their own type, differentiable.
inline at::Tensor values_of(const at::Tensor& matrices, const Objective& objective) {
  const rows::FullPrecisionGuard guard;
  if (matrices.numel() == 0) {
    return matrices.sum(at::IntArrayRef{-2, -1}).reshape({-1});
  }
  const at::Tensor rows = end_to_end(matrices);
  Found found;
  return Function::apply(pass_over(matrices, rows, objective), &found, at::TensorList(rows)).to(matrices.scalar_type());
}

/// Rows [b, n, d] with those that do not count, by usable [b, n], as zero rows.
inline at::Tensor only_usable(const at::Tensor& rows, const at::Tensor& usable) {
  return at::where(usable.unsqueeze(-1), rows, 0.0).to(rows.scalar_type());
}

/// The values [b] and d(factors . values)/d matrices, without a graph.
inline std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& matrices, const at::Tensor& factors,
                                                            const Objective& objective) {
  const rows::FullPrecisionGuard guard;
  const at::NoGradGuard no_grad;
  if (matrices.numel() == 0) {
    return {values_of(matrices, objective), at::zeros_like(matrices)};
  }
  const at::Tensor rows = end_to_end(matrices.detach());
  const auto [found, gradient] =
      pass_over(matrices, rows, objective)->find_with_gradient(rows, factors.to(at::kDouble).contiguous());
  return {found.values.to(matrices.scalar_type()), gradient.view(matrices.sizes())};
}

}  // namespace mma::detail::nearest
