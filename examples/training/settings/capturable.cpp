#include "training/settings/capturable.hpp"

#include <ATen/ATen.h>

#include <algorithm>

#include "support/terminal/objectives.hpp"

namespace mma::examples {
namespace {

/// Whether an objective draws numbers on the CPU at each call, which a replayed CUDA graph would not do.
bool draws_random_numbers(AnyObjective objective) {
  const auto before = objective.state();
  const c10::NoGradGuard no_grad;
  objective(at::ones({1, 64, 8}), at::ones({1, 64}, at::kBool));
  const auto after = objective.state();
  return !std::equal(before.begin(), before.end(), after.begin(), after.end(),
                     [](const auto& a, const auto& b) { return a.first == b.first && at::equal(a.second, b.second); });
}

}  // namespace

bool cuda_graphs_are_built_in() {
#ifdef MMA_TRAIN_HAS_CUDA_GRAPHS
  return true;
#else
  return false;
#endif
}

std::string why_not_captured(const Settings& settings) {
  if (settings.regularizer != "none" &&
      draws_random_numbers(objective_named(settings.regularizer, "--regularizer").make(settings.seed))) {
    return "--cuda-graph cannot hold --regularizer " + settings.regularizer +
           ", which draws random numbers on the CPU at each step: leave one of them out";
  }
  if (settings.refresh_every > 1) {
    return "--cuda-graph holds one kind of step, --refresh-every makes two: leave one of them out";
  }
  return {};
}

}  // namespace mma::examples
