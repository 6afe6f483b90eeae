// What an objective is: a type that gives one value for each matrix of weight vectors. The concepts that a user's own
// struct meets, how any of them gives value and gradient without a graph, and the functional form.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "detail/nearest/function.hpp"
#include "detail/rows/norms.hpp"
#include "detail/rows/precision.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// What Regularizer takes: rows [b, n, d] (float32 or float64) and usable [b, n] (bool) -> one value a matrix [b],
/// differentiable; 0 for a matrix with fewer than two usable rows.
template <typename T>
concept ObjectiveFunction = requires(T& objective, const at::Tensor& rows, const at::Tensor& usable) {
  { objective(rows, usable) } -> std::convertible_to<at::Tensor>;
};

/// An objective that knows its gradient: (rows, usable, grad_output [b]) -> value [b], gradient [b, n, d], no graph.
template <typename T>
concept HasGradient = requires(T& objective, const at::Tensor& tensor) {
  { objective.value_and_gradient(tensor, tensor, tensor) } -> std::convertible_to<std::pair<at::Tensor, at::Tensor>>;
};

/// An objective with a state of its own (a count of random draws), to be saved with a checkpoint.
template <typename T>
concept HasState = requires(T& objective, const std::map<std::string, at::Tensor>& state) {
  { objective.state() } -> std::convertible_to<std::map<std::string, at::Tensor>>;
  objective.load_state(state);
};

namespace detail {

/// An objective that is a function of each row's nearest row: it states f, half_space and closest_only as nearest(),
/// and all layers go in one pass. A type derived from one may call for something else: it names itself as what its
/// nearest() is of.
template <typename T>
concept OverNearestRows = std::same_as<typename T::OverNearestRows, T> && requires(const T& objective) {
  { objective.nearest() } -> std::convertible_to<std::optional<nearest::Objective>>;
};

template <typename Objective>
std::optional<nearest::Objective> nearest_objective_of(const Objective& objective) {
  if constexpr (OverNearestRows<Objective>) {
    return objective.nearest();
  } else {
    return std::nullopt;
  }
}

/// The objective's values, or c10::Error when they are not one for each matrix.
template <ObjectiveFunction Objective>
at::Tensor values_of(Objective& objective, const at::Tensor& rows, const at::Tensor& usable) {
  at::Tensor values = objective(rows, usable);
  TORCH_CHECK(values.defined() && values.dim() == 1 && values.size(0) == rows.size(0), "mma: the objective returned ",
              values.defined() ? "a tensor of another shape" : "nothing", " for ", rows.size(0),
              " matrices; expected one value for each, [", rows.size(0), "].");
  return values;
}

/// The values [b] and d(grad_output * values)/d rows [b, n, d], without a graph that outlives the call.
template <ObjectiveFunction Objective>
std::pair<at::Tensor, at::Tensor> value_and_gradient(Objective& objective, const at::Tensor& rows,
                                                     const at::Tensor& usable, const at::Tensor& grad_output) {
  if (const std::optional<nearest::Objective> over = nearest_objective_of(objective)) {
    return nearest::value_and_gradient(nearest::only_usable(rows, usable), grad_output, *over);
  }
  if constexpr (HasGradient<Objective>) {
    const at::NoGradGuard no_grad;
    return objective.value_and_gradient(rows, usable, grad_output);
  } else {
    const at::AutoGradMode enable(true);
    const rows::FullPrecisionGuard guard;
    const at::Tensor leaf = rows.detach().requires_grad_();
    const at::Tensor values = values_of(objective, leaf, usable);
    return {values.detach(), torch::autograd::grad({values}, {leaf}, {grad_output}).front()};
  }
}

/// An objective of one matrix [n, d] (a scalar) or of a batch [b, n, d] (a vector [b]): the functional forms.
/// Throws c10::Error, in the function's name, for anything that is not a dense floating-point tensor of that shape.
template <ObjectiveFunction Objective>
at::Tensor loss_of(Objective&& objective, const at::Tensor& weight, const char* function) {
  check_weight(weight, {}, "weight");
  TORCH_CHECK(weight.dim() <= 3, "mma: ", function, " got a tensor of shape ", weight.sizes(),
              "; expected [rows, dimension] or [batch, rows, dimension]; see mma::weight_rows for convolutions.");
  const rows::FullPrecisionGuard guard;
  const at::Tensor matrices = in_computing_type(weight);
  at::Tensor loss;
  if (const std::optional<nearest::Objective> over = nearest_objective_of(objective)) {
    loss = nearest::values_of(matrices, *over);
  } else {
    const at::Tensor rows = weight.dim() == 2 ? matrices.unsqueeze(0) : matrices;
    loss = values_of(objective, rows, rows::usable_rows(rows));
  }
  return weight.dim() == 2 ? loss.squeeze(0) : loss;
}

}  // namespace detail
}  // namespace mma
