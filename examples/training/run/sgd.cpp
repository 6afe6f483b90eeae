#include "training/run/sgd.hpp"

#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <functional>

namespace mma::examples {

Sgd::Sgd(NamedTensors parameters, SgdOptions options) : options_(options) {
  const c10::NoGradGuard no_grad;
  Group decayed{{}, {}, options.weight_decay}, others;
  for (auto& [name, parameter] : parameters) {
    Group& group = options.decay_filters_only && parameter.dim() < 2 ? others : decayed;
    // LibTorch's step wants no buffers where there is no momentum.
    if (options.momentum > 0) {
      group.buffers.push_back(momentum_buffers_.emplace_back(name, at::zeros_like(parameter)).second);
    }
    group.parameters.push_back(parameter);
  }
  for (Group& group : {std::ref(decayed), std::ref(others)}) {
    if (!group.parameters.empty()) groups_.push_back(std::move(group));
  }
  if (!groups_.empty() && groups_.front().parameters.front().is_cuda()) {
    const at::Device gpu = groups_.front().parameters.front().device();
    learning_rate_on_gpu_ = at::scalar_tensor(0.0, at::TensorOptions(at::kFloat).device(gpu));
  }
}

void Sgd::set_learning_rate(double learning_rate) {
  if (learning_rate == learning_rate_) return;
  learning_rate_ = learning_rate;
  if (learning_rate_on_gpu_.defined()) learning_rate_on_gpu_.fill_(learning_rate);
}

void Sgd::step(const std::optional<at::Tensor>& found_inf) {
  const c10::NoGradGuard no_grad;
  for (const Group& group : groups_) update(group, found_inf);
}

void Sgd::update(const Group& group, const std::optional<at::Tensor>& found_inf) const {
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& parameter : group.parameters) gradients.push_back(parameter.grad());
  const auto update = [&](const auto& learning_rate) {
    at::_fused_sgd_(group.parameters, gradients, group.buffers, group.weight_decay, options_.momentum, learning_rate,
                    /*dampening=*/0, options_.nesterov, /*maximize=*/false, /*is_first_step=*/false, /*grad_scale=*/{},
                    found_inf);
  };
  learning_rate_on_gpu_.defined() ? update(learning_rate_on_gpu_) : update(learning_rate_);
}

void Sgd::zero_grad() {
  for (Group& group : groups_) {
    for (at::Tensor& parameter : group.parameters) parameter.mutable_grad().reset();
  }
}

}  // namespace mma::examples
