// The angle between chosen pairs of rows, from the weights themselves in float64: theta = 2 atan2(|a - b|, |a + b|)
// on unit vectors, which keeps its relative accuracy down to the smallest angle, where acos of a rounded cosine loses
// it.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>

#include <algorithm>

#include "lists.hpp"
#include "math.hpp"

namespace mma::detail::pairs {

/// Pairs at a time, so that temporary copies in float64 stay in a CPU's cache; elsewhere what costs is each launch. At
/// least 2, because a reduction to a single number may be split over threads and then rounds differently from the same
/// pair in a longer list: ties would break.
inline int64_t pairs_per_chunk(int64_t dimension, at::Device device) {
  const int64_t numbers = int64_t{1} << (device.is_cpu() ? 16 : 23);
  return std::max<int64_t>(2, numbers / std::max<int64_t>(1, dimension));
}

/// Unit vectors [p, 1, d] -> |.| [p, 1].
inline at::Tensor length(const at::Tensor& vectors) { return at::linalg_vector_norm(vectors, 2, -1, true); }

/// Angles [p] in radians, float64, between rows first[k] and second[k] of rows [m, d] with norms [m].
/// Exact duplicates give 0 and antipodes pi.
inline at::Tensor pair_angles(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& first,
                              const at::Tensor& second) {
  if (takes_cpu_loops(rows)) {
    return cpu_pair_angles(rows, norms, first, second);
  }
  const int64_t pairs = first.numel();
  if (pairs == 1) {
    return pair_angles(rows, norms, at::cat({first, first}), at::cat({second, second})).narrow(0, 0, 1);
  }
  const auto unit = [&](const at::Tensor& index) {
    return rows.index_select(0, index).to(at::kDouble).div_(norms.index_select(0, index).unsqueeze(1));
  };
  const double duplicate = duplicate_distance(rows.scalar_type());
  at::Tensor angles = at::empty({pairs}, norms.options());
  const int64_t chunk = pairs_per_chunk(rows.size(1), rows.device());
  for (int64_t begin = 0; begin < pairs; begin += chunk) {
    const int64_t left = std::min(chunk, pairs - begin);
    const int64_t start = left == 1 ? begin - 1 : begin;  // rather reach back than take a single pair
    const int64_t size = begin + left - start;
    const at::Tensor a = unit(first.narrow(0, start, size));
    const at::Tensor b = unit(second.narrow(0, start, size));
    const at::Tensor difference = length(a - b).squeeze(1);
    const at::Tensor sum = length(a + b).squeeze(1);
    at::Tensor angle = at::atan2(difference, sum).mul_(2);
    angle.masked_fill_(difference <= duplicate, 0.0);
    angle.masked_fill_(sum <= duplicate, pi);
    angles.narrow(0, start, size).copy_(angle);
  }
  return angles;
}

}  // namespace mma::detail::pairs
