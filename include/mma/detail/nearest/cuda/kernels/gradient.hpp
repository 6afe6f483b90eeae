// The sixth kernel: a block a stretch of 1024 entries of a row's gradient, which it gathers from the row's nearest row
// and from those that chose it, always in the same order, so the same bits every time. Sums are float32 for rows that
// are no wider, float64 where a pair is so near that float32 would lose too much.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText gradient_text(__FILE__, __LINE__, R"mma(
  // A row's gradient before its own 1/norm: entry 0 is its nearest row, then come its choosers.
  struct GradientRow {
    OwnRow own;
    const int* choosers;
    int entries;
  };

  inline GradientRow gradient_row(const Pass& pass, const PassMatrix& matrix, int index) {
    GradientRow row;
    row.own = own_row(pass, matrix, index);
    const int begin = pass.choosers_begin[row.own.place];
    row.choosers = pass.choosers + matrix.first_row + begin;
    row.entries = 1 + pass.choosers_end[row.own.place] - begin;
    return row;
  }

  // An entry's share in the gradient: a row times factor, the own unit vector times unit, amount at an axis.
  struct GradientEntry {
    double factor, unit, amount;
    int row, axis;
    bool exact;
  };

  inline GradientEntry entry_of(const Pass& pass, const GradientRow& row, int e) {
    const long long first = row.own.matrix->first_row;
    const int chooser = e == 0 ? row.own.index : row.choosers[e - 1];
    const RowTerms& terms = pass.terms[first + chooser];
    GradientEntry entry;
    entry.row = e == 0 ? pass.nearest[first + chooser] : chooser;
    entry.factor = e == 0 ? terms.near_other : terms.far_other;
    entry.unit = e == 0 ? terms.near_unit : terms.far_unit;
    entry.amount = e == 0 ? terms.near_axis : terms.far_axis;
    entry.axis = terms.axis;
    entry.exact = terms.exact != 0;
    return entry;
  }

  // Some of a row's entries to shared memory, one a thread; whether one of them is exact.
  inline bool load_entries(const Pass& pass, const GradientRow& row, int first, GradientEntry* entries) {
    const int e = first + static_cast<int>(threadIdx.x);
    bool exact = false;
    __syncthreads();
    if (e < row.entries) {
      const GradientEntry entry = entry_of(pass, row, e);
      entries[threadIdx.x] = entry;
      exact = entry.exact;
    }
    return __syncthreads_or(exact ? 1 : 0) != 0;
  }

  // Quads of entries that a thread sums, each as far from the next as the block is wide.
  constexpr int thread_quads = gradient_chunk / (4 * row_threads);

  template <typename Sum>
  struct QuadSums {
    Sum v[thread_quads][4];
  };

  // factor * row[k] for all of the thread's entries.
  template <typename Sum>
  inline void add_row(const OwnRow& own, const Row* row, Sum factor, int begin, QuadSums<Sum>& sums) {
    RowFour fours[thread_quads];
#pragma unroll
    for (int q = 0; q < thread_quads; ++q) {
      fours[q] = load_four(row, begin + 4 * row_threads * q, own.matrix->dimension, own.aligned);
    }
#pragma unroll
    for (int q = 0; q < thread_quads; ++q) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        sums.v[q][c] = fused(static_cast<Sum>(real(fours[q].v[c])), factor, sums.v[q][c]);
      }
    }
  }

  template <typename Sum>
  inline void add_axis(int axis, Sum amount, int begin, QuadSums<Sum>& sums) {
#pragma unroll
    for (int q = 0; q < thread_quads; ++q) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        sums.v[q][c] += axis == begin + 4 * row_threads * q + c ? amount : Sum(0);
      }
    }
  }

  // begin: the thread's first entry; the row's first entries are there.
  template <typename Sum>
  inline QuadSums<Sum> gradient_sums(const Pass& pass, const GradientRow& row, int begin, GradientEntry* entries) {
    QuadSums<Sum> sums = {};
    Sum unit = 0;
    for (int first = 0; first < row.entries; first += row_threads) {
      if (first > 0) {
        load_entries(pass, row, first, entries);
      }
      const int count = min(row.entries - first, row_threads);
#pragma unroll 4
      for (int e = 0; e < count; ++e) {
        const GradientEntry& entry = entries[e];
        add_row(row.own, row_data(*row.own.matrix, entry.row), static_cast<Sum>(entry.factor), begin, sums);
        if (sizeof(Sum) == sizeof(double) && entry.axis >= 0) {  // duplicates: exact
          add_axis(entry.axis, static_cast<Sum>(entry.amount), begin, sums);
        }
        unit += static_cast<Sum>(entry.unit);
      }
    }
    add_row(row.own, row.own.data, unit * static_cast<Sum>(1 / row.own.norm), begin, sums);
    return sums;
  }

  template <typename Sum>
  inline void write_gradient(const GradientRow& row, const QuadSums<Sum>& sums, double factor, int begin,
                             Row* gradient) {
    const Sum own_factor = static_cast<Sum>(factor / row.own.norm);
    const int dimension = row.own.matrix->dimension;
    const bool aligned = row.own.aligned && reinterpret_cast<unsigned long long>(gradient) % sizeof(RowFour) == 0;
#pragma unroll
    for (int q = 0; q < thread_quads; ++q) {
      const int k = begin + 4 * row_threads * q;
      RowFour four = load_four(gradient, k, dimension, aligned);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        four.v[c] = stored(real(four.v[c]) + sums.v[q][c] * own_factor);
      }
      store_four(four, gradient, k, dimension, aligned);
    }
  }

  KERNEL void __launch_bounds__(row_threads, 5) mma_gradient(Pass pass, GradientTargets targets) {
    const long long chunk = pass.matrices[targets.first_matrix].first_chunk + blockIdx.x;
    const int m = matrix_of(pass, &PassMatrix::first_chunk, chunk);
    const PassMatrix& matrix = pass.matrices[m];
    const int chunks = (matrix.dimension + gradient_chunk - 1) / gradient_chunk;
    const int index = static_cast<int>((chunk - matrix.first_chunk) / chunks);
    const int begin = static_cast<int>((chunk - matrix.first_chunk) % chunks) * gradient_chunk;
    const GradientRow row = gradient_row(pass, matrix, index);
    const bool has_pair = pass.nearest[row.own.place] != index;
    if (!takes_part(row.own.norm) || (!has_pair && row.entries == 1)) {
      return;  // neither has nor is a neighbour
    }
    const double factor = targets.scale * targets.factors[matrix.layer];
    Row* gradient =
        static_cast<Row*>(targets.at[m - targets.first_matrix]) + static_cast<long long>(index) * matrix.dimension;
    in_global_memory(gradient);
    const int first = begin + 4 * static_cast<int>(threadIdx.x);
    __shared__ GradientEntry entries[row_threads];
    const bool exact = load_entries(pass, row, 0, entries) || row.entries > row_threads;
#if MMA_ROWS != 1
    if (!exact) {
      write_gradient(row, gradient_sums<float>(pass, row, first, entries), factor, first, gradient);
      return;
    }
#endif
    write_gradient(row, gradient_sums<double>(pass, row, first, entries), factor, first, gradient);
  }
)mma");

}  // namespace mma::detail::nearest::cuda
