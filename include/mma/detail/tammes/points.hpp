// Points on the sphere as the Tammes solvers handle them: starts, unit vectors, and the minimal angle by the engine
// that finds nearest rows.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include <cstdint>

#include "../nearest/factory.hpp"
#include "../rows/norms.hpp"
#include "../rows/precision.hpp"

namespace mma::detail::tammes {

inline at::Generator generator_of(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

inline at::Tensor random_start(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, generator_of(seed), at::TensorOptions(at::kDouble));
}

inline void check_tammes_size(int64_t n, int64_t d, const at::Tensor& start) {
  TORCH_CHECK(n >= 2 && d >= 1, "mma: the Tammes solver got n = ", n, " points in d = ", d,
              " dimensions; expected n >= 2 and d >= 1.");
  TORCH_CHECK(!start.defined() || (start.dim() == 2 && start.size(0) == n && start.size(1) == d &&
                                   start.isfinite().all().item<bool>() && rows::usable_rows(start).all().item<bool>()),
              "mma: the Tammes solver got a start that is not ", n, " finite rows of ", d,
              " entries, none of them zero.");
}

inline at::Tensor unit(const at::Tensor& rows) {
  return rows::unit_rows(rows.to(at::kDouble), rows::row_norms(rows.to(at::kDouble))).contiguous();
}

/// Of points [n, d], two or more rows that are not zero, in radians, to the last digits of float64.
inline double minimal_angle(const at::Tensor& points) {
  const rows::FullPrecisionGuard guard;
  const nearest::Objective objective{.of_angle = -1, .of_cosine = 0, .half_space = false, .closest_only = false};
  return nearest::find_nearest(points.detach().to(at::kDouble).unsqueeze(0), objective).angles.min().item<double>();
}

/// The best of the configurations [n, d] that it was shown; the first of equals.
struct Best {
  at::Tensor rows;
  double angle = 0;

  void keep(const at::Tensor& candidate, double its_angle) {
    if (!rows.defined() || its_angle > angle) {
      rows = candidate;
      angle = its_angle;
    }
  }
};

}  // namespace mma::detail::tammes
