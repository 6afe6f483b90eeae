// The nearest-row search on a CPU: tiles of the upper triangle of W W^T, each one matrix product whose row and column
// maxima are taken while it is in cache; nothing n x n is kept. Step 1 of nearest_rows.hpp for any number of matrices,
// with a short list of candidates a row, so that what it finds does not depend on which thread takes which tile.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "cpu_pairs.hpp"
#include "row_norms.hpp"

namespace mma::detail {

inline constexpr int64_t search_tile = 128;   ///< rows and columns of a tile
inline constexpr int64_t inner_block = 512;   ///< products are summed in blocks of so many terms
inline constexpr int64_t few_candidates = 8;  ///< more than this go to the next, more accurate step

/// Bound on |computed - true| of a cosine of unit rows: n-term sums are off by n units in the last place at most
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), normalisation by six more.
inline double cosine_error(int64_t dimension, double unit_roundoff) {
  const int64_t terms = std::min(dimension, inner_block) + dimension / inner_block + 1;
  return 1.01 * static_cast<double>(terms + 6) * unit_roundoff;
}

/// The columns whose computed cosine with a row is within the error bound of the largest one seen so far.
template <typename T>
struct CandidateList {
  T best = -std::numeric_limits<T>::infinity();
  bool overflow = false;  ///< more than few_candidates at some time
  int32_t count = 0;
  std::array<int32_t, few_candidates> columns;
  std::array<T, few_candidates> cosines;

  void clear() {
    best = -std::numeric_limits<T>::infinity();
    overflow = false;
    count = 0;
  }

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

/// What a search says of a row.
struct CpuNeighbour {
  int64_t index;        ///< within the matrix; the row itself when it has none
  double angle = 0;     ///< between the two rows, from 0 to pi
  bool settled = true;  ///< false: too many candidates for this search
};

/// The search over matrices whose rows may be scaled: cosine = product * inverse * inverse. Made once for matrices that
/// stay where they are: a search allocates nothing.
template <typename T>
class CpuSearch {
 public:
  /// matrices [n, d], contiguous, T.
  explicit CpuSearch(const std::vector<at::Tensor>& matrices) {
    int64_t offset = 0;
    for (const at::Tensor& rows : matrices) {
      matrices_.push_back({rows.const_data_ptr<T>(), rows.size(0), rows.size(1), offset});
      rows_.push_back(rows);
      offset += rows.size(0);
      windows_.push_back(static_cast<T>(2 * cosine_error(rows.size(1), double{std::numeric_limits<T>::epsilon()} / 2)));
      options_ = rows.options();
      add_blocks(rows);
    }
    scaled_.resize(matrices.size());
    lists_.resize(static_cast<size_t>(offset));
    inverse_.resize(static_cast<size_t>(offset));
    excluded_.resize(static_cast<size_t>(offset));
    locks_ = std::make_unique<std::mutex[]>(blocks_.size());
  }

  const std::vector<CpuMatrix<T>>& matrices() const { return matrices_; }

  /// Before a search, for each of its matrices: norms [n], and which rows take part (their norms are above zero).
  void set_norms(size_t m, const double* norms, const bool* takes_part) {
    const CpuMatrix<T>& matrix = matrices_[m];
    // Products of rows as they are, unless their squares leave the range of T.
    const double limit = std::sqrt(static_cast<double>(std::numeric_limits<T>::max())) / 1e4;
    bool scaled = false;
    for (int64_t r = 0; r < matrix.n; ++r) {
      scaled = scaled || (takes_part[r] && (norms[r] > limit || norms[r] < 1 / limit));
    }
    if (scaled || scaled_[m]) {
      const at::Tensor own = at::from_blob(const_cast<double*>(norms), {matrix.n}, at::kDouble);
      set_views(m, scaled ? unit_rows(rows_[m], own.clamp(zero_norm, std::numeric_limits<double>::max())) : rows_[m]);
      scaled_[m] = scaled;
    }
    for (int64_t r = 0; r < matrix.n; ++r) {
      const auto row = static_cast<size_t>(matrix.offset + r);
      inverse_[row] = static_cast<T>(!takes_part[r] ? 0 : scaled ? 1 : 1 / norms[r]);
      excluded_[row] = takes_part[r] ? T{0} : -std::numeric_limits<T>::infinity();
      lists_[row].clear();
    }
  }

