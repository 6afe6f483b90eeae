// AnyObjective: any objective, for a choice at run time, so that Regularizer<AnyObjective> is one type for all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "objective.hpp"

namespace mma {

/// Any objective, chosen at run time: Regularizer<AnyObjective> is one type for all of them. Copies share what they
/// hold, a state of random draws included.
class AnyObjective {
 public:
  /// Holds a copy; implicit, so that AnyObjective is what any objective is passed as.
  template <typename Objective>
  requires(ObjectiveFunction<Objective> && !std::same_as<std::remove_cvref_t<Objective>, AnyObjective>)
      // NOLINTNEXTLINE(google-explicit-constructor): an objective is passed where AnyObjective is expected.
      AnyObjective(Objective objective)
      : held_(std::make_shared<Held<Objective>>(std::move(objective))) {}

  /// rows [b, n, d], usable [b, n] -> [b], by what it holds. Throws c10::Error where that is not one value a matrix.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const { return held_->values(rows, usable); }

  /// The values [b] and d(grad_output * values)/d rows [b, n, d] without an autograd graph: what it holds gives them,
  /// or autograd does.
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return held_->value_and_gradient(rows, usable, grad_output);
  }

  /// @cond detail
  using OverNearestRows = AnyObjective;
  std::optional<detail::nearest::Objective> nearest() const { return held_->nearest(); }
  /// @endcond

  /// The state of what it holds; empty where that has none.
  std::map<std::string, at::Tensor> state() const { return held_->state(); }
  /// Gives what it holds this state; nothing where that has none.
  void load_state(const std::map<std::string, at::Tensor>& state) { held_->load_state(state); }

 private:
  struct Interface {
    virtual ~Interface() = default;
    virtual at::Tensor values(const at::Tensor& rows, const at::Tensor& usable) = 0;
    virtual std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                                 const at::Tensor& grad_output) = 0;
    virtual std::optional<detail::nearest::Objective> nearest() const = 0;
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
    std::optional<detail::nearest::Objective> nearest() const override {
      return detail::nearest_objective_of(objective);
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
