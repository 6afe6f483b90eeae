// All matrices of a network in one pass: what the CPU's (cpu_network.hpp) and the GPU's (cuda_network.hpp) take and
// give for the objectives over each row's nearest row, so that the cost of a small layer is its numbers, not its calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mma {

/// In what type a GPU's products look for a row's nearest row. The row found is the true nearest with each of them:
/// what lies within the type's error is decided by exact angles. TF32 and bfloat16 are for GPUs with tensor cores for
/// them.
enum class SearchPrecision { Float32, TF32, BFloat16 };

}  // namespace mma

namespace mma::detail {

/// Which pairs count.
struct PairChoice {
  bool half_space = false;    ///< angles between lines: the nearest of w_j and -w_j
  bool closest_only = false;  ///< the one closest pair of a matrix instead of each row's
};

/// f of l = mean_i f(theta_i).
enum class PairFunction {
  MinusAngle,  ///< -theta (Eq 6)
  Cosine,      ///< cos theta (Eq 5)
};

/// An objective over pairs of nearest rows: what it takes of each.
struct PairObjective {
  PairFunction function = PairFunction::MinusAngle;
  PairChoice choice;
};

/// The rows of one group of one layer.
struct PairMatrix {
  at::Tensor rows;   ///< [n, d] contiguous, without a graph; the weight's own memory wherever that is possible
  size_t layer = 0;  ///< index into PairPlan::coefficients; the groups of a layer follow each other
};

/// What a pass is over: matrices of one type on one device. It stays the same from step to step while the numbers in
/// the matrices change in place.
struct PairPlan {
  std::vector<PairMatrix> matrices;
  std::vector<double> coefficients;  ///< of each layer
  PairObjective objective;
};

/// What a pass found, which the gradient needs. Vectors over the rows of all matrices laid end to end, on the device.
///   theta_r    the angle between row r and its nearest, from 0 to pi; folded: min(theta, pi - theta) where lines are
///   meant weight_r   1/n of the n usable rows of its matrix; with closest_only 1 at the first row with the smallest
///   angle
///              and 0 elsewhere; 0 for rows that are not usable and for matrices with fewer than two usable rows
///   share_m    of a matrix in its layer's mean: its usable rows over those of all the layer's matrices that have two
struct FoundPairs {
  at::Tensor value;    ///< []: sum over layers of coefficient * sum_m share_m * sum_r weight_r f(folded theta_r)
  at::Tensor norms;    ///< float64
  at::Tensor nearest;  ///< int32, index within the matrix; itself for a row without one
  at::Tensor angles;   ///< float64, theta_r
  at::Tensor slopes;   ///< float64, d value / d theta_r; NaN where it counts in a matrix with NaN or Inf
};

/// A pass that is made once and run at each step; it allocates nothing but what it gives.
class PairNetwork {
 public:
  virtual ~PairNetwork() = default;

  /// Values and pairs; with `nearest` (of an earlier pass) those pairs, exactly evaluated, instead of a search.
  virtual FoundPairs find(const at::Tensor& nearest) = 0;

  /// gradients[m] [n, d] (contiguous, of the rows' type) += scale * factor * d value/d rows; a factor is a scalar on
  /// the device, 1 when undefined.
  virtual void add_gradient(const FoundPairs& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factor,
                            double scale) = 0;

  /// Both at once.
  virtual FoundPairs find_and_add_gradient(const std::vector<at::Tensor>& gradients, double scale,
                                           const at::Tensor& nearest) {
    FoundPairs found = find(nearest);
    add_gradient(found, gradients, {}, scale);
    return found;
  }
};

}  // namespace mma::detail
