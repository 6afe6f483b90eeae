// The last digits of a spherical code: from a good configuration to the local optimum on its contact graph, by a
// trust-region sequence of linear programs (Clp) over the pairs at and near the minimal angle.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace mma::examples {

struct Polished {
  at::Tensor points;   ///< [n, d] float64, unit length
  int64_t rounds = 0;  ///< linear programs solved
};

/// Moves the points [n, d] to raise their minimal angle until no step promises to raise their squared distance by
/// 1e-15, or `stop` is true. The result's angle is never smaller. Seconds for 600 points in 4 dimensions a round.
Polished polish(const at::Tensor& points, const std::function<bool()>& stop = {});

}  // namespace mma::examples
