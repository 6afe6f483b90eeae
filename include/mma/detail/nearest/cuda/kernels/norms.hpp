// The first kernel: norms in float64, a warp a row, and no winner yet.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText norms_text(__FILE__, __LINE__, R"mma(
  // The squares of float64 rows can leave the range: scaled by the largest entry. Those of the other types cannot.
  inline double norm_scale(const Row* row, int dimension, int lane) {
#if MMA_ROWS == 1
    double largest = 0;
    for (int k = lane; k < dimension; k += 32) {
      largest = fmax(largest, fabs(row[k]));
    }
    largest = warp_max(largest);
    return takes_part(largest) ? power_scale(largest) : 1;
#else
    return 1;
#endif
  }

  inline double row_norm(const Row* row, int dimension, bool aligned, int lane) {
    const double scale = norm_scale(row, dimension, lane);
    double sum = 0;
#pragma unroll 4
    for (int k = 4 * lane; k < dimension; k += 128) {
      const RowFour four = load_four(row, k, dimension, aligned);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const double value = real(four.v[c]) * scale;
        sum += value * value;
      }
    }
    return sqrt(warp_sum(sum)) / scale;
  }

  KERNEL void __launch_bounds__(row_threads) mma_norms(Pass pass) {
    const int lane = threadIdx.x % 32;
    const long long row = static_cast<long long>(blockIdx.x) * (row_threads / 32) + threadIdx.x / 32;
    if (row >= pass.rows) {
      return;
    }
    const PassMatrix& matrix = pass.matrices[matrix_of(pass, &PassMatrix::first_row, row)];
    const double norm = row_norm(row_data(matrix, static_cast<int>(row - matrix.first_row)), matrix.dimension,
                                 is_aligned(matrix), lane);
    if (lane == 0) {
      pass.norms[row] = norm;
      pass.winners[row] = no_winner;
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
