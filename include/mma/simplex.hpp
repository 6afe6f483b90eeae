// The analytic solution of the paper's section 3.1: for n <= d + 1 points the best arrangement is the regular simplex,
// all of whose angles are arccos(-1/(n-1)). Its cosines are Eq 4's matrix C (1 on the diagonal, -1/(n-1) elsewhere),
// and points with these cosines come from C's eigenvectors.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <tuple>

namespace mma {

/// arccos(-1/(n-1)) in radians: the minimal angle of n points is never larger, in any dimension.
/// Throws c10::Error for n < 2.
inline double simplex_angle(int64_t n) {
  TORCH_CHECK(n >= 2, "mma: simplex_angle got n = ", n, "; expected at least 2 points.");
  return std::acos(-1.0 / static_cast<double>(n - 1));
}

/// n unit vectors [n, d] in float64 whose pairwise angles are all arccos(-1/(n-1)), for d >= n - 1.
/// Throws c10::Error for n < 2, and for d < n - 1, where there are none.
inline at::Tensor simplex(int64_t n, int64_t d) {
  TORCH_CHECK(n >= 2 && d >= n - 1, "mma: simplex got n = ", n, " points in d = ", d,
              " dimensions; expected n >= 2 and d >= n - 1.");
  at::Tensor cosines = at::full({n, n}, -1.0 / static_cast<double>(n - 1), at::kDouble);
  cosines.fill_diagonal_(1);
  const auto [values, vectors] = at::linalg_eigh(cosines);  // ascending: 0 first, then n / (n - 1), n - 1 times
  at::Tensor points = at::zeros({n, d}, at::kDouble);
  const at::Tensor roots = values.narrow(0, 1, n - 1).sqrt();
  points.narrow(1, 0, n - 1).copy_(vectors.narrow(1, 1, n - 1) * roots);
  return points.div_(at::linalg_vector_norm(points, 2, -1, true));
}

}  // namespace mma
