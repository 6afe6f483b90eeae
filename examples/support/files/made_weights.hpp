// The weights that reparametrised and pruned layers compute from what is stored: weight_norm, spectral_norm and prune
// of torch.nn.utils, and weight_norm and spectral_norm of torch.nn.utils.parametrizations.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

struct MadeWeight {
  std::string name;  ///< "fc.weight"
  at::Tensor tensor;
  std::string note;  ///< how it was made, or that it is shown as stored; empty for a tensor that needs no word
};

/// The tensors in their order; in place of the parts of a weight the weight, where the last of its parts stood.
std::vector<MadeWeight> made_weights(const std::vector<std::pair<std::string, at::Tensor>>& tensors);

}  // namespace mma::examples
