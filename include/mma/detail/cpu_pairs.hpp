// The O(n d) part on a CPU, in plain loops without temporaries: norms, angles of pairs, and the gradient. The same
// formulas as in row_norms.hpp, pair_angles.hpp and pair_gradient.hpp, which other devices and double backward
// take. A row's sums are made by one thread in a fixed order: their bits do not depend on the threads or neighbours.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu_loops.hpp"
#include "threads.hpp"

namespace mma::detail {

/// Below this a row counts as zero: the smallest normal float32. Norms are float64, so that rows of 1e-30 are not.
inline constexpr double zero_norm = std::numeric_limits<float>::min();

/// On unit vectors |a - b| up to this is rounding: the rows are exact duplicates (and |a + b| up to this: antipodes).
inline double duplicate_distance(at::ScalarType computing_type) {
  return 8 * (computing_type == at::kDouble ? std::numeric_limits<double>::epsilon()
                                            : double{std::numeric_limits<float>::epsilon()});
}

/// Whether plain loops may be taken: on the CPU, and nothing asks for a graph.
template <typename... Tensors>
bool takes_cpu_loops(const at::Tensor& rows, const Tensors&... others) {
  const bool needs_graph = at::GradMode::is_enabled() && (rows.requires_grad() || ... || others.requires_grad());
  return rows.is_cpu() && !needs_graph;
}

/// Calls function(pointer to the data) for contiguous float32 or float64.
template <typename Function>
void with_data(const at::Tensor& contiguous, const Function& function) {
  if (contiguous.scalar_type() == at::kDouble) {
    function(contiguous.const_data_ptr<double>());
  } else {
    function(contiguous.const_data_ptr<float>());
  }
}

/// How many rows or pairs a thread takes at least.
inline int64_t rows_per_thread(int64_t dimension) { return std::max<int64_t>(1, 32768 / dimension); }

/// |w| in float64. Squares of float64 overflow at 1e154: scaled there by a power of two near the largest entry.
template <typename T>
double cpu_norm(const T* w, int64_t dimension) {
  double scale = 1;
  if constexpr (std::is_same_v<T, double>) {
    const double largest =
        std::abs(*std::max_element(w, w + dimension, [](T a, T b) { return std::abs(a) < std::abs(b); }));
    scale = largest > zero_norm && std::isfinite(largest) ? std::exp2(std::floor(std::log2(largest))) : 1;
  }
  return scale * std::sqrt(square_sum(w, 1 / scale, dimension));
}

/// Norms [...] of rows [..., d], float64.
inline at::Tensor cpu_row_norms(const at::Tensor& rows) {
  const at::Tensor contiguous = rows.contiguous();
  const int64_t dimension = rows.size(-1), count = rows.numel() / dimension;
  at::Tensor norms = at::empty(rows.sizes().slice(0, static_cast<size_t>(rows.dim() - 1)), at::kDouble);
  auto* norm = norms.mutable_data_ptr<double>();
  with_data(contiguous, [&](const auto* w) {
    for_each_range(count, rows_per_thread(dimension), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        norm[r] = cpu_norm(w + r * dimension, dimension);
      }
    });
  });
  return norms;
}

/// |a - b| and |a + b| of the unit vectors of two rows.
struct PairLengths {
  double difference;
  double sum;
};

template <typename T>
PairLengths pair_lengths(const T* first, double inverse_first, const T* second, double inverse_second,
                         int64_t dimension) {
  // |a - b|^2 + |a + b|^2 = 4: the smaller one is summed, the other follows without cancellation.
  const double difference = square_distance<T>({first, inverse_first}, {second, inverse_second}, dimension);
  if (difference > 2) {
    const double sum = square_distance<T>({first, inverse_first}, {second, -inverse_second}, dimension);
    return {std::sqrt(4 - std::min(sum, 4.0)), std::sqrt(sum)};
  }
  return {std::sqrt(difference), std::sqrt(4 - difference)};
}

