// A search whose columns come by in blocks, on a CPU: the tiles, winners and near looks of an engine's search, its
// winners kept from block to block.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../../pairs/math.hpp"
#include "../../rows/norms.hpp"
#include "../../rows/precision.hpp"
#include "../../threads.hpp"
#include "../block_search.hpp"
#include "near_look.hpp"
#include "search.hpp"
#include "tasks.hpp"

namespace mma::detail::nearest::cpu {

/// T: float or double, the rows' type.
template <typename T>
class BlockSearch final : public nearest::BlockSearch {
 public:
  BlockSearch(NumberedRows own, bool half_space)
      : own_(std::move(own)),
        half_space_(half_space),
        searched_(std::is_same_v<T, double> || rows::float32_products_are_exact(at::kCPU)),
        matrix_(matrix_of(own_.rows)),
        norms_(norms_of(own_.rows)),
        winners_(static_cast<size_t>(matrix_.n)) {}

  void search_own() override {
    if (!searched_ || norms_.empty()) return;
    Search<T> search({own_.rows});
    search.search(0, 1, norms_.data(), half_space_);
    for (int64_t r = 0; r < matrix_.n; ++r) kept(r).take(search.winner(0, r), own_.first);
  }

  at::Tensor search(const NumberedRows& block, int64_t begin, int64_t count) override {
    std::vector<Kept> theirs(static_cast<size_t>(block.rows.size(0)));
    if (searched_ && count > 0 && !theirs.empty()) {
      std::vector<double> norms(norms_.begin() + begin, norms_.begin() + begin + count);
      const std::vector<double> others = norms_of(block.rows);
      norms.insert(norms.end(), others.begin(), others.end());
      Search<T> search(own_.rows.narrow(0, begin, count), block.rows);
      search.search(0, 2, norms.data(), half_space_);
      for (int64_t r = 0; r < count; ++r) kept(begin + r).take(search.winner(0, r), block.first);
      for (size_t c = 0; c < theirs.size(); ++c) {
        theirs[c].take(search.winner(1, static_cast<int64_t>(c)), own_.first + begin);
      }
    }
    return packed(theirs);
  }

  void take(const at::Tensor& known, int64_t begin) override {
    const auto* numbers = known.const_data_ptr<double>();
    for (int64_t r = 0; r < known.size(0); ++r) kept(begin + r).take(Kept(numbers + r * Kept::numbers));
  }

  int64_t known_numbers() const override { return Kept::numbers; }

  int64_t begin_look() override {
    open_.clear();
    for (int64_t r = 0; r < matrix_.n; ++r) {
      if (is_open(r)) open_.push_back(r);
    }
    looked_.assign(open_.size(), {});
    return static_cast<int64_t>(open_.size());
  }

  void look_at_own() override { look(own_.first, {matrix_, norms_.data()}); }

  void look(const NumberedRows& block) override {
    const std::vector<double> norms = norms_of(block.rows);
    const RowMatrix<T> matrix = matrix_of(block.rows);
    look(block.first, {matrix, norms.data()});
  }

  at::Tensor nearest() const override {
    at::Tensor result = at::empty({matrix_.n}, at::TensorOptions(at::kLong));
    auto* index = result.mutable_data_ptr<int64_t>();
    for (int64_t r = 0; r < matrix_.n; ++r) {
      const Kept& kept = winners_[static_cast<size_t>(r)];
      const int64_t found = kept.near.angle < pairs::near_angle ? kept.near.index : kept.index;
      index[r] = found < 0 ? own_.first + r : found;
    }
    for (size_t k = 0; k < open_.size(); ++k) {
      if (looked_[k].index >= 0) index[open_[k]] = looked_[k].index;
    }
    return result;
  }

 private:
  /// Of all blocks so far, what a Winner is of one.
  struct Kept {
    static constexpr int64_t numbers = 5;

    T cosine = T{no_cosine};
    int64_t index = -1;
    Nearest near;
    bool crowded = false;

