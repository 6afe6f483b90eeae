// Which row is nearest to each in LibTorch's operations, without a shape or a branch that depends on the numbers: how
// far apart all pairs of unit rows are, in float64, and the first smallest of each row.
//
// Near rows must lose nothing to cancellation, as a cosine would: what near ties mean is kept without a second look. So
// few rows are subtracted pair by pair, which is one launch; it is right but for the rounding of the unit rows, 3e-16
// rad. Many rows take |a - b|^2 / 2 from three products of rows split at 2^-25, a = h + l. Sums over h are exact
// (multiples of 2^-51, below 2), so the row given is the true nearest but for the rounding of its unit row, and of
// what is small in |a - b|^2, 1e-12 rad, at every angle. Beyond pi - 1e-7, where all other rows lie at the antipode, it
// is 3e-8 rad in both.
// Duplicates are equal, and of equal rows the first one is given. Products in float64 suit a GPU that has tensor cores
// for them (A100, H100; not measured). On one without they are what costs.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/min.h>
#include <ATen/ops/minimum.h>

#include <algorithm>

namespace mma::detail::nearest::portable {

/// Beyond any distance: a row's to itself, which it is given where there is no other, and that of rows that take no
/// part.
inline constexpr double to_itself = 4, to_none = 8;

/// Up to so many pairs, and numbers of their rows, are subtracted one by one: what costs is each launch.
inline constexpr int64_t few_pairs = int64_t{1} << 14, few_numbers = int64_t{1} << 24;

/// factor a . b of each row of contiguous a and b [b, n, d] -> [b, n].
inline at::Tensor dots(const at::Tensor& a, const at::Tensor& b, double factor) {
  const int64_t rows = a.size(0) * a.size(1), d = a.size(2);
  const at::Tensor result = at::empty({rows, 1, 1}, a.options());
  result.baddbmm_(a.view({rows, 1, d}), b.view({rows, d, 1}), 0, factor);
  return result.view({a.size(0), a.size(1)});
}

/// Unit rows [b, n, d] in float64 as high + low, split at 2^-25; middle = high + low / 2.
struct SplitRows {
  at::Tensor high, low, middle;
  at::Tensor high_squares, low_squares;  ///< [b, n] |high|^2 / 2, exactly, and (|unit|^2 - |high|^2) / 2

  SplitRows() = default;
  explicit SplitRows(const at::Tensor& unit) {
    constexpr double to_grid = 1.5 * (1 << 27);  // the last place of numbers near it is 2^-25
    high = unit.add(to_grid).sub_(to_grid);
    low = unit - high;
    middle = unit.sub(low, 0.5);  // unit . unit' = high . high' + middle . low' + low . middle'
    high_squares = dots(high, high, 0.5);
    low_squares = dots(middle, low, 1);
  }

  /// |a - b|^2 / 2 of our rows [start, start + count) and all rows of others, [b, count, m]; as lines, from the nearer
  /// end.
  at::Tensor half_squares(int64_t start, int64_t count, const SplitRows& others, bool half_space) const {
    const auto tile = [&](const at::Tensor& t) { return count == t.size(1) ? t : t.narrow(1, start, count); };
    const auto turned = [](const at::Tensor& t) { return t.transpose(1, 2); };
    at::Tensor result = tile(high_squares).unsqueeze(2) + others.high_squares.unsqueeze(1);
    if (half_space) {
      const at::Tensor high_part = at::bmm(tile(high), turned(others.high));
      const at::Tensor low_part = at::bmm(tile(middle), turned(others.low));
      low_part.baddbmm_(tile(low), turned(others.middle));
      const at::Tensor sign = (high_part + low_part).sgn_();
      result.addcmul_(high_part, sign, -1).addcmul_(low_part, sign, -1);
    } else {
      result.baddbmm_(tile(high), turned(others.high), 1, -1);
      result.baddbmm_(tile(middle), turned(others.low), 1, -1).baddbmm_(tile(low), turned(others.middle), 1, -1);
    }
    return result.add_(tile(low_squares).unsqueeze(2)).add_(others.low_squares.unsqueeze(1));
  }
};

/// Half squares as distances that decide: rows up to `duplicate` apart are equal, rows that take no part beyond all.
inline at::Tensor decide(at::Tensor half_squares, double duplicate) {
  return half_squares.nan_to_num_(to_none, to_none, to_none).clamp_min_(duplicate * duplicate / 2);
}

/// Unit rows [b, n, d] in float64, not finite for rows that take no part.
class SearchRows {
 public:
  explicit SearchRows(const at::Tensor& unit) : unit_(unit) {
    const int64_t pairs = unit.size(0) * unit.size(1) * unit.size(1);
    subtracts_ = pairs <= few_pairs && pairs * unit.size(2) <= few_numbers;
    if (!subtracts_) split_ = SplitRows(unit);
  }

  /// How far the rows [start, start + count) are from all, [b, count, n]; as lines, from the nearer end. Rows up to
  /// `duplicate` apart are equal.
  at::Tensor distances(int64_t start, int64_t count, bool half_space, double duplicate) const {
    at::Tensor result = subtracts_
                            ? differences(half_space).nan_to_num_(to_none, to_none, to_none).clamp_min_(duplicate)
                            : decide(split_.half_squares(start, count, split_, half_space), duplicate);
    result.diagonal(start, 1, 2).fill_(to_itself);
    return result;
  }

  bool goes_in_tiles() const { return !subtracts_; }

 private:
  /// |a - b| of all pairs.
  at::Tensor differences(bool half_space) const {
    constexpr int64_t no_products = 2;
    at::Tensor result = at::cdist(unit_, unit_, 2, no_products);
    if (half_space) {
      at::minimum_out(result, result, at::cdist(unit_, unit_.neg(), 2, no_products));
    }
    return result;
  }

  at::Tensor unit_;
  bool subtracts_;
  SplitRows split_;  ///< of many rows
};

/// Fills nearest [b, n] with the index of the nearest row, its own for a row without one: of equally near ones the
/// lowest, which min gives on every device.
inline void search(const at::Tensor& unit, bool half_space, double duplicate, int64_t tile_rows, at::Tensor nearest) {
  const SearchRows rows(unit);
  const int64_t n = unit.size(1), step = rows.goes_in_tiles() ? tile_rows : n;
  for (int64_t start = 0; start < n; start += step) {
    const at::Tensor distances = rows.distances(start, std::min(step, n - start), half_space, duplicate);
    at::Tensor smallest = at::empty({distances.size(0), distances.size(1)}, distances.options());
    at::Tensor index = step == n ? nearest : nearest.narrow(1, start, distances.size(1));
    at::min_out(smallest, index, distances, -1);
  }
}

}  // namespace mma::detail::nearest::portable