inline double angle_of(const PairLengths& lengths, double duplicate) {
  const auto [difference, sum] = lengths;
  return difference <= duplicate ? 0 : sum <= duplicate ? std::numbers::pi : 2 * std::atan2(difference, sum);
}

/// Angles [p] between rows first[k] and second[k] of contiguous rows [m, d] with norms [m].
inline at::Tensor cpu_pair_angles(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& first,
                                  const at::Tensor& second) {
  const int64_t pairs = first.numel(), dimension = rows.size(1);
  const double duplicate = duplicate_distance(rows.scalar_type());
  const at::Tensor contiguous = rows.contiguous(), sizes = norms.contiguous(), i = first.contiguous(),
                   j = second.contiguous();
  const auto* norm = sizes.const_data_ptr<double>();
  const auto* first_index = i.const_data_ptr<int64_t>();
  const auto* second_index = j.const_data_ptr<int64_t>();
  at::Tensor angles = at::empty({pairs}, at::kDouble);
  auto* angle = angles.mutable_data_ptr<double>();
  with_data(contiguous, [&](const auto* w) {
    for_each_range(pairs, rows_per_thread(dimension), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t r = first_index[p], s = second_index[p];
        angle[p] = angle_of(pair_lengths(w + r * dimension, 1 / norm[r], w + s * dimension, 1 / norm[s], dimension),
                            duplicate);
      }
    });
  });
  return angles;
}

/// Which coordinate axis exact duplicates i and j of a matrix part along, given the unit vector's entries: the same for
/// (i, j) and (j, i); the second choice is for a row that points along the first.
template <typename Entry>
int64_t cpu_parting_axis(int64_t i, int64_t j, int64_t dimension, const Entry& entry) {
  const int64_t axis = (std::min(i, j) * 73856093 + std::max(i, j) * 19349663) % dimension;
  return std::abs(entry(axis)) > 0.9 ? (axis + 1) % dimension : axis;
}

/// What the pair (i, j) of unit vectors a, b adds: to row i first_unit * a + other * b, to row j second_unit * b +
/// other * a, each over its norm. Rows that part for want of a tangent: to row i parting_unit * a and parting at one
/// axis, to row j the same times `mirror`, -1 for duplicates and 1 for antipodes.
struct PairTerms {
  double first_unit = 0, second_unit = 0, other = 0;
  double parting = 0, parting_unit = 0, mirror = -1;
  int64_t axis = 0;
};

/// The terms of -weight * theta for a pair at the given lengths; i and j are indices within the matrix.
/// minus_cosine comes from |a - b| (from |a + b| beyond a right angle), without cancellation.
/// A positive weight drives exact duplicates apart, a negative one antipodes (duplicates as lines).
template <typename Entry>
PairTerms pair_terms(const PairLengths& lengths, double weight, int64_t i, int64_t j, int64_t dimension,
                     double duplicate, const Entry& entry) {
  PairTerms terms;
  const auto [difference, sum] = lengths;
  if (difference <= duplicate || sum <= duplicate) {
    const bool parts = difference <= duplicate ? weight > 0 : weight < 0;
    terms.axis = cpu_parting_axis(i, j, dimension, entry);
    const double along = entry(terms.axis), rest = 1 - along * along;
    if (parts && rest > 1e-12) {
      terms.parting = std::abs(weight) * (i < j || difference > duplicate ? 1 : -1) / std::sqrt(rest);
      terms.parting_unit = -along * terms.parting;
      terms.mirror = difference <= duplicate ? -1 : 1;
    }
  } else {
    const double minus_cosine = difference <= sum ? difference * difference / 2 - 1 : 1 - sum * sum / 2;
    terms.other = weight / (difference * sum / 2);
    terms.first_unit = terms.second_unit = minus_cosine * terms.other;
  }
  return terms;
}

/// One matrix of several whose rows are numbered end to end.
template <typename T>
struct CpuMatrix {
  const T* rows;  ///< [n, dimension] contiguous
  int64_t n, dimension;
  int64_t offset;  ///< number of its first row
};

