// A launcher that runs the CUDA engine's kernels on the CPU.
#pragma once

#include <mma/detail/nearest/cuda/runtime.hpp>
#include <mma/detail/nearest/engine.hpp>

#include <cstdint>
#include <memory>

class EmulatedLauncher : public mma::detail::nearest::cuda::KernelLauncher {
 public:
  /// The seed is of the order in which a launch's blocks run.
  explicit EmulatedLauncher(at::ScalarType type, unsigned seed = 1) : type_(type), seed_(seed) {}

  int multiprocessors() const override { return processors; }

  int processors = 4;        ///< so few that matrices of a test are shared among all blocks
  bool tensor_cores = true;  ///< as from compute capability 8.0 on

  void launch(mma::detail::nearest::cuda::Kernel kernel, int64_t blocks, int threads, void** arguments) override;

  int launches = 0;

  /// How often blocks of decide waited beyond the one time that each does: only an exact look at all columns waits.
  int64_t exact_look_waits = 0;

 private:
  at::ScalarType type_;
  unsigned seed_;
};

/// The CUDA engine, emulated, over matrices on the CPU.
std::unique_ptr<mma::detail::nearest::Engine> emulated_engine(mma::detail::nearest::Plan plan);
