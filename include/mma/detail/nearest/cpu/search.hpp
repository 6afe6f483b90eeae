// The search on a CPU: tiles of the upper triangle of W W^T, each one matrix product whose row and column maxima are
// taken while it is in cache; nothing n x n is kept. One winner a row: the largest computed cosine, the lowest index on
// equal bits, whichever thread takes which tile. Rows that are near another are looked at exactly on the way. Of two
// matrices, each one's rows among the other's: the tiles are all of A B^T.
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

#include "../../pairs/math.hpp"
#include "../../rows/norms.hpp"
#include "tasks.hpp"

namespace mma::detail::nearest::cpu {

inline constexpr int64_t search_tile = 128;  ///< rows and columns of a tile
inline constexpr int64_t inner_block = 512;  ///< products are summed in blocks of so many terms
inline constexpr double no_cosine = -4;      ///< below any cosine
inline constexpr double no_angle = 8;        ///< above any angle

/// Bound on |computed - true| of a cosine of unit rows: n-term sums are off by n units in the last place at most
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), normalisation by six more.
inline double cosine_error(int64_t dimension, double unit_roundoff) {
  const int64_t terms = std::min(dimension, inner_block) + dimension / inner_block + 1;
  return 1.01 * static_cast<double>(terms + 6) * unit_roundoff;
}

/// The nearest of some rows by their exact angles: the smallest, of equal ones the lowest index.
struct Nearest {
  double angle = no_angle;  ///< that decides: between lines that of the nearer end
  int64_t index = -1;

  void offer(double its_angle, int64_t its_index) {
    if (its_angle < angle || (its_angle == angle && its_index < index)) {
      angle = its_angle;
      index = its_index;
    }
  }
};

/// What the search knows of a row.
template <typename T>
struct Winner {
  T cosine = T{no_cosine};  ///< the largest computed
  int32_t index = -1;       ///< its column, within the matrix
  /// Of the columns that computed cosines cannot tell apart from the winner, where the row is near: the exact nearest.
  Nearest near;
  bool crowded = false;  ///< there are too many such columns to look at one by one (see near_look.hpp)
};

/// Over matrices whose rows may be scaled: cosine = product * inverse * inverse. Made once for matrices that stay where
/// they are: a search allocates nothing.
template <typename T>
class Search {
 public:
  /// matrices [n, d], contiguous, T.
  explicit Search(const std::vector<at::Tensor>& matrices) {
    for (const at::Tensor& rows : matrices) {
      add_matrix(rows);
      add_pairs_within();
    }
    make_room();
  }

  /// Of two matrices' rows, each among those of the other: matrices 0 and 1, which are searched together.
  Search(const at::Tensor& rows, const at::Tensor& others) {
    add_matrix(rows);
    add_matrix(others);
    add_pairs_across();
    make_room();
  }

  const std::vector<RowMatrix<T>>& matrices() const { return matrices_; }

  /// What the last search knows of row r of matrix m.
  const Winner<T>& winner(size_t m, int64_t r) const { return winners_[place(matrices_[m], r)]; }

  /// Searches the matrices [begin, end), whose rows, all laid end to end, have these norms.
  void search(size_t begin, size_t end, const double* norms, bool half_space) {
    half_space_ = half_space;
    norms_ = norms;
    tiles_.resize(std::max(tiles_.size(), static_cast<size_t>(at::get_num_threads())));
    double work = 0;
    for (size_t m = begin; m < end; ++m) {
      take_norms(m);
      work += static_cast<double>(matrices_[m].n * matrices_[m].n * matrices_[m].dimension) / 2;
    }
    for_each_task({first_pair_[begin], first_pair_[end]}, work, [&](int64_t pair, size_t thread) {
      const BlockPair& blocks = pairs_[static_cast<size_t>(pair)];
      search_tile_pair(blocks_[blocks.rows], blocks_[blocks.columns], tiles_[thread]);
    });
  }

 private:
  static constexpr int64_t most_looks = 8;  ///< at single pairs of a row in a tile

  /// In the place of a product with a row itself, and added to those with rows that take no part.
  static constexpr T excluded = -std::numeric_limits<T>::max() / 4;

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

  static size_t place(const RowMatrix<T>& matrix, int64_t r) { return static_cast<size_t>(matrix.offset + r); }