    Kept() = default;
    Kept(const Winner<T>& winner, int64_t first)
        : cosine(winner.cosine), index(numbered(winner.index, first)), near(winner.near), crowded(winner.crowded) {
      near.index = numbered(near.index, first);
    }
    /// As packed.
    explicit Kept(const double* from)
        : cosine(static_cast<T>(from[0])),
          index(static_cast<int64_t>(from[1])),
          near{from[2], static_cast<int64_t>(from[3])},
          crowded(from[4] > 0) {}

    void take(const Kept& other) {
      if (other.cosine > cosine || (other.cosine == cosine && other.index < index)) {
        cosine = other.cosine;
        index = other.index;
      }
      near.offer(other.near.angle, other.near.index);
      crowded = crowded || other.crowded;
    }
    void take(const Winner<T>& winner, int64_t first) { take(Kept(winner, first)); }

    void pack(double* to) const {
      const std::array<double, numbers> all{static_cast<double>(cosine), static_cast<double>(index), near.angle,
                                            static_cast<double>(near.index), crowded ? 1.0 : 0.0};
      std::copy(all.begin(), all.end(), to);
    }

   private:
    static int64_t numbered(int64_t winner, int64_t first) { return winner < 0 ? -1 : first + winner; }
  };

  Kept& kept(int64_t r) { return winners_[static_cast<size_t>(r)]; }

  static at::Tensor packed(const std::vector<Kept>& rows) {
    at::Tensor result = at::empty({static_cast<int64_t>(rows.size()), Kept::numbers}, at::TensorOptions(at::kDouble));
    auto* to = result.mutable_data_ptr<double>();
    for (const Kept& row : rows) {
      row.pack(to);
      to += Kept::numbers;
    }
    return result;
  }

  static RowMatrix<T> matrix_of(const at::Tensor& rows) {
    return {rows.const_data_ptr<T>(), rows.size(0), rows.size(1), 0};
  }

  static std::vector<double> norms_of(const at::Tensor& rows) {
    if (rows.size(0) == 0) return {};
    const at::Tensor norms = rows::cpu_row_norms(rows);
    const auto* norm = norms.const_data_ptr<double>();
    return {norm, norm + norms.numel()};
  }

  /// Whether a row is near too many others for the search, or all others are at its antipode, or products are not what
  /// they should be.
  bool is_open(int64_t r) const {
    const Kept& kept = winners_[static_cast<size_t>(r)];
    if (!searched_) return pairs::takes_part(norms_[static_cast<size_t>(r)]);
    const double error = cosine_error(matrix_.dimension, static_cast<double>(std::numeric_limits<T>::epsilon()) / 2);
    const double opposite = 3 * error - std::cos(pairs::near_angle);
    return kept.index >= 0 && (kept.crowded || static_cast<double>(kept.cosine) < opposite);
  }

  void look(int64_t first, const NormedRows<T>& others) {
    for_each_range(static_cast<int64_t>(open_.size()), NearLook<T>::rows_at_a_time, [&](int64_t begin, int64_t end) {
      std::vector<Nearest> found(static_cast<size_t>(end - begin));
      const std::span rows(open_.data() + begin, found.size());
      NearLook<T>({matrix_, norms_.data()}, others, half_space_).look(rows, found);
      for (size_t k = 0; k < rows.size(); ++k) {
        if (found[k].index >= 0) {
          looked_[static_cast<size_t>(begin) + k].offer(found[k].angle, first + found[k].index);
        }
      }
    });
  }

  NumberedRows own_;
  bool half_space_;
  bool searched_;  ///< by products in T
  RowMatrix<T> matrix_;
  std::vector<double> norms_;
  std::vector<Kept> winners_;    ///< of each own row
  std::vector<int64_t> open_;    ///< own rows that look again
  std::vector<Nearest> looked_;  ///< what each of them found
};

}  // namespace mma::detail::nearest::cpu
