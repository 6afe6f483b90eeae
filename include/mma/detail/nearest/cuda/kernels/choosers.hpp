// The fifth kernel, a block a matrix: what each pair adds to the gradient, and for each row the list of those that
// chose it, in ascending order, so that the gradient is summed in the same order every time.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText choosers_text(__FILE__, __LINE__, R"mma(
  // Below this angle, or as near to an antipode, a tangent is the difference of two long vectors, and float32 would
  // lose more of it than the row's own rounding. The lengths' inverses must be far from the ends of a float's range as
  // well.
  constexpr double exact_angle = 0.01;
  constexpr double smallest_length = 1e-30, largest_length = 1e30;

  inline bool has_plain_length(double norm) { return norm > smallest_length && norm < largest_length; }

  // What row i's pair with its nearest row adds, as pair_terms has it.
  inline RowTerms terms_of_row(const Pass& pass, const PassMatrix& matrix, int i) {
    const long long place = matrix.first_row + i;
    const int j = pass.nearest[place];
    const double weight = -pass.slopes[place], angle = pass.angles[place];
    RowTerms row = {0, 0, 0, 0, 0, 0, -1, 0};
    if (j == i || weight == 0) {
      return row;
    }
    const double norm = pass.norms[place], other_norm = pass.norms[matrix.first_row + j], inverse = 1 / norm;
    const Row* data = row_data(matrix, i);
    const PairTerms terms = pair_terms(lengths_of(angle), weight, i, j, matrix.dimension, duplicate,
                                       [&](long long k) { return real(data[k]) * inverse; });
    row.near_unit = terms.unit + terms.parting_unit;
    row.near_other = terms.other / other_norm;
    row.near_axis = terms.parting;
    row.far_unit = terms.unit;
    row.far_other = (terms.other + terms.mirror * terms.parting_unit) * inverse;
    row.far_axis = terms.mirror * terms.parting;
    row.axis = static_cast<int>(terms.axis);
    row.exact =
        angle < exact_angle || angle > pi - exact_angle || !has_plain_length(norm) || !has_plain_length(other_norm);
    return row;
  }

  // The nearest row's index of a row that has one, or -1.
  inline int chosen_by(const Pass& pass, const PassMatrix& matrix, int i) {
    const int j = i < matrix.count ? pass.nearest[matrix.first_row + i] : i;
    return j == i ? -1 : j;
  }

  // The sum of `value` over the block's threads up to this one's; *all: over all of them.
  inline int sum_up_to(int value, int* all) {
    __shared__ int parts[chooser_threads / 32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(full_warp, value, step);
      value += lane >= step ? before : 0;
    }
    __syncthreads();
    if (lane == 31) {
      parts[warp] = value;
    }
    __syncthreads();
    int sum = 0;
    for (int w = 0; w < chooser_threads / 32; ++w) {
      value += w < warp ? parts[w] : 0;
      sum += parts[w];
    }
    *all = sum;
    return value;
  }

  inline void count_choosers(const Pass& pass, const PassMatrix& matrix) {
    int* counts = pass.choosers_end + matrix.first_row;
    for (int i = threadIdx.x; i < matrix.count; i += chooser_threads) {
      counts[i] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < matrix.count; i += chooser_threads) {
      const int j = chosen_by(pass, matrix, i);
      if (j >= 0) {
        atomicAdd(counts + j, 1);
      }
    }
    __syncthreads();
  }

  // The lists lie one after another, in the matrix's own part of all rows' choosers; each ends where it begins.
  inline void place_lists(const Pass& pass, const PassMatrix& matrix) {
    int placed = 0;
    for (int first = 0; first < matrix.count; first += chooser_threads) {
      const int r = first + threadIdx.x;
      const long long place = matrix.first_row + r;
      const int count = r < matrix.count ? pass.choosers_end[place] : 0;
      int all;
      const int up_to = sum_up_to(count, &all);
      if (r < matrix.count) {
        pass.choosers_begin[place] = pass.choosers_end[place] = placed + up_to - count;
      }
      placed += all;
    }
    __syncthreads();
  }

  // Warp after warp, so that every list is in order.
  inline void fill_lists(const Pass& pass, const PassMatrix& matrix) {
    int* ends = pass.choosers_end + matrix.first_row;
    int* choosers = pass.choosers + matrix.first_row;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int first = 0; first < matrix.count; first += chooser_threads) {
      const int i = first + threadIdx.x, j = chosen_by(pass, matrix, i);
      const int warps = min(chooser_threads / 32, (matrix.count - first + 31) / 32);
      for (int w = 0; w < warps; ++w) {
        if (w == warp) {
          const unsigned same = __match_any_sync(full_warp, j);
          const int before = __popc(same & ((1u << lane) - 1));
          const int end = j >= 0 ? ends[j] : 0;
          __syncwarp();
          if (j >= 0) {
            choosers[end + before] = i;
            if (before == 0) {
              ends[j] = end + __popc(same);
            }
          }
        }
        __syncthreads();
      }
    }
  }

  KERNEL void __launch_bounds__(chooser_threads) mma_choosers(Pass pass) {
    const PassMatrix& matrix = pass.matrices[blockIdx.x];
    for (int i = threadIdx.x; i < matrix.count; i += chooser_threads) {
      pass.terms[matrix.first_row + i] = terms_of_row(pass, matrix, i);
    }
    count_choosers(pass, matrix);
    place_lists(pass, matrix);
    fill_lists(pass, matrix);
  }
)mma");

}  // namespace mma::detail::nearest::cuda
