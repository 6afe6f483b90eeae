// The nearest-row search on a CPU: tiles of the upper triangle of W W^T, each one matrix product whose row and column
// maxima are taken while it is in cache; nothing n x n is kept. Step 1 of nearest_rows.hpp, with a short list of
// candidates a row, so that what it finds does not depend on the order in which threads finish their tiles.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <numbers>
#include <vector>

#include "cpu_pairs.hpp"

namespace mma::detail {

inline constexpr int64_t search_tile = 128;   ///< rows and columns of a tile
inline constexpr int64_t inner_block = 512;   ///< products are summed in blocks of so many terms
inline constexpr int64_t few_candidates = 8;  ///< more than this go to the next, more accurate step

/// The columns whose computed cosine with a row is within the error bound of the largest one seen so far.
template <typename T>
struct CandidateList {
  T best = -std::numeric_limits<T>::infinity();
  bool overflow = false;  ///< more than few_candidates at some time
  int32_t count = 0;
  std::array<int32_t, few_candidates> columns;
  std::array<T, few_candidates> cosines;

  void drop_below(T threshold) {
    int32_t kept = 0;
    for (int32_t k = 0; k < count; ++k) {
      const auto from = static_cast<size_t>(k), to = static_cast<size_t>(kept);
      columns[to] = columns[from];
      cosines[to] = cosines[from];
      kept += cosines[from] >= threshold ? 1 : 0;
    }
    count = kept;
  }

  void offer(int64_t column, T cosine, T window) {
    best = std::max(best, cosine);
    if (count == few_candidates) {
      drop_below(best - window);
    }
    if (count == few_candidates) {
      overflow = true;
      return;
    }
    columns[static_cast<size_t>(count)] = static_cast<int32_t>(column);
    cosines[static_cast<size_t>(count)] = cosine;
    ++count;
  }
};

/// The search over matrices [n, d] laid end to end, whose rows may be scaled: cosine = product * inverse * inverse.
template <typename T>
class CpuSearch {
 public:
  /// rows [b, n, d] contiguous; inverse [b * n]: 1/|w|, 0 for rows that do not take part; `window`: twice the error
  /// bound of a cosine.
  CpuSearch(const at::Tensor& rows, std::vector<T> inverse, bool half_space, double window)
      : rows_(rows),
        n_(rows.size(1)),
        dimension_(rows.size(2)),
        blocks_((n_ + search_tile - 1) / search_tile),
        inverse_(std::move(inverse)),
        excluded_(inverse_.size()),
        half_space_(half_space),
        window_(static_cast<T>(window)),
        lists_(inverse_.size()),
        locks_(std::make_unique<std::mutex[]>(static_cast<size_t>(rows.size(0) * blocks_))) {
    for (size_t r = 0; r < inverse_.size(); ++r) {
      excluded_[r] = inverse_[r] > 0 ? T{0} : -std::numeric_limits<T>::infinity();
    }
    const int64_t pairs = blocks_ * (blocks_ + 1) / 2;
    at::parallel_for(0, rows.size(0) * pairs, tiles_per_thread(), [&](int64_t begin, int64_t end) {
      Tile tile(rows_.options());
      for (int64_t t = begin; t < end; ++t) {
        search_tile_pair(t / pairs, t % pairs, tile);
      }
    });
    for (CandidateList<T>& list : lists_) {
      list.drop_below(list.best - window_);
    }
  }

  const std::vector<CandidateList<T>>& lists() const { return lists_; }

 private:
  /// What a thread works in.
  struct Tile {
    explicit Tile(const at::TensorOptions& options) : products(at::empty({search_tile * search_tile}, options)) {}

    at::Tensor products;
    std::array<T, search_tile> row_best, column_best;
  };

  /// A range of rows: of matrix b from `first`, `count` of them; their place among all rows is `offset`.
  struct Block {
    int64_t first, count, offset;
    std::mutex* lock;
  };

  /// Small products are not worth waking a thread.
  int64_t tiles_per_thread() const {
    constexpr int64_t worthwhile = int64_t{1} << 18;
    const int64_t side = std::min(n_, search_tile);
    return std::max<int64_t>(1, worthwhile / (side * side * dimension_));
  }

  Block block(int64_t b, int64_t index) const {
    const int64_t first = index * search_tile;
    return {first, std::min(search_tile, n_ - first), b * n_ + first,
            &locks_[static_cast<size_t>(b * blocks_ + index)]};
  }

  void search_tile_pair(int64_t b, int64_t pair, Tile& tile) {
    int64_t i = 0;
    for (int64_t left = pair; left >= blocks_ - i; ++i) {
      pair = left -= blocks_ - i;
    }
    const Block rows = block(b, i), columns = block(b, i + pair);
    T* products = multiply(b, rows, columns, tile);
    scale(rows, columns, products, tile);
    offer_to_rows(rows, columns, products, tile);
    if (pair > 0) {
      offer_to_columns(rows, columns, products, tile);
    }
  }

