// Which row is nearest to each, exactly, in LibTorch's operations without a shape or a branch that depends on the
// numbers: |a - b|^2 of all pairs of unit rows from three products in float64. Each row is split, a = h + l, at 2^-25.
// Sums over h are exact (multiples of 2^-50, below 4), so near rows lose nothing to cancellation, where a cosine would.
//
// So what near ties mean is kept without a second look: the row given is the true nearest but for the rounding of its
// unit row, 3e-16 rad and as much relative, at every angle down to where rows count as duplicates; beyond pi - 1e-7,
// where all other rows lie at the antipode, 3e-8 rad. Duplicates are equal, and of equal rows the first one is given.
// Three products in float64 suit a GPU that has tensor cores for them (A100, H100: by their count of operations a tenth
// of what the paper's formula takes for a network; not measured). On one without they are what costs.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/min.h>
#include <ATen/ops/threshold.h>

#include <algorithm>

namespace mma::detail::nearest::portable {

/// Above any |a - b|^2: a row and itself, and rows that take no part.
inline constexpr double no_distance = 16;

/// Unit rows and what the products need of them.
struct SplitRows {
  at::Tensor unit;          ///< [b, n, d] float64; 0 for rows that take no part
  at::Tensor high, low;     ///< unit = high + low
  at::Tensor high_squares;  ///< [b, n] |high|^2, exactly; no_distance for rows that take no part
  at::Tensor low_squares;   ///< [b, n] |unit|^2 - |high|^2

  SplitRows(const at::Tensor& unit_rows, const at::Tensor& left_out) : unit(unit_rows) {
    constexpr double to_grid = 1.5 * (1 << 27);  // the last place of numbers near it is 2^-25
    high = unit.add(to_grid).sub_(to_grid);
    low = unit - high;
    high_squares = high.square().sum(-1).masked_fill_(left_out, no_distance);
    low_squares = (unit + high).mul_(low).sum(-1);
  }
};

/// |a - b|^2 [b, t, n] of the rows [start, start + t) to all; between lines that of the nearer end.
inline at::Tensor square_distances(const SplitRows& rows, int64_t start, int64_t count, bool half_space) {
  const auto tile = [&](const at::Tensor& t) { return t.narrow(1, start, count); };
  at::Tensor high = at::bmm(tile(rows.high), rows.high.transpose(1, 2));
  at::Tensor low = at::bmm(tile(rows.unit), rows.low.transpose(1, 2));
  low.baddbmm_(tile(rows.low), rows.high.transpose(1, 2));
  if (half_space) {
    const at::Tensor sign = (high + low).ge_(0).mul_(2).sub_(1);
    high.mul_(sign);
    low.mul_(sign);
  }
  const auto sums = [&](const at::Tensor& squares) { return tile(squares).unsqueeze(2) + squares.unsqueeze(1); };
  return sums(rows.high_squares).sub_(high, 2).add_(sums(rows.low_squares).sub_(low, 2));
}

/// Fills distance [b, n] with |a - b|^2 to the nearest row, at least no_distance / 2 for a row without one, and nearest
/// [b, n] with its index: of equal ones the lowest, which min gives on every device.
inline void search(const SplitRows& rows, bool half_space, double duplicate, int64_t tile_rows, at::Tensor distance,
                   at::Tensor nearest) {
  const int64_t n = rows.unit.size(1);
  for (int64_t start = 0; start < n; start += tile_rows) {
    const int64_t count = std::min(tile_rows, n - start);
    at::Tensor distances = square_distances(rows, start, count, half_space);
    distances.diagonal(start, 1, 2).fill_(no_distance);
    at::threshold_(distances, duplicate * duplicate, 0);
    at::Tensor tile_distance = distance.narrow(1, start, count), tile_nearest = nearest.narrow(1, start, count);
    at::min_out(tile_distance, tile_nearest, distances, -1);
  }
}

}  // namespace mma::detail::nearest::portable
