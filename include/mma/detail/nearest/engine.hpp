// The contract of the engine that finds each row's nearest row: matrices in; the nearest row, the exact angle to it and
// one value a layer out; then the gradient with a factor a layer. Backends: portable/ (LibTorch's operations, any
// device), cpu/, cuda/; make_engine() in factory.hpp chooses. What near ties mean: one winner a row, the largest
// computed cosine, the lowest index on equal bits, so that the cost does not depend on the weights; only rows nearer
// than pairs::near_angle (or as near to their antipode) are looked at in float64 among all that the search cannot tell
// apart.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <vector>

#include "../pairs/math.hpp"

namespace mma::detail::nearest {

using pairs::Objective;

/// The rows of one group of one layer.
struct Matrix {
  at::Tensor rows;   ///< [n, d] contiguous, without a graph; the weight's own memory wherever that is possible
  size_t layer = 0;  ///< the groups of a layer follow each other; layers are numbered from 0 without a gap
};

/// What an engine is over: matrices of one type on one device. They stay the same from step to step while the numbers
/// in them change in place.
struct Plan {
  std::vector<Matrix> matrices;
  Objective objective{};

  size_t layers() const { return matrices.empty() ? 0 : matrices.back().layer + 1; }
};

/// What a search found, which the gradient needs. Vectors over the rows of all matrices laid end to end, on the device.
///   theta_r    the angle between row r and its nearest, from 0 to pi
///   weight_r   1/n of the n usable rows of its matrix; with closest_only 1 at the first row with the smallest folded
///              angle (0 for one without a nearest row) and 0 elsewhere; 0 for rows that are not usable and in matrices
///              with fewer than two usable rows
///   share_m    of a matrix in its layer's mean: its usable rows over those of all the layer's matrices that have two
struct Found {
  at::Tensor values;   ///< [layers] float64: sum_m share_m sum_r weight_r f(theta_r); 0 for a layer with no matrix of
                       ///< two usable rows, NaN for one with NaN or Inf in a weight
  at::Tensor norms;    ///< [rows] float64
  at::Tensor nearest;  ///< [rows] int32, index within the matrix; itself for a row without one
  at::Tensor angles;   ///< [rows] float64, theta_r; 0 for a row without a nearest one
  at::Tensor slopes;   ///< [rows] float64, d values[layer] / d theta_r; NaN where it counts in a layer with NaN or Inf
};

/// Made once and run at each step: on a CPU and on a GPU it allocates nothing but what it gives. No method waits for a
/// GPU. Not thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;

  /// Searches; with `nearest` ([rows] int32 of an earlier search, on the device) takes those rows, exactly evaluated,
  /// instead: a row that is zero now, or whose neighbour is, or whose neighbour is no row, has none.
  virtual Found find(const at::Tensor& nearest) = 0;

  /// gradients[m] [n, d] (contiguous, of the rows' type and device) += scale * factors[layer of m] * d values[layer] /
  /// d rows of matrix m. factors: [layers] float64 on the device.
  virtual void add_gradient(const Found& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factors,
                            double scale) = 0;

  /// Both at once.
  virtual Found find_and_add_gradient(const std::vector<at::Tensor>& gradients, const at::Tensor& factors, double scale,
                                      const at::Tensor& nearest) {
    Found found = find(nearest);
    add_gradient(found, gradients, factors, scale);
    return found;
  }
};

}  // namespace mma::detail::nearest
