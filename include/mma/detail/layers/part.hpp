// A part of a regularizer's loss: some of its layers that go together, and what the regularizer asks of them.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <string>
#include <vector>

#include "../../layer.hpp"

namespace mma::detail::layers {

/// A layer that counts, with the coefficient that it has in this process.
struct Term {
  Layer layer;
  double coefficient = 0;
};

class Part {
 public:
  virtual ~Part() = default;

  /// sum_l coefficient_l * objective(layer l), with a graph to the weights. search: whether the nearest rows are
  /// searched, or those of the last search kept (Options::refresh_every).
  virtual at::Tensor loss(bool search) = 0;

  /// The same value without a graph; adds scale times its gradient to each weight's .grad.
  virtual at::Tensor accumulate(double scale, bool search) = 0;

  /// Begins the next search beside what comes, where that is possible.
  virtual void start(bool /*search*/) {}

  /// The rows of the last search, where they are kept; undefined elsewhere. May be set to those of a checkpoint.
  virtual at::Tensor nearest() const { return {}; }
  virtual void set_nearest(const at::Tensor& /*nearest*/) {}
};

inline std::vector<at::Tensor> weights_of(const std::vector<Term>& terms) {
  std::vector<at::Tensor> result;
  result.reserve(terms.size());
  for (const Term& term : terms) {
    result.push_back(term.layer.weight());
  }
  return result;
}

/// The weights, all of them leaves: accumulate() writes to .grad, which a weight computed from other tensors has not.
inline std::vector<at::Tensor> leaves_of(const std::vector<Term>& terms) {
  const at::AutoGradMode as_in_training(true);
  std::vector<at::Tensor> weights = weights_of(terms);
  for (size_t k = 0; k < terms.size(); ++k) {
    TORCH_CHECK(weights[k].is_leaf(), "mma: layer '", terms[k].layer.name,
                "' has a weight that is computed from other tensors; expected a leaf, or use loss() for it.");
  }
  return weights;
}

}  // namespace mma::detail::layers
