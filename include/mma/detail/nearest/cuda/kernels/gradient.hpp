// The fifth kernel: a warp a row gathers its gradient from its nearest row and from those that chose it, always in the
// same order, so the same bits every time.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText gradient_text(__FILE__, __LINE__, R"mma(
  // What row i's pair with its nearest row adds, as pair_terms has it.
  inline PairTerms terms_of_row(const Pass& pass, const PassMatrix& matrix, int i) {
    const long long place = matrix.first_row + i;
    const int j = pass.nearest[place];
    const double weight = -pass.slopes[place];
    if (j == i || weight == 0) {
      const PairTerms none = {0, 0, 0, 0, -1, 0};
      return none;
    }
    const Row* row = row_data(matrix, i);
    const double inverse = 1 / pass.norms[place];
    return pair_terms(lengths_of(pass.angles[place]), weight, i, j, matrix.dimension, duplicate,
                      [&](long long k) { return real(row[k]) * inverse; });
  }

  // Some of the terms of a row's gradient, before its own 1/norm: row[k] times factor each, amount at an axis, and the
  // row itself times own. A warp's lanes fill it, one entry each.
  struct GradientTerms {
    int row[32], axis[32];
    double factor[32], own[32], amount[32];
  };

  struct Gathered {
    int count;  // entries
    int next;   // the row to go on from; the matrix's count when all are there
  };

  // The rows from `begin` that chose row `index`, ascending, up to 32.
  inline Gathered gather_choosers(const Pass& pass, const PassMatrix& matrix, int index, int begin, int lane,
                                  GradientTerms& terms) {
    Gathered gathered = {0, begin};
    const int* nearest = pass.nearest + matrix.first_row;
    __syncwarp();
    while (gathered.next < matrix.count) {
      const int i = gathered.next + lane;
      const bool chose = i < matrix.count && i != index && nearest[i] == index;
      const unsigned all = __ballot_sync(full_warp, chose);
      if (gathered.count + __popc(all) > 32) {
        break;  // no room: the next batch begins with these
      }
      if (chose) {
        const int slot = gathered.count + __popc(all & ((1u << lane) - 1));
        const PairTerms theirs = terms_of_row(pass, matrix, i);
        terms.row[slot] = i;
        terms.factor[slot] = (theirs.other + theirs.mirror * theirs.parting_unit) / pass.norms[matrix.first_row + i];
        terms.own[slot] = theirs.unit;
        terms.axis[slot] = static_cast<int>(theirs.axis);
        terms.amount[slot] = theirs.mirror * theirs.parting;
      }
      gathered.count += __popc(all);
      gathered.next += 32;
    }
    __syncwarp();
    return gathered;
  }

  // Entries of a row that a lane sums at a time: independent loads hide one another's latency.
  constexpr int lane_entries = 4;

  inline void add_terms(const PassMatrix& matrix, const OwnRow& own, const GradientTerms& terms, int count, int k_begin,
                        double (&sums)[lane_entries]) {
    double own_unit = 0;
    for (int t = 0; t < count; ++t) {
      const Row* other = row_data(matrix, terms.row[t]);
#pragma unroll
      for (int e = 0; e < lane_entries; ++e) {
        const int k = k_begin + 32 * e;
        if (k < matrix.dimension) {
          sums[e] += real(other[k]) * terms.factor[t];
          sums[e] += terms.axis[t] == k ? terms.amount[t] : 0.0;
        }
      }
      own_unit += terms.own[t];
    }
#pragma unroll
    for (int e = 0; e < lane_entries; ++e) {
      const int k = k_begin + 32 * e;
      if (k < matrix.dimension) {
        sums[e] += real(own.data[k]) * (own_unit / own.norm);
      }
    }
  }

  // What the row's own pair adds.
  inline void add_own_terms(const Pass& pass, const PassMatrix& matrix, const OwnRow& own, const PairTerms& terms,
                            int k_begin, double (&sums)[lane_entries]) {
    const int nearest = pass.nearest[own.place];
    const Row* other = row_data(matrix, nearest);
    const double other_factor = terms.other / pass.norms[matrix.first_row + nearest];
    const double own_factor = (terms.unit + terms.parting_unit) / own.norm;
#pragma unroll
    for (int e = 0; e < lane_entries; ++e) {
      const int k = k_begin + 32 * e;
      if (k < matrix.dimension) {
        sums[e] += real(other[k]) * other_factor + real(own.data[k]) * own_factor;
        sums[e] += terms.axis == k ? terms.parting : 0.0;
      }
    }
  }

  KERNEL void __launch_bounds__(row_threads) mma_gradient(Pass pass, GradientTargets targets) {
    __shared__ GradientTerms all_terms[row_threads / 32];
    const int lane = threadIdx.x % 32;
    const PassMatrix& last = pass.matrices[targets.first_matrix + targets.matrix_count];
    const long long place = pass.matrices[targets.first_matrix].first_row +
                            static_cast<long long>(blockIdx.x) * (row_threads / 32) + threadIdx.x / 32;
    if (place >= last.first_row) {
      return;
    }
    GradientTerms& terms = all_terms[threadIdx.x / 32];
    const int m = matrix_of_row(pass, place);
    const OwnRow own = own_row(pass, place);
    const PassMatrix& matrix = *own.matrix;
    if (!takes_part(own.norm)) {
      return;  // neither has nor is a neighbour
    }
    const bool has_pair = pass.nearest[place] != own.index;
    const PairTerms own_terms = terms_of_row(pass, matrix, own.index);
    const Gathered first = gather_choosers(pass, matrix, own.index, 0, lane, terms);
    if (!has_pair && first.count == 0) {
      return;
    }
    const double factor = targets.scale * targets.factors[matrix.layer] / own.norm;
    Row* gradient =
        static_cast<Row*>(targets.at[m - targets.first_matrix]) + static_cast<long long>(own.index) * matrix.dimension;
    const bool one_batch = first.next >= matrix.count;
    for (int begin = 0; begin < matrix.dimension; begin += 32 * lane_entries) {
      double sums[lane_entries] = {};
      if (has_pair) {
        add_own_terms(pass, matrix, own, own_terms, begin + lane, sums);
      }
      Gathered batch = first;
      if (!one_batch && begin > 0) {
        batch = gather_choosers(pass, matrix, own.index, 0, lane, terms);
      }
      add_terms(matrix, own, terms, batch.count, begin + lane, sums);
      while (batch.next < matrix.count) {
        batch = gather_choosers(pass, matrix, own.index, batch.next, lane, terms);
        add_terms(matrix, own, terms, batch.count, begin + lane, sums);
      }
#pragma unroll
      for (int e = 0; e < lane_entries; ++e) {
        const int k = begin + lane + 32 * e;
        if (k < matrix.dimension) {
          gradient[k] = stored(real(gradient[k]) + sums[e] * factor);
        }
      }
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