/// The tasks [begin, end) of a list that belong to some matrices.
struct TaskRange {
  int64_t begin = 0, end = 0;
};

/// Runs task(k, thread) for the tasks of a range on LibTorch's threads, each taking the next one that is left.
/// `work` in multiply-adds: little of it is not worth waking a thread.
template <typename Task>
void for_each_task(const TaskRange& range, double work, const Task& task) {
  constexpr double worthwhile = 1 << 18;
  const auto threads =
      std::min<int64_t>({at::get_num_threads(), range.end - range.begin, 1 + static_cast<int64_t>(work / worthwhile)});
  for_each_index(range.begin, range.end, threads, task);
}

/// Of two rows of a matrix whose rows have these norms [n].
template <typename T>
PairLengths cpu_lengths(const CpuMatrix<T>& matrix, const double* norms, int64_t r, int64_t s) {
  return pair_lengths(matrix.rows + r * matrix.dimension, 1 / norms[r], matrix.rows + s * matrix.dimension,
                      1 / norms[s], matrix.dimension);
}

template <typename T>
double cpu_angle_of(const PairLengths& lengths) {
  return angle_of(lengths, duplicate_distance(std::is_same_v<T, double> ? at::kDouble : at::kFloat));
}

/// The angle between two rows.
template <typename T>
double cpu_angle(const CpuMatrix<T>& matrix, const double* norms, int64_t r, int64_t s) {
  return cpu_angle_of<T>(cpu_lengths(matrix, norms, r, s));
}

/// The rows of several matrices in tasks of about the same work.
class RowTasks {
 public:
  template <typename T>
  explicit RowTasks(const std::vector<CpuMatrix<T>>& matrices) {
    for (size_t m = 0; m < matrices.size(); ++m) {
      const int64_t step = rows_per_thread(matrices[m].dimension);
      for (int64_t begin = 0; begin < matrices[m].n; begin += step) {
        tasks_.push_back({m, begin, std::min(begin + step, matrices[m].n)});
      }
      first_task_.push_back(static_cast<int64_t>(tasks_.size()));
      first_entry_.push_back(first_entry_.back() + static_cast<double>(matrices[m].n * matrices[m].dimension));
    }
  }

  /// row(matrix, row within it, thread) for all rows of the matrices [begin, end).
  template <typename Row>
  void for_each(size_t begin, size_t end, const Row& row) const {
    for_each_task({first_task_[begin], first_task_[end]}, first_entry_[end] - first_entry_[begin],
                  [&](int64_t k, size_t thread) {
                    const Task& task = tasks_[static_cast<size_t>(k)];
                    for (int64_t r = task.begin; r < task.end; ++r) {
                      row(task.matrix, r, thread);
                    }
                  });
  }

 private:
  struct Task {
    size_t matrix;
    int64_t begin, end;
  };
  std::vector<Task> tasks_;
  std::vector<int64_t> first_task_{0};  ///< of each matrix, and the end
  std::vector<double> first_entry_{0.0};
};

/// The rows that chose row r, ascending: chosen_by[begin[r]] to chosen_by[begin[r + 1]].
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
template <typename Index>
struct CpuPairs {
  const double* norms;
  const Index* nearest;   ///< within the matrix
  const double* angles;   ///< between a row and its nearest
  const double* weights;  ///< of -theta in the sum
};

/// d(sum_r -weight_r theta(r, nearest(r)))/d rows of several matrices. Made once: computing it allocates nothing.
template <typename T, typename Index>
class CpuGradient {
 public:
  explicit CpuGradient(std::vector<CpuMatrix<T>> matrices)
      : matrices_(std::move(matrices)),
        tasks_(matrices_),
        terms_(static_cast<size_t>(row_count())),
        chosen_by_(static_cast<size_t>(row_count())) {}

