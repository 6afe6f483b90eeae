// Where many rows lie close together, closer than the search can tell apart: each of them against all rows by cosines
// in float64, in tiles, and by exact angles where those cannot tell them apart either.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "../../pairs/math.hpp"
#include "search.hpp"
#include "tasks.hpp"

namespace mma::detail::nearest::cpu {

/// One thread's look at some rows of one matrix among the rows of another, or of the same.
template <typename T>
class NearLook {
 public:
  static constexpr int64_t rows_at_a_time = 64;

  NearLook(const NormedRows<T>& own, const NormedRows<T>& others, bool half_space)
      : own_(own), others_(others), half_space_(half_space) {}

  /// found[k] is the nearest of row rows[k]; at most rows_at_a_time of them.
  void look(std::span<const int64_t> rows, std::span<Nearest> found) {
    best_.fill(no_cosine);
    for (int64_t first = 0; first < others_.matrix.n; first += search_tile) {
      const int64_t count = std::min(search_tile, others_.matrix.n - first);
      const at::Tensor cosines = multiply(rows, first, count);
      const auto* cosine = cosines.const_data_ptr<double>();
      for (size_t k = 0; k < rows.size(); ++k) {
        offer(rows[k], std::span(cosine + static_cast<int64_t>(k) * count, static_cast<size_t>(count)), first, best_[k],
              found[k]);
      }
    }
  }

 private:
  /// The cosines [rows, count] with rows first, first + 1, ...
  at::Tensor multiply(std::span<const int64_t> rows, int64_t first, int64_t count) {
    const auto size = static_cast<int64_t>(rows.size());
    at::Tensor product = at::empty({size, count}, at::kDouble);
    const int64_t dimension = own_.matrix.dimension;
    for (int64_t k = 0; k < dimension; k += inner_block) {
      const int64_t width = std::min(inner_block, dimension - k);
      const at::Tensor left = unit_parts(own_, size, k, width, [&](int64_t r) { return rows[static_cast<size_t>(r)]; });
      const at::Tensor right = unit_parts(others_, count, k, width, [&](int64_t r) { return first + r; }).t();
      k == 0 ? at::mm_out(product, left, right) : at::addmm_out(product, product, left, right);
    }
    return product;
  }

  /// Entries [k, k + width) of unit vectors, [size, width].
  template <typename Row>
  static at::Tensor unit_parts(const NormedRows<T>& from_rows, int64_t size, int64_t k, int64_t width, const Row& row) {
    at::Tensor part = at::empty({size, width}, at::kDouble);
    auto* to = part.mutable_data_ptr<double>();
    for (int64_t r = 0; r < size; ++r, to += width) {
      const T* from = from_rows.matrix.row(row(r)) + k;
      const double norm = from_rows.norms[row(r)], inverse = pairs::takes_part(norm) ? 1 / norm : 0;
      for (int64_t e = 0; e < width; ++e) {
        to[e] = static_cast<double>(from[e]) * inverse;
      }
    }
    return part;
  }

  /// Columns ascending, so that of equal angles the lowest index stays; an exact duplicate cannot be bettered.
  void offer(int64_t row, std::span<const double> cosines, int64_t first, double& best, Nearest& found) const {
    const double window = 2 * cosine_error(own_.matrix.dimension, std::numeric_limits<double>::epsilon() / 2);
    const bool same = own_.matrix.rows == others_.matrix.rows;
    for (size_t c = 0; c < cosines.size() && found.angle > 0; ++c) {
      const int64_t column = first + static_cast<int64_t>(c);
      const double cosine = half_space_ ? std::abs(cosines[c]) : cosines[c];
      if (cosine >= best - window && !(same && column == row) && pairs::takes_part(others_.norms[column])) {
        best = std::max(best, cosine);
        found.offer(pairs::deciding_angle(lengths(own_, row, others_, column), duplicate_distance<T>, half_space_),
                    column);
      }
    }
  }

  NormedRows<T> own_, others_;
  bool half_space_;
  std::array<double, rows_at_a_time> best_;
};

}  // namespace mma::detail::nearest::cpu