  /// [rows, columns] of W W^T, summed in blocks of inner_block terms for a tight error bound.
  T* multiply(int64_t b, const Block& rows, const Block& columns, Tile& tile) const {
    const at::Tensor matrix = rows_.select(0, b);
    const at::Tensor left = matrix.narrow(0, rows.first, rows.count),
                     right = matrix.narrow(0, columns.first, columns.count);
    at::Tensor products = tile.products.narrow(0, 0, rows.count * columns.count).view({rows.count, columns.count});
    for (int64_t k = 0; k < dimension_; k += inner_block) {
      const int64_t terms = std::min(inner_block, dimension_ - k);
      const at::Tensor l = left.narrow(1, k, terms), r = right.narrow(1, k, terms).t();
      k == 0 ? at::mm_out(products, l, r) : at::addmm_out(products, products, l, r);
    }
    return products.mutable_data_ptr<T>();
  }

  /// Products become cosines but for the row's own factor; takes the largest of each row and column.
  void scale(const Block& rows, const Block& columns, T* products, Tile& tile) const {
    const T* inverse = inverse_.data() + columns.offset;
    const T* excluded = excluded_.data() + columns.offset;
    tile.column_best.fill(-std::numeric_limits<T>::infinity());
    for (int64_t r = 0; r < rows.count; ++r) {
      T* row = products + r * columns.count;
      half_space_ ? scale_row<true>(row, inverse, excluded, columns.count)
                  : scale_row<false>(row, inverse, excluded, columns.count);
      if (rows.offset == columns.offset) {
        row[r] = -std::numeric_limits<T>::infinity();
      }
      const auto place = static_cast<size_t>(rows.offset + r);
      tile.row_best[static_cast<size_t>(r)] = largest(row, columns.count);
      raise(tile.column_best.data(), row, inverse_[place], excluded_[place], columns.count);
    }
  }

  template <bool folded>
  static void scale_row(T* row, const T* inverse, const T* excluded, int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
      row[c] = (folded ? std::abs(row[c]) : row[c]) * inverse[c] + excluded[c];
    }
  }

  /// Comparisons with NaN, from rows that do not take part, are false: it is never the largest.
  static T largest(const T* row, int64_t count) {
    constexpr int64_t width = 16;
    std::array<T, width> lanes;
    lanes.fill(-std::numeric_limits<T>::infinity());
    int64_t c = 0;
    for (; c + width <= count; c += width) {
      for (int64_t lane = 0; lane < width; ++lane) {
        T& best = lanes[static_cast<size_t>(lane)];
        best = row[c + lane] > best ? row[c + lane] : best;
      }
    }
    T best = *std::max_element(lanes.begin(), lanes.end());
    for (; c < count; ++c) {
      best = row[c] > best ? row[c] : best;
    }
    return best;
  }

  static void raise(T* best, const T* row, T inverse, T excluded, int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
      const T cosine = row[c] * inverse + excluded;
      best[c] = cosine > best[c] ? cosine : best[c];
    }
  }

  void offer_to_rows(const Block& rows, const Block& columns, const T* products, const Tile& tile) {
    const std::lock_guard guard(*rows.lock);
    for (int64_t r = 0; r < rows.count; ++r) {
      const auto place = static_cast<size_t>(rows.offset + r);
      CandidateList<T>& list = lists_[place];
      const T factor = inverse_[place];
      const T best = tile.row_best[static_cast<size_t>(r)] * factor;
      const T threshold = std::max(list.best, best) - window_;
      if (!(factor > 0) || !(best >= threshold) || std::isinf(best)) {
        continue;  // beaten, or nothing takes part
      }
      const T* row = products + r * columns.count;
      for (int64_t c = 0; c < columns.count; ++c) {
        if (row[c] * factor >= threshold) {
          list.offer(columns.first + c, row[c] * factor, window_);
        }
      }
    }
  }

  void offer_to_columns(const Block& rows, const Block& columns, const T* products, const Tile& tile) {
    const std::lock_guard guard(*columns.lock);
    for (int64_t c = 0; c < columns.count; ++c) {
      const auto place = static_cast<size_t>(columns.offset + c);
      CandidateList<T>& list = lists_[place];
      const T best = tile.column_best[static_cast<size_t>(c)];
      const T threshold = std::max(list.best, best) - window_;
      if (!(inverse_[place] > 0) || !(best >= threshold) || std::isinf(best)) {
        continue;
      }
      for (int64_t r = 0; r < rows.count; ++r) {
        const auto other = static_cast<size_t>(rows.offset + r);
        const T cosine = products[r * columns.count + c] * inverse_[other] + excluded_[other];
        if (cosine >= threshold) {
          list.offer(rows.first + r, cosine, window_);
        }
      }
    }
  }

  at::Tensor rows_;
  int64_t n_, dimension_, blocks_;
  std::vector<T> inverse_, excluded_;
  bool half_space_;
  T window_;
  std::vector<CandidateList<T>> lists_;
  std::unique_ptr<std::mutex[]> locks_;
};

}  // namespace mma::detail
