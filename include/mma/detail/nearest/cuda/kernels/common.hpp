// What all kernels use: rows as they are stored and as they are computed, sums over a warp, choices between columns.
// Before it in the text stands MMA_ROWS: 0 float32, 1 float64, 2 float16, 3 bfloat16.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

/// Stands before pairs::math_source.
inline constexpr KernelText prelude_text(__FILE__, __LINE__, R"mma(
#ifndef MMA_EMULATED
#define KERNEL extern "C" __global__
#define inline static __device__ __forceinline__
#define in_global_memory(pointer) __builtin_assume(__isGlobal(pointer))
#endif

  inline long long double_bits(double value) {
    return __double_as_longlong(value);
  }
  inline double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }
)mma");

inline constexpr KernelText common_text(__FILE__, __LINE__, R"mma(
  constexpr unsigned full_warp = 0xffffffffu;

#if MMA_ROWS == 1
  typedef double Row;
  typedef double Real;
  constexpr double duplicate = duplicate_of_double;
#elif MMA_ROWS == 0
  typedef float Row;
  typedef float Real;
  constexpr double duplicate = duplicate_of_float;
#else
  typedef unsigned short Row;
  typedef float Real;
  constexpr double duplicate = duplicate_of_float;
#endif

#if MMA_ROWS <= 1
  inline Real real(Row value) { return value; }
  inline Row stored(double value) { return static_cast<Row>(value); }
#elif MMA_ROWS == 3
  inline float real(Row bits) { return __int_as_float(static_cast<int>(bits) << 16); }

  // To nearest, ties to even; NaN stays NaN.
  inline Row stored(double value) {
    const unsigned bits = static_cast<unsigned>(__float_as_int(static_cast<float>(value)));
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return is_nan ? 0x7fc0 : static_cast<Row>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
#elif defined(MMA_EMULATED)
  inline float real(Row bits) { return emulated_float16_value(bits); }
  inline Row stored(double value) { return emulated_float16_bits(static_cast<float>(value)); }
#else
  inline float real(Row bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
  inline Row stored(double value) {
    Row bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(static_cast<float>(value)));
    return bits;
  }
#endif

  inline float fused(float a, float b, float sum) { return fmaf(a, b, sum); }
  inline double fused(double a, double b, double sum) { return fma(a, b, sum); }

  // The power of two that brings a length into [1, 2); exact.
  inline double power_scale(double length) {
    int exponent = 0;
    frexp(length, &exponent);
    return ldexp(1.0, 1 - exponent);
  }

  // Butterflies: every lane gets the same bits.
  template <typename Number>
  inline Number warp_sum(Number value) {
    for (int step = 16; step > 0; step /= 2) {
      value += __shfl_xor_sync(full_warp, value, step);
    }
    return value;
  }

  inline double warp_max(double value) {
    for (int step = 16; step > 0; step /= 2) {
      value = fmax(value, __shfl_xor_sync(full_warp, value, step));
    }
    return value;
  }

  // Four entries of a row from k on, zeros beyond its end. aligned: they can be had at once.
  struct alignas(4 * sizeof(Row)) RowFour {
    Row v[4];
  };

  inline bool is_aligned(const PassMatrix& matrix) {
    return matrix.dimension % 4 == 0 && reinterpret_cast<unsigned long long>(matrix.rows) % sizeof(RowFour) == 0;
  }

  inline RowFour load_four(const Row* row, int k, int dimension, bool aligned) {
    RowFour four = {};
    if (aligned && k < dimension) {
      four = *reinterpret_cast<const RowFour*>(row + k);
    } else {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (k + c < dimension) {
          four.v[c] = row[k + c];
        }
      }
    }
    return four;
  }

  inline void store_four(const RowFour& four, Row* row, int k, int dimension, bool aligned) {
    if (aligned && k < dimension) {
      *reinterpret_cast<RowFour*>(row + k) = four;
      return;
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (k + c < dimension) {
        row[k + c] = four.v[c];
      }
    }
  }

  // The matrix in which the row, unit or chunk `which` lies: the last whose first one is not beyond it.
  inline int matrix_of(const Pass& pass, long long PassMatrix::*first, long long which) {
    int low = 0, high = pass.matrix_count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (pass.matrices[middle].*first <= which ? low : high) = middle;
    }
    return low;
  }

  inline const Row* row_data(const PassMatrix& matrix, int row) {
    const Row* data = static_cast<const Row*>(matrix.rows) + static_cast<long long>(row) * matrix.dimension;
    in_global_memory(data);
    return data;
  }

  // A row with its matrix, as a warp or a block works on it.
  struct OwnRow {
    const PassMatrix* matrix;
    const Row* data;
    long long place;
    int index;
    bool aligned;
    double norm;
  };

  inline OwnRow own_row(const Pass& pass, const PassMatrix& matrix, int index) {
    OwnRow own;
    own.matrix = &matrix;
    own.place = matrix.first_row + index;
    own.index = index;
    own.data = row_data(matrix, index);
    own.aligned = is_aligned(matrix);
    own.norm = pass.norms[own.place];
    return own;
  }

  inline OwnRow own_row(const Pass& pass, long long place) {
    const PassMatrix& matrix = pass.matrices[matrix_of(pass, &PassMatrix::first_row, place)];
    return own_row(pass, matrix, static_cast<int>(place - matrix.first_row));
  }

  // A column and the angle to it: between the rows, and the one that decides.
  struct Choice {
    double angle;
    double deciding;
    int column;
  };

  constexpr int no_column = 0x7fffffff;

  inline Choice no_choice() {
    const Choice none = {0, 8, no_column};
    return none;
  }

  inline void take_nearer(Choice& best, const Choice& other) {
    if (other.deciding < best.deciding || (other.deciding == best.deciding && other.column < best.column)) {
      best = other;
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