  void add_matrix(const at::Tensor& rows) {
    const int64_t offset = matrices_.empty() ? 0 : matrices_.back().offset + matrices_.back().n;
    matrices_.push_back({rows.const_data_ptr<T>(), rows.size(0), rows.size(1), offset});
    rows_.push_back(rows);
    errors_.push_back(cosine_error(rows.size(1), static_cast<double>(std::numeric_limits<T>::epsilon()) / 2));
    options_ = rows.options();
    first_block_.push_back(blocks_.size());
    for (int64_t first = 0; first < rows.size(0); first += search_tile) {
      const int64_t count = std::min(search_tile, rows.size(0) - first);
      blocks_.push_back({matrices_.size() - 1, first, count, offset + first, {}, {}});
      blocks_.back().set_views(rows, first);
    }
  }

  void add_pair(size_t i, size_t j) { pairs_.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(j)}); }

  void add_pairs_within() {
    for (size_t i = first_block_.back(); i < blocks_.size(); ++i) {
      for (size_t j = i; j < blocks_.size(); ++j) {
        add_pair(i, j);
      }
    }
    first_pair_.push_back(static_cast<int64_t>(pairs_.size()));
  }

  void add_pairs_across() {
    for (size_t i = 0; i < first_block_.back(); ++i) {
      for (size_t j = first_block_.back(); j < blocks_.size(); ++j) {
        add_pair(i, j);
      }
    }
    first_pair_.resize(3, static_cast<int64_t>(pairs_.size()));
  }

  void make_room() {
    const auto rows = static_cast<size_t>(matrices_.empty() ? 0 : matrices_.back().offset + matrices_.back().n);
    scaled_.resize(matrices_.size());
    winners_.resize(rows);
    inverse_.resize(rows);
    excluded_.resize(rows);
    locks_ = std::make_unique<std::mutex[]>(blocks_.size());
  }

  /// Products of rows as they are, unless their squares leave the range of T.
  void take_norms(size_t m) {
    const RowMatrix<T>& matrix = matrices_[m];
    const double* norms = norms_ + matrix.offset;
    const double limit = std::sqrt(static_cast<double>(std::numeric_limits<T>::max())) / 1e4;
    bool scaled = false;
    for (int64_t r = 0; r < matrix.n; ++r) {
      scaled = scaled || (pairs::takes_part(norms[r]) && (norms[r] > limit || norms[r] < 1 / limit));
    }
    if (scaled || scaled_[m]) {
      const at::Tensor own = at::from_blob(const_cast<double*>(norms), {matrix.n}, at::kDouble);
      set_views(m, scaled ? rows::unit_rows(rows_[m], own.clamp(pairs::zero_norm, std::numeric_limits<double>::max()))
                          : rows_[m]);
      scaled_[m] = scaled;
    }
    for (int64_t r = 0; r < matrix.n; ++r) {
      const size_t row = place(matrix, r);
      const bool part = pairs::takes_part(norms[r]);
      inverse_[row] = static_cast<T>(!part ? 0 : scaled ? 1 : 1 / norms[r]);
      excluded_[row] = part ? T{0} : excluded;
      winners_[row] = {};
    }
  }

  void set_views(size_t m, const at::Tensor& rows) {
    size_t block = first_block_[m];
    for (int64_t first = 0; first < rows.size(0); first += search_tile) {
      blocks_[block++].set_views(rows, first);
    }
  }

  void search_tile_pair(const Block& rows, const Block& columns, Tile& tile) {
    T* products = multiply(rows, columns, tile);
    scale(rows, columns, products, tile);
    {
      const std::lock_guard guard(lock_of(rows));
      offer_to_rows(rows, columns, products, tile);
    }
    if (&rows != &columns) {
      const std::lock_guard guard(lock_of(columns));
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
    const T* added = excluded_.data() + columns.offset;
    tile.column_best.fill(-std::numeric_limits<T>::max());
    for (int64_t r = 0; r < rows.count; ++r) {
      T* row = products + r * columns.count;
      half_space_ ? scale_row<true>(row, inverse, added, columns.count)
                  : scale_row<false>(row, inverse, added, columns.count);
      const auto own = static_cast<size_t>(rows.offset + r);
      if (rows.offset == columns.offset) {
        row[r] = excluded;
      }
      tile.row_best[static_cast<size_t>(r)] = largest(row, columns.count);
      raise(tile.column_best.data(), row, inverse_[own], excluded_[own], columns.count);
    }
  }

  template <bool folded>
  static void scale_row(T* row, const T* inverse, const T* added, int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
      row[c] = (folded ? std::abs(row[c]) : row[c]) * inverse[c] + added[c];
    }
  }

  static T largest(const T* row, int64_t count) {
    constexpr int64_t width = 16;
    std::array<T, width> lanes;
    lanes.fill(-std::numeric_limits<T>::max());
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

  static void raise(T* best, const T* row, T inverse, T added, int64_t count) {
    for (int64_t c = 0; c < count; ++c) {
      const T cosine = row[c] * inverse + added;
      best[c] = cosine > best[c] ? cosine : best[c];
    }
  }

  void offer_to_rows(const Block& rows, const Block& columns, const T* products, const Tile& tile) {
    for (int64_t r = 0; r < rows.count; ++r) {
      const T factor = inverse_[static_cast<size_t>(rows.offset + r)];
      if (factor > 0) {
        const T* row = products + r * columns.count;
        offer(rows, r, columns, tile.row_best[static_cast<size_t>(r)] * factor,
              [&](int64_t c) { return row[c] * factor; });
      }
    }
  }

  void offer_to_columns(const Block& rows, const Block& columns, const T* products, const Tile& tile) {
    const T *inverse = inverse_.data() + rows.offset, *added = excluded_.data() + rows.offset;
    for (int64_t c = 0; c < columns.count; ++c) {
      if (inverse_[static_cast<size_t>(columns.offset + c)] > 0) {
        offer(columns, c, rows, tile.column_best[static_cast<size_t>(c)],
              [&](int64_t r) { return products[r * columns.count + c] * inverse[r] + added[r]; });
      }
    }
  }

  /// Shows row k of a block the best of another block's rows; cosine(j) is that with the other block's row j.
  template <typename Cosine>
  void offer(const Block& own, int64_t k, const Block& others, T best, const Cosine& cosine) {
    Winner<T>& winner = winners_[static_cast<size_t>(own.offset + k)];
    if (best > winner.cosine || (best == winner.cosine && others.first < winner.index)) {
      winner.index = static_cast<int32_t>(others.first + first_reaching(best, others.count, cosine));
      winner.cosine = best;
    }
    // Less what cosines may be off: every column that may be nearest to a row that is near is looked at.
    const double error = errors_[own.matrix];
    if (static_cast<double>(best) > near_cosine_ - 3 * error && !winner.crowded) {
      look(own, k, others, static_cast<T>(static_cast<double>(winner.cosine) - 2 * error), cosine, winner);
    }
  }

  /// The first j of a block whose cosine reaches the best of them; looks at several at a time.
  template <typename Cosine>
  static int64_t first_reaching(T best, int64_t count, const Cosine& cosine) {
    constexpr int64_t width = 16;
    int64_t j = 0;
    for (; j + width <= count; j += width) {
      int reach = 0;
      for (int64_t lane = 0; lane < width; ++lane) {
        reach += cosine(j + lane) >= best ? 1 : 0;
      }
      if (reach > 0) {
        break;
      }
    }
    while (j + 1 < count && !(cosine(j) >= best)) {
      ++j;
    }
    return j;
  }

  /// At the exact angles of the columns whose cosines reach the threshold.
  template <typename Cosine>
  void look(const Block& own, int64_t k, const Block& others, T threshold, const Cosine& cosine, Winner<T>& winner) {
    int64_t count = 0;
    for (int64_t j = 0; j < others.count; ++j) {
      count += cosine(j) >= threshold ? 1 : 0;
    }
    winner.crowded = count > most_looks;
    const auto normed = [&](const Block& block) {
      return NormedRows<T>{matrices_[block.matrix], norms_ + matrices_[block.matrix].offset};
    };
    for (int64_t j = 0; j < others.count && count > 0 && !winner.crowded; ++j) {
      if (cosine(j) >= threshold) {
        const pairs::Lengths found = lengths(normed(own), own.first + k, normed(others), others.first + j);
        winner.near.offer(pairs::deciding_angle(found, duplicate_distance<T>, half_space_), others.first + j);
      }
    }
  }

  std::mutex& lock_of(const Block& block) { return locks_[static_cast<size_t>(&block - blocks_.data())]; }

  std::vector<RowMatrix<T>> matrices_;
  std::vector<at::Tensor> rows_;
  std::vector<bool> scaled_;    ///< of each matrix: unit vectors are multiplied in its place
  std::vector<double> errors_;  ///< of each matrix: the bound on a cosine's
  at::TensorOptions options_;
  std::vector<Block> blocks_;
  std::vector<size_t> first_block_;      ///< of each matrix
  std::vector<BlockPair> pairs_;         ///< the tiles
  std::vector<int64_t> first_pair_{0};   ///< of each matrix, and the end
  std::vector<Winner<T>> winners_;       ///< of each row
  std::vector<T> inverse_, excluded_;    ///< of each row
  std::unique_ptr<std::mutex[]> locks_;  ///< of each block's winners
  std::vector<Tile> tiles_;              ///< of each thread
  const double near_cosine_ = std::cos(pairs::near_angle);
  const double* norms_ = nullptr;  ///< of the rows, in a search
  bool half_space_ = false;
};

}  // namespace mma::detail::nearest::cpu
