// The kernels for every type of rows, compiled for the emulator.
#include "emulated_launcher.hpp"

#include <mma/detail/nearest/cuda/engine.hpp>

#include <array>
#include <utility>

#include "emulator.hpp"
#include "kernels.inl"

namespace {

using mma::detail::nearest::cuda::Kernel;

template <typename Pass, typename Targets>
std::function<void()> call_of(Kernel kernel, void** arguments, std::array<void (*)(Pass), 4> kernels,
                              void (*gradient)(Pass, Targets)) {
  static_assert(sizeof(Pass) == sizeof(mma::detail::nearest::cuda::Pass));
  static_assert(sizeof(Targets) == sizeof(mma::detail::nearest::cuda::GradientTargets));
  const auto* pass = static_cast<const Pass*>(arguments[0]);
  if (kernel != Kernel::Gradient) return [=] { kernels[static_cast<size_t>(kernel)](*pass); };
  const auto* targets = static_cast<const Targets*>(arguments[1]);
  return [=] { gradient(*pass, *targets); };
}

std::function<void()> call_of(int row_type, Kernel kernel, void** arguments) {
  switch (row_type) {
    case 0:
      return call_of<rows0::Pass, rows0::GradientTargets>(
          kernel, arguments, {rows0::mma_norms, rows0::mma_search, rows0::mma_decide, rows0::mma_values},
          rows0::mma_gradient);
    case 1:
      return call_of<rows1::Pass, rows1::GradientTargets>(
          kernel, arguments, {rows1::mma_norms, rows1::mma_search, rows1::mma_decide, rows1::mma_values},
          rows1::mma_gradient);
    case 2:
      return call_of<rows2::Pass, rows2::GradientTargets>(
          kernel, arguments, {rows2::mma_norms, rows2::mma_search, rows2::mma_decide, rows2::mma_values},
          rows2::mma_gradient);
    default:
      return call_of<rows3::Pass, rows3::GradientTargets>(
          kernel, arguments, {rows3::mma_norms, rows3::mma_search, rows3::mma_decide, rows3::mma_values},
          rows3::mma_gradient);
  }
}

}  // namespace

void EmulatedLauncher::launch(Kernel kernel, int64_t blocks, int threads, void** arguments) {
  ++launches;
  const auto call = call_of(mma::detail::nearest::cuda::row_type(type_), kernel, arguments);
  const int64_t waits = emulator::launch(blocks, threads, seed_, call);
  if (kernel == Kernel::Decide) exact_look_waits += waits - blocks;
}

std::unique_ptr<mma::detail::nearest::Engine> emulated_engine(mma::detail::nearest::Plan plan) {
  const auto type = plan.matrices.front().rows.scalar_type();
  return std::make_unique<mma::detail::nearest::cuda::Engine>(std::move(plan),
                                                              std::make_shared<EmulatedLauncher>(type));
}