  /// Writes it for the matrices [begin, end) into out[m] [n, d], or adds it.
  void compute(size_t begin, size_t end, const CpuPairs<Index>& pairs, bool add, std::span<T* const> out) {
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
      write_row(matrices_[m], r, add, sums_[thread], out[m] + r * matrices_[m].dimension);
    });
  }

 private:
  int64_t row_count() const { return matrices_.empty() ? 0 : matrices_.back().offset + matrices_.back().n; }
  double inverse(int64_t row) const { return 1 / pairs_.norms[row]; }
  static constexpr at::ScalarType rows_type() { return std::is_same_v<T, double> ? at::kDouble : at::kFloat; }

  PairTerms terms_of(const CpuMatrix<T>& matrix, int64_t r) const {
    const int64_t row = matrix.offset + r, other = pairs_.nearest[row];
    if (other == r || pairs_.weights[row] == 0) {
      return {};
    }
    const double half = pairs_.angles[row] / 2;
    const PairLengths lengths{2 * std::sin(half), 2 * std::cos(half)};
    const T* entries = matrix.rows + r * matrix.dimension;
    const auto entry = [&](int64_t k) { return static_cast<double>(entries[k]) * inverse(row); };
    return pair_terms(lengths, pairs_.weights[row], r, other, matrix.dimension, duplicate_distance(rows_type()), entry);
  }

  /// Row r is the sum of its own terms and of those of the rows that chose it, over its norm.
  void write_row(const CpuMatrix<T>& matrix, int64_t r, bool add, std::vector<WeightedRow<T>>& sum, T* out) const {
    const int64_t row = matrix.offset + r;
    const double scale = inverse(row);
    const auto append = [&](int64_t other, double factor) {
      if (factor != 0) {
        sum.push_back({matrix.rows + (other - matrix.offset) * matrix.dimension, factor * inverse(other) * scale});
      }
    };
    sum.clear();
    const PairTerms& own = terms_[static_cast<size_t>(row)];
    double own_unit = own.first_unit + own.parting_unit;
    append(matrix.offset + int64_t{pairs_.nearest[row]}, own.other);
    for (const int64_t i : chosen_by_.of(row)) {
      const PairTerms& theirs = terms_[static_cast<size_t>(i)];
      own_unit += theirs.second_unit;
      append(i, theirs.other + theirs.mirror * theirs.parting_unit);
    }
    append(row, own_unit);
    weighted_sum<T>(sum, matrix.dimension, add, out);
    const auto part = [&](const PairTerms& terms, double amount) {
      if (amount != 0) {
        out[terms.axis] += static_cast<T>(amount * scale);
      }
    };
    part(own, own.parting);
    for (const int64_t i : chosen_by_.of(row)) {
      const PairTerms& theirs = terms_[static_cast<size_t>(i)];
      part(theirs, theirs.mirror * theirs.parting);
    }
  }

  std::vector<CpuMatrix<T>> matrices_;
  RowTasks tasks_;
  CpuPairs<Index> pairs_{};
  std::vector<PairTerms> terms_;
  ChosenBy chosen_by_;
  std::vector<std::vector<WeightedRow<T>>> sums_;  ///< of each thread
};

/// As nearest_angle_gradient of pair_gradient.hpp; norms [b, n] and angles [b, n] of the pairs, float64.
inline at::Tensor cpu_nearest_angle_gradient(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& nearest,
                                             const at::Tensor& angles, const at::Tensor& weight) {
  const at::Tensor contiguous = rows.contiguous(), sizes = norms.contiguous(), indices = nearest.contiguous(),
                   thetas = angles.contiguous(), weights = weight.contiguous();
  const int64_t n = rows.size(1), dimension = rows.size(2);
  at::Tensor gradient = at::empty(rows.sizes(), rows.options());
  with_data(contiguous, [&](const auto* data) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    std::vector<CpuMatrix<T>> matrices;
    std::vector<T*> out;
    for (int64_t b = 0; b < rows.size(0); ++b) {
      matrices.push_back({data + b * n * dimension, n, dimension, b * n});
      out.push_back(gradient.mutable_data_ptr<T>() + b * n * dimension);
    }
    CpuGradient<T, int64_t>(std::move(matrices))
        .compute(0, out.size(),
                 {sizes.const_data_ptr<double>(), indices.const_data_ptr<int64_t>(), thetas.const_data_ptr<double>(),
                  weights.const_data_ptr<double>()},
                 false, out);
  });
  return gradient;
}

