// The gradient over chosen pairs on a CPU: each row is a sum of its own pair's terms and of those of the rows that
// chose it, made by one thread in a fixed order, so that its bits do not depend on the threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "../../pairs/loops.hpp"
#include "../../pairs/math.hpp"
#include "tasks.hpp"

namespace mma::detail::nearest::cpu {

/// The rows that chose row r, ascending.
class ChosenBy {
 public:
  explicit ChosenBy(size_t rows) : begin_(rows + 1), next_(rows), rows_(rows) {}

  /// For the rows [first, end), whose targets are among them.
  template <typename Target>
  void assign(int64_t first, int64_t end, const Target& target) {
    std::fill(begin_.begin() + first, begin_.begin() + end + 1, 0);
    begin_[static_cast<size_t>(first)] = first;
    for (int64_t r = first; r < end; ++r) {
      ++begin_[static_cast<size_t>(target(r) + 1)];
    }
    for (auto r = static_cast<size_t>(first); r < static_cast<size_t>(end); ++r) {
      next_[r] = begin_[r];
      begin_[r + 1] += begin_[r];
    }
    for (int64_t r = first; r < end; ++r) {
      rows_[static_cast<size_t>(next_[static_cast<size_t>(target(r))]++)] = r;
    }
  }

  std::span<const int64_t> of(int64_t r) const {
    const auto row = static_cast<size_t>(r);
    return std::span(rows_).subspan(static_cast<size_t>(begin_[row]),
                                    static_cast<size_t>(begin_[row + 1] - begin_[row]));
  }

 private:
  std::vector<int64_t> begin_, next_, rows_;
};

/// The chosen pairs of all rows of several matrices.
struct ChosenPairs {
  const double* norms;
  const int32_t* nearest;  ///< within the matrix
  const double* angles;    ///< between a row and its nearest
  const double* weights;   ///< of -theta in the sum
};

/// Adds d(sum_r -weight_r theta(r, nearest(r)))/d rows of several matrices. Made once: it allocates nothing later.
template <typename T>
class Gradient {
 public:
  explicit Gradient(std::vector<RowMatrix<T>> matrices)
      : matrices_(std::move(matrices)),
        tasks_(matrices_),
        terms_(static_cast<size_t>(row_count())),
        chosen_by_(static_cast<size_t>(row_count())) {}

  /// For the matrices [begin, end), to out[m] [n, d].
  void add(size_t begin, size_t end, const ChosenPairs& pairs, std::span<T* const> out) {
    if (begin == end) {
      return;
    }
    pairs_ = pairs;
    sums_.resize(std::max(sums_.size(), static_cast<size_t>(at::get_num_threads())));
    tasks_.for_each(begin, end, [&](size_t m, int64_t r, size_t) {
      terms_[static_cast<size_t>(matrices_[m].offset + r)] = terms_of(matrices_[m], r);
    });
    for (size_t m = begin; m < end; ++m) {
      const int64_t first = matrices_[m].offset;
      chosen_by_.assign(first, first + matrices_[m].n, [&](int64_t r) { return first + int64_t{pairs.nearest[r]}; });
    }
    tasks_.for_each(begin, end, [&](size_t m, int64_t r, size_t thread) {
      add_row(matrices_[m], r, sums_[thread], out[m] + r * matrices_[m].dimension);
    });
  }

 private:
  int64_t row_count() const { return matrices_.empty() ? 0 : matrices_.back().offset + matrices_.back().n; }
  double inverse(int64_t row) const { return 1 / pairs_.norms[row]; }

  pairs::PairTerms terms_of(const RowMatrix<T>& matrix, int64_t r) const {
    const int64_t row = matrix.offset + r, other = pairs_.nearest[row];
    if (other == r || pairs::is_zero(pairs_.weights[row])) {
      return {};
    }
    const T* entries = matrix.row(r);
    const auto entry = [&](int64_t k) { return static_cast<double>(entries[k]) * inverse(row); };
    return pairs::pair_terms(pairs::lengths_of(pairs_.angles[row]), pairs_.weights[row], r, other, matrix.dimension,
                             duplicate_distance<T>, entry);
  }

  /// The sum of row r's own terms and of those of the rows that chose it, over its norm.
  void add_row(const RowMatrix<T>& matrix, int64_t r, std::vector<pairs::WeightedRow<T>>& sum, T* out) const {
    const int64_t row = matrix.offset + r;
    const double scale = inverse(row);
    const auto append = [&](int64_t other, double factor) {
      if (!pairs::is_zero(factor)) {
        sum.push_back({matrix.row(other - matrix.offset), factor * inverse(other) * scale});
      }
    };
    sum.clear();
    const pairs::PairTerms& own = terms_[static_cast<size_t>(row)];
    double own_unit = own.unit + own.parting_unit;
    append(matrix.offset + int64_t{pairs_.nearest[row]}, own.other);
    for (const int64_t i : chosen_by_.of(row)) {
      const pairs::PairTerms& theirs = terms_[static_cast<size_t>(i)];
      own_unit += theirs.unit;
      append(i, theirs.other + theirs.mirror * theirs.parting_unit);
    }
    append(row, own_unit);
    if (!sum.empty()) {
      pairs::weighted_sum<T>(sum, matrix.dimension, true, out);
    }
    const auto part = [&](const pairs::PairTerms& terms, double amount) {
      if (amount != 0) {
        out[terms.axis] += static_cast<T>(amount * scale);
      }
    };
    part(own, own.parting);
    for (const int64_t i : chosen_by_.of(row)) {
      const pairs::PairTerms& theirs = terms_[static_cast<size_t>(i)];
      part(theirs, theirs.mirror * theirs.parting);
    }
  }

  std::vector<RowMatrix<T>> matrices_;
  RowTasks tasks_;
  ChosenPairs pairs_{};
  std::vector<pairs::PairTerms> terms_;
  ChosenBy chosen_by_;
  std::vector<std::vector<pairs::WeightedRow<T>>> sums_;  ///< of each thread
};

}  // namespace mma::detail::nearest::cpu
