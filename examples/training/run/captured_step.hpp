// A training step captured in a CUDA graph: the CPU makes one launch a step instead of hundreds. Where LibTorch or its
// headers have no CUDA this is built too, and its constructor throws; settings/capturable.hpp says which it is.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace mma::examples {

/// Whether this program was compiled with CUDA's headers and LibTorch's CUDA half.
class CapturedStep {
 public:
  /// Makes a stream of its own the current one while it lives: the default stream cannot be captured.
  explicit CapturedStep(const c10::Device& device);
  ~CapturedStep();
  CapturedStep(const CapturedStep&) = delete;
  CapturedStep& operator=(const CapturedStep&) = delete;

  /// Runs the step as it is a few times, so that libraries are loaded and memory is there; then captures it, and from
  /// then on replays what was captured. The step must read and write the same tensors each time.
  /// Throws UserError when the step does what a graph cannot hold, such as waiting for the GPU.
  void run(const std::function<void()>& step);

  /// Steps that were replayed without the CPU's part of them having run.
  int64_t steps_without_the_cpu() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace mma::examples
