// The kernels for every type of rows and every search, compiled for the emulator.
#include <mma/detail/cuda_network.hpp>

#include "emulated_launcher.hpp"
#include "emulator.hpp"

#define MMA_ROWS 0
#define MMA_SEARCH 0
#define EMULATED rows0_search0
#include "emulated_kernels.inl"

#define MMA_ROWS 0
#define MMA_SEARCH 1
#define EMULATED rows0_search1
#include "emulated_kernels.inl"

#define MMA_ROWS 0
#define MMA_SEARCH 2
#define EMULATED rows0_search2
#include "emulated_kernels.inl"

#define MMA_ROWS 1
#define MMA_SEARCH 0
#define EMULATED rows1_search0
#include "emulated_kernels.inl"

#define MMA_ROWS 1
#define MMA_SEARCH 1
#define EMULATED rows1_search1
#include "emulated_kernels.inl"

#define MMA_ROWS 1
#define MMA_SEARCH 2
#define EMULATED rows1_search2
#include "emulated_kernels.inl"

#define MMA_ROWS 2
#define MMA_SEARCH 0
#define EMULATED rows2_search0
#include "emulated_kernels.inl"

#define MMA_ROWS 2
#define MMA_SEARCH 1
#define EMULATED rows2_search1
#include "emulated_kernels.inl"

#define MMA_ROWS 2
#define MMA_SEARCH 2
#define EMULATED rows2_search2
#include "emulated_kernels.inl"

#define MMA_ROWS 3
#define MMA_SEARCH 0
#define EMULATED rows3_search0
#include "emulated_kernels.inl"

#define MMA_ROWS 3
#define MMA_SEARCH 1
#define EMULATED rows3_search1
#include "emulated_kernels.inl"

#define MMA_ROWS 3
#define MMA_SEARCH 2
#define EMULATED rows3_search2
#include "emulated_kernels.inl"

void EmulatedLauncher::launch(mma::detail::CudaKernel kernel, int64_t blocks, int threads, void** arguments) {
  using Launch = void (*)(mma::detail::CudaKernel, int64_t, int, void**, unsigned);
  static constexpr Launch all[4][3] = {
      {rows0_search0::launch, rows0_search1::launch, rows0_search2::launch},
      {rows1_search0::launch, rows1_search1::launch, rows1_search2::launch},
      {rows2_search0::launch, rows2_search1::launch, rows2_search2::launch},
      {rows3_search0::launch, rows3_search1::launch, rows3_search2::launch},
  };
  ++launches;
  all[mma::detail::cuda_row_type(type_)][static_cast<int>(precision_)](kernel, blocks, threads, arguments, seed_);
}
