// Listed pairs of rows on a CPU, in plain loops without temporaries: their angles, and what they add to a gradient.
// The formulas are math.hpp's; angles.hpp and gradient.hpp have the same in tensors, for other devices and for graphs.
// A row's sums are made by one thread in a fixed order: their bits do not depend on the threads or on the neighbours.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "../threads.hpp"
#include "loops.hpp"
#include "math.hpp"

namespace mma::detail::pairs {

/// On unit vectors |a - b| up to this is rounding, for rows of this type.
inline double duplicate_distance(at::ScalarType rows) {
  return rows == at::kDouble ? duplicate_of_double : duplicate_of_float;
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

/// |a - b| and |a + b| of the unit vectors of two rows, given the inverse norms. |a - b|^2 + |a + b|^2 = 4: the smaller
/// one is summed, the other follows without cancellation. obtuse: a guess which one that is, which saves a sum.
template <typename T>
Lengths pair_lengths(const T* first, double inverse_first, const T* second, double inverse_second, int64_t dimension,
                     bool obtuse = false) {
  const auto square = [&](double sign) {
    return square_distance<T>({first, inverse_first}, {second, sign * inverse_second}, dimension);
  };
  const double guessed = square(obtuse ? -1 : 1);
  const bool right = guessed <= 2;
  const double smaller = right ? guessed : std::min(square(obtuse ? 1 : -1), 4.0);
  const double one = std::sqrt(smaller), other = std::sqrt(4 - smaller);
  return obtuse == right ? Lengths{other, one} : Lengths{one, other};
}

/// Angles [p] between rows first[k] and second[k] of rows [m, d] with norms [m].
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
        const auto [difference, sum] =
            pair_lengths(w + r * dimension, 1 / norm[r], w + s * dimension, 1 / norm[s], dimension);
        angle[p] = angle_of(difference, sum, duplicate);
      }
    });
  });
  return angles;
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
  const double duplicate = std::is_same_v<T, double> ? duplicate_of_double : duplicate_of_float;
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
    const Lengths lengths = pair_lengths(own, 1 / norm[r], rows + s * dimension, 1 / norm[s], dimension);
    const PairTerms terms = pair_terms(lengths, weight[p], r % n, s % n, dimension, duplicate, entry);
    add_unit(s, terms.other);
    sum[static_cast<size_t>(terms.axis)] += terms.parting;
    own_unit += terms.unit + terms.parting_unit;
  }
  add_unit(r, own_unit);
}

/// Adds |w_first| d(-weight theta)/d w_first for each pair of a list, `first` ascending, to contiguous force [m, d];
/// rows [m, d] of matrices of n rows laid end to end, norms [m]. One thread makes a row's sum, in float64.
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
    for_each_range(count, 1 + count / (int64_t{4} * at::get_num_threads()), [&](int64_t begin, int64_t end) {
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

}  // namespace mma::detail::pairs