  /// Fills the lists of the matrices [begin, end).
  void search(size_t begin, size_t end, bool half_space) {
    half_space_ = half_space;
    tiles_.resize(std::max(tiles_.size(), static_cast<size_t>(at::get_num_threads())));
    double work = 0;
    for (size_t m = begin; m < end; ++m) {
      work += static_cast<double>(matrices_[m].n * matrices_[m].n * matrices_[m].dimension) / 2;
    }
    for_each_task({first_pair_[begin], first_pair_[end]}, work, [&](int64_t pair, size_t thread) {
      const BlockPair& blocks = pairs_[static_cast<size_t>(pair)];
      search_tile_pair(blocks_[blocks.rows], blocks_[blocks.columns], tiles_[thread]);
    });
  }

  /// The nearest row to row r of a matrix with these norms [n]: of its candidates that at the smallest angle, of equal
  /// ones the first.
  CpuNeighbour nearest(size_t m, int64_t r, const double* norms) {
    const CpuMatrix<T>& matrix = matrices_[m];
    CandidateList<T>& list = lists_[static_cast<size_t>(matrix.offset + r)];
    list.drop_below(list.best - windows_[m]);
    CpuNeighbour found{.index = r, .settled = !list.overflow};
    double best = std::numeric_limits<double>::infinity();
    for (int32_t k = 0; found.settled && k < list.count; ++k) {
      const int64_t column = list.columns[static_cast<size_t>(k)];
      const PairLengths lengths = cpu_lengths(matrix, norms, r, column);
      const double theta = cpu_angle_of<T>(lengths);
      // Of a line's two ends neither is nearer: pi - theta would round.
      const bool obtuse = half_space_ && lengths.sum < lengths.difference;
      const double folded = obtuse ? cpu_angle_of<T>({lengths.sum, lengths.difference}) : theta;
      if (folded < best || (folded == best && column < found.index)) {
        best = folded;
        found.index = column;
        found.angle = theta;
      }
    }
    return found;
  }

 private:
  /// A range of rows of a matrix, [first, first + count), and its parts of inner_block entries of each row.
  struct Block {
    size_t matrix;
    int64_t first, count;
    int64_t offset;  ///< of its first row among all
    std::vector<at::Tensor> parts, transposed;

    void set_views(const at::Tensor& rows, int64_t begin) {
      parts.clear();
      transposed.clear();
      const at::Tensor own = rows.narrow(0, begin, count);
      for (int64_t k = 0; k < rows.size(1); k += inner_block) {
        parts.push_back(own.narrow(1, k, std::min(inner_block, rows.size(1) - k)));
        transposed.push_back(parts.back().t());
      }
    }
  };

  struct BlockPair {
    uint32_t rows, columns;
  };

  /// What a thread works in.
  struct Tile {
    std::vector<at::Tensor> products;  ///< one for each shape met, over the same memory
    std::array<T, search_tile> row_best, column_best;

    const at::Tensor& product(int64_t rows, int64_t columns, const at::TensorOptions& options) {
      for (const at::Tensor& p : products) {
        if (p.size(0) == rows && p.size(1) == columns) {
          return p;
        }
      }
      if (products.empty()) {
        products.push_back(at::empty({search_tile, search_tile}, options));
      }
      return products.emplace_back(products.front().view({-1}).narrow(0, 0, rows * columns).view({rows, columns}));
    }
  };

