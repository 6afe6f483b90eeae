// Stochastic gradient descent with momentum, weight decay and Nesterov's variant: LibTorch's fused update on momentum
// buffers that belong to us by name, so that a checkpoint can hold them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "support/files/tensors.hpp"

namespace mma::examples {

struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 0;
  bool nesterov = false;
  bool decay_filters_only = false;  ///< no weight decay of vectors: normalisation and biases
};

class Sgd {
 public:
  /// Updates these parameters in place; each needs a gradient whenever step is called.
  Sgd(NamedTensors parameters, SgdOptions options);

  /// On a GPU it lies in the GPU's memory, so that a step captured in a CUDA graph sees each change.
  void set_learning_rate(double learning_rate);

  /// g = gradient + weight_decay * w;  v = momentum * v + g;  w -= rate * (nesterov ? g + momentum * v : v)
  /// Nothing of it where `found_inf` (float32, one number, on the parameters' device) is there and not 0.
  void step(const std::optional<at::Tensor>& found_inf = {});

  /// Forgets the gradients.
  void zero_grad();

  /// The momentum buffers v under their parameters' names; they start at zero. None when the momentum is 0.
  const NamedTensors& momentum_buffers() const { return momentum_buffers_; }

 private:
  SgdOptions options_;
  /// Parameters of one weight decay, and where their buffers are.
  struct Group {
    std::vector<at::Tensor> parameters, buffers;
    double weight_decay = 0;
  };

  void update(const Group& group, const std::optional<at::Tensor>& found_inf) const;

  std::vector<Group> groups_;
  NamedTensors momentum_buffers_;
  double learning_rate_ = 0;
  at::Tensor learning_rate_on_gpu_;
};

}  // namespace mma::examples
