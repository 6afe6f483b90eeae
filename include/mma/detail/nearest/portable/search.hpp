// Which row is nearest to each in LibTorch's operations, without a shape or a branch that depends on the numbers: how
// close all pairs of unit rows are, as products in float64, and the first largest of each row.
//
// It is -|a - b|^2 from three products of rows split at 2^-25, a = h + l. Sums over h are exact (multiples of 2^-50,
// below 4), so near rows lose nothing to cancellation, where a cosine would: the row given is the true nearest but for
// the rounding of its unit row, 3e-16 rad and as much relative, at every angle down to where rows count as duplicates;
// beyond pi - 1e-7, where all other rows lie at the antipode, 3e-8 rad.
// So what near ties mean is kept without a second look. Duplicates are equal, and of equal rows the first one is given.
// Products in float64 suit a GPU that has tensor cores for them (A100, H100; not measured). On one without they are
// what costs.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/max.h>

#include <algorithm>

namespace mma::detail::nearest::portable {

/// Below any closeness: a row's to itself, which it is given where there is no other, and that of rows that take no
/// part.
inline constexpr double to_itself = -16, to_none = -32;

/// Unit rows [b, n, d] in float64, not finite for rows that take no part, and what the products need of them.
struct SearchRows {
  at::Tensor unit;
  at::Tensor high, low;                  ///< unit = high + low
  at::Tensor high_squares, low_squares;  ///< [b, n] |high|^2, exactly, and |unit|^2 - |high|^2

  explicit SearchRows(const at::Tensor& unit_rows) : unit(unit_rows) {
    constexpr double to_grid = 1.5 * (1 << 27);  // the last place of numbers near it is 2^-25
    high = unit.add(to_grid).sub_(to_grid);
    low = unit - high;
    high_squares = high.square().sum(-1);
    low_squares = (unit + high).mul_(low).sum(-1);
  }

  /// How close the rows [start, start + count) are to all, [b, count, n]; as lines, by the nearer end.
  at::Tensor closeness(int64_t start, int64_t count, bool half_space) const {
    const auto tile = [&](const at::Tensor& t) { return t.narrow(1, start, count); };
    at::Tensor high_part = at::bmm(tile(high), high.transpose(1, 2));
    at::Tensor low_part = at::bmm(tile(unit), low.transpose(1, 2));
    low_part.baddbmm_(tile(low), high.transpose(1, 2));
    if (half_space) {
      const at::Tensor sign = (high_part + low_part).ge_(0).mul_(2).sub_(1);
      high_part.mul_(sign);
      low_part.mul_(sign);
    }
    const auto sums = [&](const at::Tensor& squares) { return tile(squares).unsqueeze(2) + squares.unsqueeze(1); };
    return high_part.mul_(2).sub_(sums(high_squares)).add_(low_part.mul_(2).sub_(sums(low_squares)));
  }
};

/// Fills nearest [b, n] with the index of the nearest row, its own for a row without one: of equally close ones the
/// lowest, which max gives on every device.
inline void search(const SearchRows& rows, bool half_space, double duplicate, int64_t tile_rows, at::Tensor nearest) {
  const int64_t n = rows.unit.size(1);
  for (int64_t start = 0; start < n; start += tile_rows) {
    const int64_t count = std::min(tile_rows, n - start);
    at::Tensor closeness = rows.closeness(start, count, half_space);
    closeness.nan_to_num_(to_none, to_none, to_none).clamp_max_(-duplicate * duplicate);
    closeness.diagonal(start, 1, 2).fill_(to_itself);
    at::Tensor largest = at::empty({closeness.size(0), count}, closeness.options());
    at::Tensor index = nearest.narrow(1, start, count);
    at::max_out(largest, index, closeness, -1);
  }
}

}  // namespace mma::detail::nearest::portable