  void add_blocks(const at::Tensor& rows) {
    const CpuMatrix<T>& matrix = matrices_.back();
    const size_t first_of_matrix = blocks_.size();
    first_block_.push_back(first_of_matrix);
    for (int64_t first = 0; first < matrix.n; first += search_tile) {
      const int64_t count = std::min(search_tile, matrix.n - first);
      blocks_.push_back({matrices_.size() - 1, first, count, matrix.offset + first, {}, {}});
      blocks_.back().set_views(rows, first);
    }
    for (size_t i = first_of_matrix; i < blocks_.size(); ++i) {
      for (size_t j = i; j < blocks_.size(); ++j) {
        pairs_.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(j)});
      }
    }
    first_pair_.push_back(static_cast<int64_t>(pairs_.size()));
  }

  void search_tile_pair(const Block& rows, const Block& columns, Tile& tile) {
    T* products = multiply(rows, columns, tile);
    scale(rows, columns, products, tile);
    offer_to_rows(rows, columns, products, tile);
    if (&rows != &columns) {
      offer_to_columns(rows, columns, products, tile);
    }
  }

  /// [rows, columns] of W W^T, summed in blocks of inner_block terms for a tight error bound.
  T* multiply(const Block& rows, const Block& columns, Tile& tile) const {
    at::Tensor products = tile.product(rows.count, columns.count, options_);
    for (size_t k = 0; k < rows.parts.size(); ++k) {
      k == 0 ? at::mm_out(products, rows.parts[k], columns.transposed[k])
             : at::addmm_out(products, products, rows.parts[k], columns.transposed[k]);
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
    const std::lock_guard guard(lock_of(rows));
    const T window = windows_[rows.matrix];
    for (int64_t r = 0; r < rows.count; ++r) {
      const auto place = static_cast<size_t>(rows.offset + r);
      CandidateList<T>& list = lists_[place];
      const T factor = inverse_[place];
      const T best = tile.row_best[static_cast<size_t>(r)] * factor;
      const T threshold = std::max(list.best, best) - window;
      if (!(factor > 0) || !(best >= threshold) || std::isinf(best)) {
        continue;  // beaten, or nothing takes part
      }
      const T* row = products + r * columns.count;
      for (int64_t c = 0; c < columns.count; ++c) {
        if (row[c] * factor >= threshold) {
          list.offer(columns.first + c, row[c] * factor, window);
        }
      }
    }
  }

  void offer_to_columns(const Block& rows, const Block& columns, const T* products, const Tile& tile) {
    const std::lock_guard guard(lock_of(columns));
    const T window = windows_[columns.matrix];
    for (int64_t c = 0; c < columns.count; ++c) {
      const auto place = static_cast<size_t>(columns.offset + c);
      CandidateList<T>& list = lists_[place];
      const T best = tile.column_best[static_cast<size_t>(c)];
      const T threshold = std::max(list.best, best) - window;
      if (!(inverse_[place] > 0) || !(best >= threshold) || std::isinf(best)) {
        continue;
      }
      for (int64_t r = 0; r < rows.count; ++r) {
        const auto other = static_cast<size_t>(rows.offset + r);
        const T cosine = products[r * columns.count + c] * inverse_[other] + excluded_[other];
        if (cosine >= threshold) {
          list.offer(rows.first + r, cosine, window);
        }
      }
    }
  }

  std::mutex& lock_of(const Block& block) { return locks_[static_cast<size_t>(&block - blocks_.data())]; }

  void set_views(size_t m, const at::Tensor& rows) {
    size_t block = first_block_[m];
    for (int64_t first = 0; first < rows.size(0); first += search_tile) {
      blocks_[block++].set_views(rows, first);
    }
  }

  std::vector<CpuMatrix<T>> matrices_;
  std::vector<at::Tensor> rows_;
  std::vector<bool> scaled_;  ///< of each matrix: unit vectors are multiplied in its place
  std::vector<T> windows_;    ///< of each matrix: twice the error bound of a cosine
  at::TensorOptions options_;
  std::vector<Block> blocks_;
  std::vector<size_t> first_block_;      ///< of each matrix
  std::vector<BlockPair> pairs_;         ///< the tiles
  std::vector<int64_t> first_pair_{0};   ///< of each matrix, and the end
  std::vector<CandidateList<T>> lists_;  ///< of each row
  std::vector<T> inverse_, excluded_;    ///< of each row
  std::unique_ptr<std::mutex[]> locks_;  ///< of each block's lists
  std::vector<Tile> tiles_;              ///< of each thread
  bool half_space_ = false;
};

}  // namespace mma::detail
