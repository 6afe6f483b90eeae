// Operators run below autograd, where LibTorch records nothing. What differentiates inside one records again.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

namespace mma::python {

class WithAutograd {
 private:
  static c10::impl::LocalDispatchKeySet now() { return c10::impl::tls_local_dispatch_key_set(); }

  c10::impl::ForceDispatchKeyGuard keys_{now().included_,
                                         now().excluded_ - c10::autograd_dispatch_keyset_with_ADInplaceOrView};
  at::AutoGradMode recording_{true};
};

/// d(sum_k d value/d weights_k . directions_k)/d weight, of each of the weights, which are leaves; zeros where nothing
/// comes. An undefined direction stands for zeros.
inline std::vector<at::Tensor> hessian_product(const at::Tensor& value, const std::vector<at::Tensor>& weights,
                                               const std::vector<at::Tensor>& directions) {
  std::vector<at::Tensor> along, gradients, at_weights, result(weights.size());
  for (size_t k = 0; k < weights.size(); ++k) {
    if (!directions[k].defined()) continue;
    at_weights.push_back(weights[k]);
    along.push_back(directions[k]);
  }
  if (value.requires_grad() && !along.empty()) {
    std::vector<at::Tensor> first = torch::autograd::grad({value}, at_weights, {}, true, true, true), used;
    for (size_t k = 0; k < first.size(); ++k) {
      if (!first[k].defined() || !first[k].requires_grad()) continue;
      gradients.push_back(first[k]);
      used.push_back(along[k].to(first[k].scalar_type()));
    }
    if (!gradients.empty()) result = torch::autograd::grad(gradients, weights, used, std::nullopt, false, true);
  }
  for (size_t k = 0; k < weights.size(); ++k) {
    if (!result[k].defined()) result[k] = at::zeros_like(weights[k].detach());
  }
  return result;
}

}  // namespace mma::python
