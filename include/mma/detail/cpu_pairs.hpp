// The O(n d) part on a CPU, in plain loops without temporaries: norms, angles of pairs, and the gradient. The same
// formulas as in row_norms.hpp, pair_angles.hpp and pair_gradient.hpp, which other devices and double backward
// take. A row's sums are made by one thread in a fixed order: their bits do not depend on the threads or neighbours.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <type_traits>
#include <vector>

#include "cpu_loops.hpp"

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
    at::parallel_for(0, count, rows_per_thread(dimension), [&](int64_t begin, int64_t end) {
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
  const PairSquares squares = pair_squares<T>({first, inverse_first}, {second, inverse_second}, dimension);
  return {std::sqrt(squares.difference), std::sqrt(squares.sum)};
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
    at::parallel_for(0, pairs, rows_per_thread(dimension), [&](int64_t begin, int64_t end) {
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

/// The rows that chose row r, ascending: chosen_by[begin[r]] to chosen_by[begin[r + 1]].
struct ChosenBy {
  std::vector<int64_t> begin, rows;

  ChosenBy(const int64_t* nearest, int64_t count, int64_t matrix_rows)
      : begin(static_cast<size_t>(count) + 1, 0), rows(static_cast<size_t>(count)) {
    const auto target = [&](int64_t r) { return static_cast<size_t>(r - r % matrix_rows + nearest[r]); };
    for (int64_t r = 0; r < count; ++r) {
      ++begin[target(r) + 1];
    }
    for (size_t r = 1; r < begin.size(); ++r) {
      begin[r] += begin[r - 1];
    }
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t r = 0; r < count; ++r) {
      rows[static_cast<size_t>(next[target(r)]++)] = r;
    }
  }

  std::span<const int64_t> of(int64_t r) const {
    const auto row = static_cast<size_t>(r);
    return std::span(rows).subspan(static_cast<size_t>(begin[row]), static_cast<size_t>(begin[row + 1] - begin[row]));
  }
};

/// d(sum_r -weight_r theta(r, nearest(r)))/d rows for contiguous rows of matrices of n rows laid end to end.
template <typename T>
class CpuGradient {
 public:
  CpuGradient(const T* rows, const double* norms, const int64_t* nearest, const double* angles, const double* weight,
              int64_t count, int64_t matrix_rows, int64_t dimension, T* gradient)
      : rows_(rows),
        norms_(norms),
        nearest_(nearest),
        angles_(angles),
        weight_(weight),
        count_(count),
        n_(matrix_rows),
        dimension_(dimension),
        gradient_(gradient),
        terms_(static_cast<size_t>(count)),
        chosen_by_(nearest, count, matrix_rows) {}

  void compute() {
    for (int64_t r = 0; r < count_; ++r) {
      terms_[static_cast<size_t>(r)] = terms_of(r);
    }
    at::parallel_for(0, count_, rows_per_thread(dimension_), [&](int64_t begin, int64_t end) {
      std::vector<WeightedRow<T>> sum;
      for (int64_t r = begin; r < end; ++r) {
        write_row(r, sum);
      }
    });
  }

 private:
  const T* row(int64_t r) const { return rows_ + r * dimension_; }
  int64_t target(int64_t r) const { return r - r % n_ + nearest_[r]; }
  double inverse(int64_t r) const { return 1 / norms_[r]; }

  PairTerms terms_of(int64_t r) const {
    if (target(r) == r || weight_[r] == 0) {
      return {};
    }
    const PairLengths lengths{2 * std::sin(angles_[r] / 2), 2 * std::cos(angles_[r] / 2)};
    const auto entry = [&](int64_t k) { return static_cast<double>(row(r)[k]) * inverse(r); };
    return pair_terms(lengths, weight_[r], r % n_, nearest_[r], dimension_, duplicate_distance(rows_type()), entry);
  }

  static constexpr at::ScalarType rows_type() { return std::is_same_v<T, double> ? at::kDouble : at::kFloat; }

  /// Row r is the sum of its own terms and of those of the rows that chose it, over its norm.
  void write_row(int64_t r, std::vector<WeightedRow<T>>& sum) const {
    const double scale = inverse(r);
    const auto add = [&](int64_t other, double factor) {
      if (factor != 0) {
        sum.push_back({row(other), factor * inverse(other) * scale});
      }
    };
    sum.clear();
    const PairTerms& own = terms_[static_cast<size_t>(r)];
    double own_unit = own.first_unit + own.parting_unit;
    add(target(r), own.other);
    for (const int64_t i : chosen_by_.of(r)) {
      const PairTerms& theirs = terms_[static_cast<size_t>(i)];
      own_unit += theirs.second_unit;
      add(i, theirs.other + theirs.mirror * theirs.parting_unit);
    }
    add(r, own_unit);
    T* out = gradient_ + r * dimension_;
    weighted_sum<T>(sum, dimension_, out);
    const auto part = [&](const PairTerms& terms, double amount) {
      if (amount != 0) {
        out[terms.axis] += static_cast<T>(amount * scale);
      }
    };
    part(own, own.parting);
    for (const int64_t i : chosen_by_.of(r)) {
      const PairTerms& theirs = terms_[static_cast<size_t>(i)];
      part(theirs, theirs.mirror * theirs.parting);
    }
  }

  const T* rows_;
  const double* norms_;
  const int64_t* nearest_;
  const double* angles_;
  const double* weight_;
  int64_t count_, n_, dimension_;
  T* gradient_;
  std::vector<PairTerms> terms_;
  ChosenBy chosen_by_;
};

/// As nearest_angle_gradient of pair_gradient.hpp; norms [b, n] and angles [b, n] of the pairs, float64.
inline at::Tensor cpu_nearest_angle_gradient(const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& nearest,
                                             const at::Tensor& angles, const at::Tensor& weight) {
  const at::Tensor contiguous = rows.contiguous(), sizes = norms.contiguous(), indices = nearest.contiguous(),
                   thetas = angles.contiguous(), weights = weight.contiguous();
  at::Tensor gradient = at::empty(rows.sizes(), rows.options());
  with_data(contiguous, [&](const auto* data) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
    CpuGradient<T>(data, sizes.const_data_ptr<double>(), indices.const_data_ptr<int64_t>(),
                   thetas.const_data_ptr<double>(), weights.const_data_ptr<double>(), rows.size(0) * rows.size(1),
                   rows.size(1), rows.size(2), gradient.mutable_data_ptr<T>())
        .compute();
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
    at::parallel_for(0, static_cast<int64_t>(runs.size()) - 1, 1, [&](int64_t begin, int64_t end) {
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
