// Batch normalisation over the batches of all processes at once: mean and variance are those of the whole batch, and so
// is the gradient, by all-reduces of sums on the way forward and back.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/batchnorm.h>

#include "training/distributed/processes.hpp"

namespace mma::examples {

/// While it lives, batch_norm (training/models/normalisation.hpp) in training is over all these processes, in which the
/// same network runs forward and back at the same time.
class SynchronisedNorm {
 public:
  explicit SynchronisedNorm(Processes& processes);
  ~SynchronisedNorm();
  SynchronisedNorm(const SynchronisedNorm&) = delete;
  SynchronisedNorm& operator=(const SynchronisedNorm&) = delete;

  /// Null while there is none.
  static Processes* processes();

 private:
  Processes* before_;
};

/// What a batch normalisation learns and keeps.
struct NormState {
  at::Tensor weight, bias, running_mean, running_var, batches;
  double momentum = 0.1, epsilon = 1e-5;
};

/// Of [B, C] or [B, C, ...]; a process may have no images at all.
at::Tensor synchronised_batch_norm(const at::Tensor& images, const NormState& state, Processes& processes);

}  // namespace mma::examples