/// The pairs of a list that share their first row: [begin[k], begin[k + 1]) for each such row.
inline std::vector<int64_t> runs_of(const int64_t* first, int64_t pairs) {
  std::vector<int64_t> begin;
  for (int64_t p = 0; p < pairs; ++p) {
    if (p == 0 || first[p] != first[p - 1]) {
      begin.push_back(p);
    }
  }
  begin.push_back(pairs);
  return begin;
}

/// The pairs of the list [begin, end), all with the same first row: their |w_first| d(-weight theta)/d w_first, summed.
template <typename T>
void sum_pair_forces(const T* rows, const double* norm, const int64_t* first, const int64_t* second,
                     const double* weight, int64_t begin, int64_t end, int64_t n, std::vector<double>& sum) {
  const auto dimension = static_cast<int64_t>(sum.size());
  const double duplicate = duplicate_distance(std::is_same_v<T, double> ? at::kDouble : at::kFloat);
  const auto add_unit = [&](int64_t r, double factor) {
    for (int64_t k = 0; k < dimension; ++k) {
      sum[static_cast<size_t>(k)] += factor / norm[r] * static_cast<double>(rows[r * dimension + k]);
    }
  };
  const int64_t r = first[begin];
  const T* own = rows + r * dimension;
  const auto entry = [&](int64_t k) { return static_cast<double>(own[k]) / norm[r]; };
  double own_unit = 0;
  std::fill(sum.begin(), sum.end(), 0.0);
  for (int64_t p = begin; p < end; ++p) {
    const int64_t s = second[p];
    const PairLengths lengths = pair_lengths(own, 1 / norm[r], rows + s * dimension, 1 / norm[s], dimension);
    const PairTerms terms = pair_terms(lengths, weight[p], r % n, s % n, dimension, duplicate, entry);
    add_unit(s, terms.other);
    sum[static_cast<size_t>(terms.axis)] += terms.parting;
    own_unit += terms.first_unit + terms.parting_unit;
  }
  add_unit(r, own_unit);
}

/// As add_pair_forces of pair_gradient.hpp, into contiguous force; one thread makes a row's sum, in float64.
inline void cpu_add_pair_forces(at::Tensor& force, const at::Tensor& rows, const at::Tensor& norms,
                                const at::Tensor& first, const at::Tensor& second, int64_t n,
                                const at::Tensor& weight) {
  const at::Tensor contiguous = rows.contiguous(), sizes = norms.contiguous(), i = first.contiguous(),
                   j = second.contiguous(), weights = weight.contiguous();
  const int64_t dimension = rows.size(1);
  const auto* index = i.const_data_ptr<int64_t>();
  const std::vector<int64_t> runs = runs_of(index, first.numel());
  const auto add = [&](const auto* w, auto* out) {
    const auto count = static_cast<int64_t>(runs.size()) - 1;
    for_each_range(count, 1 + count / (4 * at::get_num_threads()), [&](int64_t begin, int64_t end) {
      std::vector<double> sum(static_cast<size_t>(dimension));
      for (auto run = static_cast<size_t>(begin); run < static_cast<size_t>(end); ++run) {
        sum_pair_forces(w, sizes.const_data_ptr<double>(), index, j.const_data_ptr<int64_t>(),
                        weights.const_data_ptr<double>(), runs[run], runs[run + 1], n, sum);
        auto* target = out + index[runs[run]] * dimension;
        for (int64_t k = 0; k < dimension; ++k) {
          target[k] += static_cast<std::decay_t<decltype(*out)>>(sum[static_cast<size_t>(k)]);
        }
      }
    });
  };
  with_data(contiguous, [&](const auto* w) {
    if (force.scalar_type() == at::kDouble) {
      add(w, force.mutable_data_ptr<double>());
    } else {
      add(w, force.mutable_data_ptr<float>());
    }
  });
}

}  // namespace mma::detail
