// Gradients averaged over the processes by c10d's Reducer, as DistributedDataParallel does: in buckets, each on its way
// while the backward pass goes on.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "training/distributed/processes.hpp"

namespace mma::examples {

class GradientReducer {
 public:
  /// Of parameters that take part in every loss, in the order in which the network has them: the backward pass meets
  /// them in the opposite one.
  GradientReducer(const std::vector<at::Tensor>& parameters, const Processes& processes);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// loss.backward(), after which each .grad is the mean of the processes' gradients, with the same bits in all of
  /// them.
  void backward(const at::Tensor& loss);

  /// Seconds in which the processes' gradients were on their way and nothing was computed beside, all steps together.
  /// On a GPU that is estimated from each hundredth step.
  double seconds() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace mma::examples
