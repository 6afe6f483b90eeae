// The operators torch.ops.mma.*: each gives the loss and its gradient at once, and a second one the product with the
// Hessian, so that whatever autograd needs is an operator again. Shapes without data (fake tensors) and the formulas of
// autograd are registered by mma/_operators.py.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <string>
#include <tuple>
#include <vector>

#include "dispatch.hpp"
#include "errors.hpp"
#include "objectives.hpp"
#include "regularizer.hpp"

namespace mma::python {
namespace {

std::tuple<at::Tensor, at::Tensor> objective(const at::Tensor& weight, const std::string& name,
                                             at::ArrayRef<double> numbers, bool gradient) {
  return with_value_errors([&]() -> std::tuple<at::Tensor, at::Tensor> {
    const AnyObjective objective = objective_of(name, numbers);
    const WithAutograd recording;
    const at::NoGradGuard no_grad;
    if (!gradient) return {value_of(objective, weight), at::empty({0}, weight.options())};
    return value_and_gradient(objective, weight);
  });
}

at::Tensor objective_hessian_product(const at::Tensor& weight, const at::Tensor& direction, const std::string& name,
                                     at::ArrayRef<double> numbers) {
  return with_value_errors([&] {
    const WithAutograd recording;
    const at::Tensor leaf = weight.detach().requires_grad_();
    const at::Tensor value = value_of(objective_of(name, numbers), leaf).sum();
    return hessian_product(value, {leaf}, {direction}).front().contiguous();
  });
}

std::vector<bool> flags(const c10::List<bool>& list) {
  std::vector<bool> result;
  for (size_t k = 0; k < list.size(); ++k) result.push_back(list.get(k));
  return result;
}

/// On the first weight's device, float64 where a weight is: what a fake tensor can tell beforehand.
at::Tensor as_announced(const at::Tensor& value, at::TensorList weights) {
  bool wide = false;
  for (const at::Tensor& weight : weights) wide = wide || weight.scalar_type() == at::kDouble;
  return value.to(weights.front().device(), wide ? at::kDouble : at::kFloat);
}

std::tuple<at::Tensor, std::vector<at::Tensor>> regularizer(at::TensorList weights, const c10::List<bool>& trained,
                                                            const std::string& key, bool gradient) {
  const WithAutograd recording;
  auto [value, gradients] = regularizer_by_key(key)->loss(weights, flags(trained), gradient);
  return {as_announced(value, weights), std::move(gradients)};
}

std::vector<at::Tensor> regularizer_hessian_product(at::TensorList weights, const c10::List<bool>& trained,
                                                    at::TensorList directions, const std::string& key) {
  const WithAutograd recording;
  return regularizer_by_key(key)->hessian_product(weights, flags(trained), directions.vec());
}

}  // namespace
}  // namespace mma::python

TORCH_LIBRARY(mma, library) {
  const std::vector<at::Tag> tags{at::Tag::pt2_compliant_tag};
  library.set_python_module("mma._operators");
  library.def("objective(Tensor weight, str name, float[] numbers, bool gradient) -> (Tensor, Tensor)", tags);
  library.def("objective_hessian_product(Tensor weight, Tensor direction, str name, float[] numbers) -> Tensor", tags);
  library.def("regularizer(Tensor[] weights, bool[] trained, str key, bool gradient) -> (Tensor, Tensor[])", tags);
  library.def("regularizer_hessian_product(Tensor[] weights, bool[] trained, Tensor[] directions, str key) -> Tensor[]",
              tags);
}

TORCH_LIBRARY_IMPL(mma, CompositeExplicitAutograd, library) {
  library.impl("objective", mma::python::objective);
  library.impl("objective_hessian_product", mma::python::objective_hessian_product);
  library.impl("regularizer", mma::python::regularizer);
  library.impl("regularizer_hessian_product", mma::python::regularizer_hessian_product);
}
