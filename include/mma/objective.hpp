// What an objective is: a type that gives one value for each matrix of weight vectors. The concepts that a user's own
// struct meets, how any of them gives value and gradient without a graph, and AnyObjective for a choice at run time.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <concepts>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "detail/full_precision.hpp"
#include "detail/network_pairs.hpp"
#include "detail/row_norms.hpp"
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

/// An objective that is a function of each row's nearest row, so that all layers go in one pass. A type derived from
/// one may call for something else: it names itself as what its pair_objective() is of.
template <typename T>
concept OverNearestPairs = std::same_as<typename T::OverNearestPairs, T> && requires(const T& objective) {
  { objective.pair_objective() } -> std::convertible_to<std::optional<PairObjective>>;
};

template <typename Objective>
std::optional<PairObjective> pair_objective_of(const Objective& objective) {
  if constexpr (OverNearestPairs<Objective>) {
    return objective.pair_objective();
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

/// The values [b] and d(grad_output . values)/d rows [b, n, d], without a graph that outlives the call.
template <ObjectiveFunction Objective>
std::pair<at::Tensor, at::Tensor> value_and_gradient(Objective& objective, const at::Tensor& rows,
                                                     const at::Tensor& usable, const at::Tensor& grad_output) {
  if constexpr (HasGradient<Objective>) {
    const at::NoGradGuard no_grad;
    return objective.value_and_gradient(rows, usable, grad_output);
  } else {
    const at::AutoGradMode enable(true);
    const FullPrecisionGuard guard;
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
  const FullPrecisionGuard guard;
  const at::Tensor rows = in_computing_type(weight.dim() == 2 ? weight.unsqueeze(0) : weight);
  const at::Tensor loss = values_of(objective, rows, usable_rows(rows));
  return weight.dim() == 2 ? loss.squeeze(0) : loss;
}

}  // namespace detail

/// Any objective, chosen at run time: Regularizer<AnyObjective> is one type for all of them. Copies share what they
/// hold, a state of random draws included.
class AnyObjective {
 public:
  template <typename Objective>
  requires(ObjectiveFunction<Objective> && !std::same_as<std::remove_cvref_t<Objective>, AnyObjective>)
      AnyObjective(Objective objective)
      : held_(std::make_shared<Held<Objective>>(std::move(objective))) {}  // NOLINT

  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const { return held_->values(rows, usable); }

  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return held_->value_and_gradient(rows, usable, grad_output);
  }

  using OverNearestPairs = AnyObjective;
  std::optional<detail::PairObjective> pair_objective() const { return held_->pair_objective(); }

  std::map<std::string, at::Tensor> state() const { return held_->state(); }
  void load_state(const std::map<std::string, at::Tensor>& state) { held_->load_state(state); }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual at::Tensor values(const at::Tensor& rows, const at::Tensor& usable) = 0;
    virtual std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                                 const at::Tensor& grad_output) = 0;
    virtual std::optional<detail::PairObjective> pair_objective() const = 0;
    virtual std::map<std::string, at::Tensor> state() = 0;
    virtual void load_state(const std::map<std::string, at::Tensor>& state) = 0;
  };

  template <typename Objective>
  struct Held final : Interface {
    explicit Held(Objective o) : objective(std::move(o)) {}

    at::Tensor values(const at::Tensor& rows, const at::Tensor& usable) override {
      return detail::values_of(objective, rows, usable);
    }
    std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                         const at::Tensor& grad_output) override {
      return detail::value_and_gradient(objective, rows, usable, grad_output);
    }
    std::optional<detail::PairObjective> pair_objective() const override {
      return detail::pair_objective_of(objective);
    }
    std::map<std::string, at::Tensor> state() override {
      if constexpr (HasState<Objective>) {
        return objective.state();
      } else {
        return {};
      }
    }
    void load_state(const std::map<std::string, at::Tensor>& state) override {
      if constexpr (HasState<Objective>) objective.load_state(state);
    }

    Objective objective;
  };

  std::shared_ptr<Interface> held_;
};

}  // namespace mma
