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
std::function<void()> call_of(Kernel kernel, void** arguments, std::array<void (*)(Pass), 5> kernels,
                              void (*gradient)(Pass, Targets)) {
  static_assert(sizeof(Pass) == sizeof(mma::detail::nearest::cuda::Pass));
  static_assert(sizeof(Targets) == sizeof(mma::detail::nearest::cuda::GradientTargets));
  const auto* pass = static_cast<const Pass*>(arguments[0]);
  if (kernel != Kernel::Gradient) return [=] { kernels[static_cast<size_t>(kernel)](*pass); };
  const auto* targets = static_cast<const Targets*>(arguments[1]);
  return [=] { gradient(*pass, *targets); };
}

#define KERNELS_OF(space)                                                                               \
  call_of<space::Pass, space::GradientTargets>(                                                         \
      kernel, arguments,                                                                                \
      {space::mma_norms, space::mma_search, space::mma_decide, space::mma_values, space::mma_choosers}, \
      space::mma_gradient)

std::function<void()> call_of(int row_type, bool tensor_cores, Kernel kernel, void** arguments) {
  switch (2 * row_type + (tensor_cores ? 1 : 0)) {
    case 0:
      return KERNELS_OF(plain_rows0);
    case 1:
      return KERNELS_OF(rows0);
    case 2:
      return KERNELS_OF(plain_rows1);
    case 3:
      return KERNELS_OF(rows1);
    case 4:
      return KERNELS_OF(plain_rows2);
    case 5:
      return KERNELS_OF(rows2);
    case 6:
      return KERNELS_OF(plain_rows3);
    default:
      return KERNELS_OF(rows3);
  }
}

}  // namespace

void EmulatedLauncher::launch(Kernel kernel, int64_t blocks, int threads, void** arguments) {
  ++launches;
  const auto call = call_of(mma::detail::nearest::cuda::row_type(type_), tensor_cores, kernel, arguments);
  const int64_t waits = emulator::launch(blocks, threads, seed_, call);
  if (kernel == Kernel::Decide) exact_look_waits += waits - blocks;
}

std::unique_ptr<mma::detail::nearest::Engine> emulated_engine(mma::detail::nearest::Plan plan) {
  const auto type = plan.matrices.front().rows.scalar_type();
  return std::make_unique<mma::detail::nearest::cuda::Engine>(std::move(plan),
                                                              std::make_shared<EmulatedLauncher>(type));
}
