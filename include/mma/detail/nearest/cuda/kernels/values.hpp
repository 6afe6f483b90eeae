// The fourth kernel, a block a layer: what each row weighs, the layer's value, and the slopes, which are the value's
// derivatives by the rows' angles.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText values_text(__FILE__, __LINE__, R"mma(
  // The sum over the block, by a fixed tree; every thread gets it.
  inline double block_sum(double value) {
    __shared__ double parts[layer_threads / 32];
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % 32 == 0) {
      parts[threadIdx.x / 32] = value;
    }
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < layer_threads / 32; ++w) {
      sum += parts[w];
    }
    return sum;
  }

  // Rows that are not zero, 0 where fewer than two are not: then the matrix counts for nothing.
  inline double counted_rows(const Pass& pass, const PassMatrix& matrix) {
    double count = 0;
    for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
      count += counts_as_row(pass.norms[matrix.first_row + r]) ? 1 : 0;
    }
    count = block_sum(count);
    return count < 2 ? 0 : count;
  }

  // Of the matrices from `begin` to `end`.
  inline bool all_finite(const Pass& pass, int begin, int end) {
    const long long first = pass.matrices[begin].first_row, last = pass.matrices[end].first_row;
    double bad = 0;
    for (long long r = first + threadIdx.x; r < last; r += layer_threads) {
      bad += is_finite(pass.norms[r]) ? 0 : 1;
    }
    return block_sum(bad) == 0;
  }

  // The first row with the smallest angle.
  inline int closest_row(const Pass& pass, const PassMatrix& matrix) {
    __shared__ Choice parts[layer_threads];
    Choice best = no_choice();
    for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
      const long long place = matrix.first_row + r;
      if (takes_part(pass.norms[place])) {
        const Choice choice = {0, folded(pass.angles[place], pass.objective.half_space), r};
        take_nearer(best, choice);
      }
    }
    __syncthreads();
    parts[threadIdx.x] = best;
    for (int step = layer_threads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (threadIdx.x < step) {
        take_nearer(parts[threadIdx.x], parts[threadIdx.x + step]);
      }
    }
    __syncthreads();
    return parts[0].column;
  }

  // The value of a matrix of so many counted rows, times its share in the layer; writes its slopes.
  inline double weigh_matrix(const Pass& pass, const PassMatrix& matrix, double counted, double share, bool finite) {
    const Objective& objective = pass.objective;
    const int closest = objective.closest_only ? closest_row(pass, matrix) : no_column;
    const double weight = counted == 0 ? 0 : objective.closest_only ? share : share / counted;
    double value = 0;
    for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
      const long long place = matrix.first_row + r;
      const bool counts = counted > 0 && counts_as_row(pass.norms[place]) && (!objective.closest_only || r == closest);
      const double angle = pass.angles[place];
      value += counts ? weight * value_at(objective, angle) : 0.0;
      pass.slopes[place] = !counts ? 0.0 : finite ? weight * slope_at(objective, angle) : not_a_number();
    }
    return block_sum(value);
  }

  KERNEL void __launch_bounds__(layer_threads) mma_values(Pass pass) {
    const int layer = blockIdx.x, begin = pass.layer_begin[layer], end = pass.layer_begin[layer + 1];
    const bool finite = all_finite(pass, begin, end);
    double rows = 0;
    for (int m = begin; m < end; ++m) {
      rows += counted_rows(pass, pass.matrices[m]);
    }
    double value = 0;
    for (int m = begin; m < end; ++m) {
      const double counted = counted_rows(pass, pass.matrices[m]);
      value += weigh_matrix(pass, pass.matrices[m], counted, counted == 0 ? 0 : counted / rows, finite);
    }
    if (threadIdx.x == 0) {
      pass.values[layer] = finite ? value : not_a_number();
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
