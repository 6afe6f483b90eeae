// A CudaNetwork's launcher that runs the kernels on the CPU.
#pragma once

#include <mma/detail/cuda_runtime.hpp>

class EmulatedLauncher : public mma::detail::KernelLauncher {
 public:
  /// The seed is of the order in which a launch's blocks run.
  EmulatedLauncher(at::ScalarType type, mma::SearchPrecision precision, unsigned seed)
      : type_(type), precision_(precision), seed_(seed) {}

  void launch(mma::detail::CudaKernel kernel, int64_t blocks, int threads, void** arguments) override;

  int launches = 0;

 private:
  at::ScalarType type_;
  mma::SearchPrecision precision_;
  unsigned seed_;
};
