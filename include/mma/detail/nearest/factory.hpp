// The one place where a backend of the engine is chosen: the CPU's loops, the GPU's kernels where they can be had, and
// LibTorch's operations for everything else.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "cpu/engine.hpp"
#include "cuda/engine.hpp"
#include "engine.hpp"
#include "portable/engine.hpp"

namespace mma::detail::nearest {

/// Makes an engine of a plan.
using EngineMaker = std::function<std::unique_ptr<Engine>(Plan)>;

inline std::unique_ptr<Engine> make_engine_for_device(Plan plan) {
  const at::Tensor& rows = plan.matrices.front().rows;
  if (rows.is_cpu() && rows.scalar_type() == at::kDouble) {
    return std::make_unique<cpu::Engine<double>>(std::move(plan));
  }
  if (rows.is_cpu()) {
    return std::make_unique<cpu::Engine<float>>(std::move(plan));
  }
  if (cuda::Engine::available(rows.device(), rows.scalar_type())) {
    return std::make_unique<cuda::Engine>(std::move(plan));
  }
  return std::make_unique<portable::Engine>(std::move(plan));
}

/// What makes engines on this thread, if not make_engine_for_device: the tests hold every backend to the same promises
/// through it.
inline EngineMaker& engine_maker() {
  thread_local EngineMaker maker;
  return maker;
}

/// Of matrices of one type on one device, at least one.
inline std::unique_ptr<Engine> make_engine(Plan plan) {
  return engine_maker() ? engine_maker()(std::move(plan)) : make_engine_for_device(std::move(plan));
}

/// The nearest rows and their angles in matrices rows [b, n, d] (float32 or float64), without a graph: for measuring.
inline Found find_nearest(const at::Tensor& rows, const Objective& objective) {
  const at::Tensor contiguous = rows.detach().contiguous();
  Plan plan{{}, objective};
  for (const at::Tensor& matrix : contiguous.unbind()) {
    plan.matrices.push_back({matrix, plan.matrices.size()});
  }
  return make_engine(std::move(plan))->find({});
}

}  // namespace mma::detail::nearest
