#include "training/run/sgd.hpp"

#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

namespace mma::examples {

Sgd::Sgd(NamedTensors parameters, SgdOptions options) : options_(options) {
  const c10::NoGradGuard no_grad;
  for (auto& [name, parameter] : parameters) {
    // LibTorch's step wants no buffers where there is no momentum.
    if (options.momentum > 0) momentum_buffers_.emplace_back(name, at::zeros_like(parameter));
    parameters_.push_back(parameter);
  }
  if (!parameters_.empty() && parameters_.front().is_cuda()) {
    learning_rate_on_gpu_ = at::scalar_tensor(0.0, at::TensorOptions(at::kFloat).device(parameters_.front().device()));
  }
}

void Sgd::set_learning_rate(double learning_rate) {
  if (learning_rate == learning_rate_) return;
  learning_rate_ = learning_rate;
  if (learning_rate_on_gpu_.defined()) learning_rate_on_gpu_.fill_(learning_rate);
}

void Sgd::step() {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  std::vector<at::Tensor> buffers;
  for (const at::Tensor& parameter : parameters_) gradients.push_back(parameter.grad());
  for (const auto& [name, buffer] : momentum_buffers_) buffers.push_back(buffer);
  const auto update = [&](const auto& learning_rate) {
    at::_fused_sgd_(parameters_, gradients, buffers, options_.weight_decay, options_.momentum, learning_rate,
                    /*dampening=*/0, options_.nesterov, /*maximize=*/false, /*is_first_step=*/false);
  };
  learning_rate_on_gpu_.defined() ? update(learning_rate_on_gpu_) : update(learning_rate_);
}

void Sgd::zero_grad() {
  for (at::Tensor& parameter : parameters_) parameter.mutable_grad().reset();
}

}  // namespace mma::examples
