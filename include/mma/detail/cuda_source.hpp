// The CUDA kernels of cuda_network.hpp as text, which NVRTC compiles for the GPU that is there (cuda_runtime.hpp).
// Plain CUDA C++ without includes. Compiled with --fmad=false, so that a - b does not depend on which row comes first.
// What host and kernels share stands first, compiled on both sides.
#pragma once

#include <string>

namespace mma::detail::cuda {

#define MMA_ON_BOTH_SIDES(...) \
  __VA_ARGS__                  \
  inline constexpr const char* shared_source = #__VA_ARGS__;

// Candidate: a column, and the largest that its cosine can be but for the error that all columns of the row share.
// PassMatrix: rows [count, dimension], its place among all rows and all tiles; `window`: twice the error of a sum.
// Pass: what a kernel needs. Tables: matrices (one more than there are, which ends them), layers' first matrices (the
// same), coefficients. Per row: norms to given (see FoundPairs; given: neighbours to take as they are), then scratch:
// rounding (how far the row is off in the search's type), best, counts and candidates.
// GradientTargets: where the gradients of at most gradient_targets matrices go, passed by value so that a launch
// captured in a CUDA graph holds them.
MMA_ON_BOTH_SIDES(
    constexpr int tile_rows = 64; constexpr int search_threads = 128; constexpr int row_threads = 128;
    constexpr int layer_threads = 512; constexpr int candidate_capacity = 16; constexpr int gradient_targets = 448;
    constexpr int strip_blocks = 16;

    struct Candidate {
      int column;
      float cosine;
    };

    struct PassMatrix {
      const void* rows;
      long long first_row, first_tile;
      int count, dimension;
      float window;
      int layer;
    };

    struct Pass {
      const PassMatrix* matrices;
      const int* layer_begin;
      const double* coefficients;
      double *norms, *angles, *slopes;
      int* nearest;
      const int* given;
      float* rounding;
      int *best, *counts;
      Candidate* candidates;
      double* layer_values;
      void* value;
      long long rows;
      int matrix_count, layer_count, half_space, closest_only, cosine;
    };

    struct GradientTargets {
      void* at[gradient_targets];
      int first_matrix, matrix_count;
      const void* factor;
      int factor_type;
      double scale;
    };)

#undef MMA_ON_BOTH_SIDES

/// MMA_ROWS: 0 float32, 1 float64, 2 float16, 3 bfloat16. MMA_SEARCH: 0 float32, 1 TF32, 2 bfloat16.
inline constexpr const char* kernel_source = R"mma(
#define DEVICE static __device__ __forceinline__
#define FULL_WARP 0xffffffffu

// Rows as they are stored, and the type they are computed in.
#if MMA_ROWS == 1
typedef double Row;
typedef double Real;
#elif MMA_ROWS == 0
typedef float Row;
typedef float Real;
#else
typedef unsigned short Row;
typedef float Real;
#endif

DEVICE float bfloat16_value(unsigned short bits) { return __int_as_float(static_cast<int>(bits) << 16); }

// To nearest, ties to even; NaN stays NaN.
DEVICE unsigned short bfloat16_bits(float value) {
  const unsigned bits = static_cast<unsigned>(__float_as_int(value));
  if (value != value) {
    return 0x7fc0;
  }
  return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#ifdef MMA_EMULATED
DEVICE float float16_value(unsigned short bits) { return emulated_float16_value(bits); }
DEVICE unsigned short float16_bits(float value) { return emulated_float16_bits(value); }
#else
DEVICE float float16_value(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
DEVICE unsigned short float16_bits(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

#if MMA_ROWS <= 1
DEVICE Real real(Row value) { return value; }
DEVICE Row stored(double value) { return static_cast<Row>(value); }
#elif MMA_ROWS == 2
DEVICE Real real(Row value) { return float16_value(value); }
DEVICE Row stored(double value) { return float16_bits(static_cast<float>(value)); }
#else
DEVICE Real real(Row value) { return bfloat16_value(value); }
DEVICE Row stored(double value) { return bfloat16_bits(static_cast<float>(value)); }
#endif

// A value as the search takes it.
DEVICE float searched(double value) {
  const float rounded = static_cast<float>(value);
#if MMA_SEARCH == 1
  return __int_as_float(static_cast<int>((static_cast<unsigned>(__float_as_int(rounded)) + 0x1000u) & 0xffffe000u));
#elif MMA_SEARCH == 2
  return bfloat16_value(bfloat16_bits(rounded));
#else
  return rounded;
#endif
}

DEVICE bool is_finite(double value) { return value - value == 0; }
DEVICE bool counts_as_row(double norm) { return !(norm < 1.17549435082228750797e-38); }
DEVICE bool takes_part(double norm) { return counts_as_row(norm) && is_finite(norm); }
#define PI 3.14159265358979323846

#if MMA_ROWS == 1
#define DUPLICATE (8 * 2.220446049250313e-16)
#else
#define DUPLICATE (8 * 1.1920928955078125e-7)
#endif

// The power of two that brings a length into [1, 2); exact.
DEVICE double power_scale(double length) {
  int exponent = 0;
  frexp(length, &exponent);
  return ldexp(1.0, 1 - exponent);
}

// Floats as integers in the same order, for atomicMax.
DEVICE int ordered(float value) {
  const int bits = __float_as_int(value);
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
DEVICE float from_ordered(int bits) { return __int_as_float(bits >= 0 ? bits : bits ^ 0x7fffffff); }
#define LOWEST_COSINE -8.0f

// Butterflies: every lane gets the same bits.
DEVICE double warp_sum(double value) {
  for (int step = 16; step > 0; step /= 2) {
    value += __shfl_xor_sync(FULL_WARP, value, step);
  }
  return value;
}
DEVICE float warp_sum(float value) {
  for (int step = 16; step > 0; step /= 2) {
    value += __shfl_xor_sync(FULL_WARP, value, step);
  }
  return value;
}
DEVICE double warp_max(double value) {
  for (int step = 16; step > 0; step /= 2) {
    value = fmax(value, __shfl_xor_sync(FULL_WARP, value, step));
  }
  return value;
}

DEVICE int matrix_of_row(const Pass& pass, long long row) {
  int low = 0, high = pass.matrix_count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (pass.matrices[middle].first_row <= row ? low : high) = middle;
  }
  return low;
}

DEVICE int matrix_of_tile(const Pass& pass, long long tile) {
  int low = 0, high = pass.matrix_count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (pass.matrices[middle].first_tile <= tile ? low : high) = middle;
  }
  return low;
}

DEVICE const Row* row_data(const PassMatrix& matrix, int row) {
  return static_cast<const Row*>(matrix.rows) + static_cast<long long>(row) * matrix.dimension;
}

// 1. Norms, a warp a row; and an empty list of candidates. -------------------------------------------------------

DEVICE double row_norm(const Row* row, int dimension, int lane) {
  double scale = 1;
#if MMA_ROWS == 1
  double largest = 0;
  for (int k = lane; k < dimension; k += 32) {
    largest = fmax(largest, fabs(row[k]));
  }
  largest = warp_max(largest);
  if (largest > 1.17549435082228750797e-38 && is_finite(largest)) {
    scale = power_scale(largest);
  }
#endif
  double sum = 0;
  for (int k = lane; k < dimension; k += 32) {
    const double value = real(row[k]) * scale;
    sum += value * value;
  }
  return sqrt(warp_sum(sum)) / scale;
}

// How far the row as searched is off, over its norm; rounded up, and with half its square, so that the products of
// rounded rows i and j are off by rounding(i) + rounding(j) at most.
DEVICE float row_rounding(const Row* row, int dimension, double norm, int lane) {
#if MMA_SEARCH == 0
  return 0;
#else
  if (!takes_part(norm)) {
    return 0;
  }
  const double scale = power_scale(norm);
  double sum = 0;
  for (int k = lane; k < dimension; k += 32) {
    const double value = real(row[k]) * scale, off = value - searched(value);
    sum += off * off;
  }
  const double relative = sqrt(warp_sum(sum)) / (norm * scale);
  return static_cast<float>((relative + relative * relative / 2) * (1 + 1e-6));
#endif
}

KERNEL void __launch_bounds__(row_threads) mma_norms(Pass pass) {
  const int lane = threadIdx.x % 32;
  const long long row = static_cast<long long>(blockIdx.x) * (row_threads / 32) + threadIdx.x / 32;
  if (row >= pass.rows) {
    return;
  }
  const PassMatrix& matrix = pass.matrices[matrix_of_row(pass, row)];
  const Row* data = row_data(matrix, static_cast<int>(row - matrix.first_row));
  const double norm = row_norm(data, matrix.dimension, lane);
  const float rounding = row_rounding(data, matrix.dimension, norm, lane);
  if (lane == 0) {
    pass.norms[row] = norm;
    pass.rounding[row] = rounding;
    pass.best[row] = ordered(LOWEST_COSINE);
    pass.counts[row] = 0;
  }
}

// 2. The search: a block a tile of the upper triangle. -----------------------------------------------------------

#define SLAB 32       // terms of the product that are in shared memory at a time
#define SUM_SLABS 16  // slabs summed before their sum is added to the total: blocks of 512 terms
#if MMA_SEARCH == 1
#define SLAB_WORDS 36  // of a row in shared memory: 32 and 4 that spread rows over the banks
#elif MMA_SEARCH == 2
#define SLAB_WORDS 20
#endif
#define PRODUCT_STRIDE (tile_rows + 1)

struct alignas(16) Four {
  float v[4];
};
struct alignas(4 * sizeof(Row)) RowFour {
  Row v[4];
};

// Strips of 16 block rows, column by column, so that tiles worked on at the same time share their rows in the cache.
DEVICE void locate_tile(int blocks, long long index, int* block_row, int* block_column) {
  int first = 0, height, triangle;
  while (true) {
    height = min(strip_blocks, blocks - first);
    triangle = height * (height + 1) / 2;
    const long long size = triangle + static_cast<long long>(height) * (blocks - first - height);
    if (index < size) {
      break;
    }
    index -= size;
    first += height;
  }
  if (index >= triangle) {
    *block_row = first + static_cast<int>((index - triangle) % height);
    *block_column = first + height + static_cast<int>((index - triangle) / height);
    return;
  }
  int column = 0;
  for (; index > column; ++column) {
    index -= column + 1;
  }
  *block_row = first + static_cast<int>(index);
  *block_column = first + column;
}

// The tile's 64 rows and then its 64 columns: place 0 to 127.
struct TileRows {
  Real scale[2 * tile_rows];      // power of two that brings the row's length into [1, 2)
  float inverse[2 * tile_rows];   // 1 over the length then; 0 for rows that take no part
  float rounding[2 * tile_rows];
};

DEVICE int tile_row(int place, int first_row, int first_column) {
  return place < tile_rows ? first_row + place : first_column + place - tile_rows;
}

DEVICE void load_tile_rows(const Pass& pass, const PassMatrix& matrix, int first_row, int first_column,
                           TileRows& tile) {
  const int place = threadIdx.x, row = tile_row(place, first_row, first_column);
  const double norm = row < matrix.count ? pass.norms[matrix.first_row + row] : 0.0;
  const bool part = takes_part(norm);
  const double scale = part ? power_scale(norm) : 0.0;
  tile.scale[place] = static_cast<Real>(scale);
  tile.inverse[place] = part ? static_cast<float>(1 / (norm * scale)) : 0.0f;
  tile.rounding[place] = part ? pass.rounding[matrix.first_row + row] : 0.0f;
}

// Eight quads of a slab a thread, eight neighbouring threads a row.
DEVICE void load_slab(const PassMatrix& matrix, const TileRows& tile, int first_row, int first_column, int k_begin,
                      bool aligned, Four (&quads)[8]) {
  const int k = k_begin + 4 * (threadIdx.x % 8);
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int place = threadIdx.x / 8 + 16 * s, row = tile_row(place, first_row, first_column);
    RowFour loaded = {};
    if (tile.inverse[place] > 0) {
      const Row* from = row_data(matrix, row) + k;
      if (aligned && k < matrix.dimension) {
        loaded = *reinterpret_cast<const RowFour*>(from);
      } else {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          if (k + c < matrix.dimension) {
            loaded.v[c] = from[c];
          }
        }
      }
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      quads[s].v[c] = static_cast<float>(real(loaded.v[c]) * tile.scale[place]);
    }
  }
}

#if MMA_SEARCH == 0

// Term k of place p lies at [side][k][p ^ swizzle(k)]: stores of a warp and loads of four places meet no bank twice.
DEVICE int slab_index(int side, int k, int place) { return (side * SLAB + k) * tile_rows + (place ^ (k / 4 * 4)); }

DEVICE void store_slab(const Four (&quads)[8], float* slab) {
  const int quad = threadIdx.x % 8;
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    const int place = (threadIdx.x / 8 + 16 * s) % tile_rows;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      slab[slab_index(s / 4, 4 * quad + c, place)] = quads[s].v[c];
    }
  }
}

// A thread makes 8 x 4 products: rows 4 y to 4 y + 3 and 32 more than those, columns 4 x to 4 x + 3.
struct Products {
  float v[8][4];
};
DEVICE int product_row(int i) { return 4 * (threadIdx.x / 16) + i % 4 + 32 * (i / 4); }

DEVICE void multiply_slab(const float* slab, Products& sum) {
  const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll 4
  for (int k = 0; k < SLAB; ++k) {
    const Four low = *reinterpret_cast<const Four*>(slab + slab_index(0, k, 4 * y));
    const Four high = *reinterpret_cast<const Four*>(slab + slab_index(0, k, 32 + 4 * y));
    const Four right = *reinterpret_cast<const Four*>(slab + slab_index(1, k, 4 * x));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sum.v[i][j] = fmaf(low.v[i], right.v[j], sum.v[i][j]);
        sum.v[i + 4][j] = fmaf(high.v[i], right.v[j], sum.v[i + 4][j]);
      }
    }
  }
}

DEVICE void store_products(const Products& total, float* product) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      product[product_row(i) * PRODUCT_STRIDE + 4 * (threadIdx.x % 16) + j] = total.v[i][j];
    }
  }
}

#else

DEVICE unsigned tensor_word(float low, float high) {
#if MMA_SEARCH == 1
  return static_cast<unsigned>(__float_as_int(searched(low)));
#else
  return static_cast<unsigned>(bfloat16_bits(low)) | static_cast<unsigned>(bfloat16_bits(high)) << 16;
#endif
}

// Row by row, in words of one TF32 or two bfloat16.
DEVICE void store_slab(const Four (&quads)[8], float* slab) {
  constexpr int terms = MMA_SEARCH;  // in a word
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    unsigned* to = reinterpret_cast<unsigned*>(slab) + (threadIdx.x / 8 + 16 * s) * SLAB_WORDS +
                   threadIdx.x % 8 * (4 / terms);
#pragma unroll
    for (int c = 0; c < 4; c += terms) {
      to[c / terms] = tensor_word(quads[s].v[c], quads[s].v[c + terms - 1]);
    }
  }
}

// sum [16, 8] += left [16, 8 words] * right [8, 8 words]^T, spread over the warp as mma.sync has it.
DEVICE void tensor_product(float (&sum)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
#ifdef MMA_EMULATED
  emulated_tensor_product<MMA_SEARCH>(sum, left, right);
#elif MMA_SEARCH == 1
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#endif
}

// A warp makes 32 x 32 products: 2 x 4 tensor products, four numbers a thread of each.
struct Products {
  float v[8][4];
};

DEVICE void multiply_slab(const float* slab, Products& sum) {
  const unsigned* words = reinterpret_cast<const unsigned*>(slab);
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
  const unsigned* left_rows = words + (warp / 2 * 32 + group) * SLAB_WORDS + place;
  const unsigned* right_rows = words + (tile_rows + warp % 2 * 32 + group) * SLAB_WORDS + place;
#pragma unroll
  for (int k = 0; k < SLAB / MMA_SEARCH; k += 8) {
    unsigned left[2][4], right[4][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned* from = left_rows + i * 16 * SLAB_WORDS + k;
      left[i][0] = from[0];
      left[i][1] = from[8 * SLAB_WORDS];
      left[i][2] = from[4];
      left[i][3] = from[8 * SLAB_WORDS + 4];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      right[j][0] = right_rows[j * 8 * SLAB_WORDS + k];
      right[j][1] = right_rows[j * 8 * SLAB_WORDS + k + 4];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        tensor_product(sum.v[i * 4 + j], left[i], right[j]);
      }
    }
  }
}

DEVICE void store_products(const Products& total, float* product) {
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float* to = product + (warp / 2 * 32 + i * 16 + group) * PRODUCT_STRIDE + warp % 2 * 32 + j * 8 + 2 * place;
      to[0] = total.v[i * 4 + j][0];
      to[1] = total.v[i * 4 + j][1];
      to[8 * PRODUCT_STRIDE] = total.v[i * 4 + j][2];
      to[8 * PRODUCT_STRIDE + 1] = total.v[i * 4 + j][3];
    }
  }
}

#endif

DEVICE void add_products(Products& total, Products& sum) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      total.v[i][j] += sum.v[i][j];
      sum.v[i][j] = 0;
    }
  }
}

// Two threads take a row of the tile (a column where `own` is the second side): its largest cosine raises the row's
// best, then what may be the nearest goes to the row's list. A cosine less its column's rounding is a lower bound but
// for an error that all of the row's share, a cosine plus it an upper bound.
DEVICE void offer(const Pass& pass, const PassMatrix& matrix, const TileRows& tile, const float* product, int own_side,
                  int own_first, int other_first, bool diagonal) {
  const int own = threadIdx.x / 2, own_place = own_side * tile_rows + own, other_side = 1 - own_side;
  const int own_step = own_side == 0 ? PRODUCT_STRIDE : 1, other_step = own_side == 0 ? 1 : PRODUCT_STRIDE;
  const float factor = tile.inverse[own_place];
  const auto cosine = [&](int other) {
    const float value = product[own * own_step + other * other_step] * factor * tile.inverse[other_side * tile_rows + other];
    return pass.half_space ? fabsf(value) : value;
  };
  const auto pairs_with = [&](int other) {
    return tile.inverse[other_side * tile_rows + other] > 0 && !(diagonal && own == other);
  };
  float lower = LOWEST_COSINE;
  if (factor > 0) {
    for (int other = threadIdx.x % 2; other < tile_rows; other += 2) {
      if (pairs_with(other)) {
        lower = fmaxf(lower, cosine(other) - tile.rounding[other_side * tile_rows + other]);
      }
    }
  }
  lower = fmaxf(lower, __shfl_xor_sync(FULL_WARP, lower, 1));
  if (!(lower > LOWEST_COSINE)) {
    return;
  }
  const long long row = matrix.first_row + own_first + own;
  // Both threads raise it: the second finds the first's.
  lower = fmaxf(lower, from_ordered(atomicMax(pass.best + row, ordered(lower))));
  const float threshold = lower - matrix.window - 2 * tile.rounding[own_place];
  for (int other = threadIdx.x % 2; other < tile_rows; other += 2) {
    if (!pairs_with(other)) {
      continue;
    }
    const float upper = cosine(other) + tile.rounding[other_side * tile_rows + other];
    if (upper >= threshold) {
      const int slot = atomicAdd(pass.counts + row, 1);
      if (slot < candidate_capacity) {
        const Candidate candidate = {other_first + other, upper};
        pass.candidates[row * candidate_capacity + slot] = candidate;
      }
    }
  }
}

#if MMA_SEARCH == 1
#define SEARCH_WORDS (2 * tile_rows * SLAB_WORDS)
#else
#define SEARCH_WORDS (tile_rows * PRODUCT_STRIDE)  // more than the slabs
#endif

KERNEL void __launch_bounds__(search_threads, 3) mma_search(Pass pass) {
  alignas(16) __shared__ float memory[SEARCH_WORDS];  // slabs, then products
  __shared__ TileRows tile;
  const PassMatrix matrix = pass.matrices[matrix_of_tile(pass, blockIdx.x)];
  int block_row, block_column;
  locate_tile((matrix.count + tile_rows - 1) / tile_rows, blockIdx.x - matrix.first_tile, &block_row, &block_column);
  const int first_row = block_row * tile_rows, first_column = block_column * tile_rows;
  load_tile_rows(pass, matrix, first_row, first_column, tile);
  __syncthreads();

  const bool aligned =
      matrix.dimension % 4 == 0 && reinterpret_cast<unsigned long long>(matrix.rows) % sizeof(RowFour) == 0;
  const int slabs = (matrix.dimension + SLAB - 1) / SLAB;
  Products total = {}, sum = {};
  Four quads[8];
  load_slab(matrix, tile, first_row, first_column, 0, aligned, quads);
  for (int s = 0; s < slabs; ++s) {
    store_slab(quads, memory);
    __syncthreads();
    if (s + 1 < slabs) {
      load_slab(matrix, tile, first_row, first_column, (s + 1) * SLAB, aligned, quads);
    }
    multiply_slab(memory, sum);
    __syncthreads();
    if ((s + 1) % SUM_SLABS == 0) {
      add_products(total, sum);
    }
  }
  add_products(total, sum);
  store_products(total, memory);
  __syncthreads();
  const bool diagonal = block_row == block_column;
  offer(pass, matrix, tile, memory, 0, first_row, first_column, diagonal);
  if (!diagonal) {
    offer(pass, matrix, tile, memory, 1, first_column, first_row, false);
  }
}

// 3. The nearest of the candidates by their exact angles: a warp a row, a block a row whose list was too short. --------

// |a - b| and |a + b| of the unit vectors of two rows in float64; the same bits for (a, b) and (b, a).
struct PairLengths {
  double difference, sum;
};

DEVICE PairLengths pair_lengths(const Row* first, double first_norm, const Row* second, double second_norm,
                                int dimension, int lane) {
  const double first_inverse = 1 / first_norm, second_inverse = 1 / second_norm;
  double difference = 0, sum = 0;
  for (int k = lane; k < dimension; k += 32) {
    const double a = real(first[k]) * first_inverse, b = real(second[k]) * second_inverse;
    difference += (a - b) * (a - b);
    sum += (a + b) * (a + b);
  }
  const PairLengths lengths = {sqrt(warp_sum(difference)), sqrt(warp_sum(sum))};
  return lengths;
}

DEVICE double angle_of(double difference, double sum) {
  return difference <= DUPLICATE ? 0 : sum <= DUPLICATE ? PI : 2 * atan2(difference, sum);
}

DEVICE double folded(const Pass& pass, double angle) {
  return pass.half_space && angle > PI / 2 ? PI - angle : angle;
}

// A row of the network with its matrix, as a warp or block works on it.
struct OwnRow {
  const PassMatrix* matrix;
  const Row* data;
  long long place;
  int index;
  double norm;
};

DEVICE OwnRow own_row(const Pass& pass, long long place) {
  OwnRow own;
  own.matrix = pass.matrices + matrix_of_row(pass, place);
  own.place = place;
  own.index = static_cast<int>(place - own.matrix->first_row);
  own.data = row_data(*own.matrix, own.index);
  own.norm = pass.norms[place];
  return own;
}

struct Choice {
  double angle;   // between the rows
  double folded;  // what decides
  int column;
};

DEVICE Choice no_choice() {
  const Choice none = {0, 8, 0x7fffffff};
  return none;
}

DEVICE void take_nearer(Choice& best, const Choice& other) {
  if (other.folded < best.folded || (other.folded == best.folded && other.column < best.column)) {
    best = other;
  }
}

DEVICE Choice choice_of(const Pass& pass, const OwnRow& own, int column, int lane) {
  const PairLengths lengths =
      pair_lengths(own.data, own.norm, row_data(*own.matrix, column), pass.norms[own.matrix->first_row + column],
                   own.matrix->dimension, lane);
  const double angle = angle_of(lengths.difference, lengths.sum);
  // Of a line's two ends neither is nearer: PI - angle would round.
  const bool obtuse = pass.half_space && lengths.sum < lengths.difference;
  const Choice choice = {angle, obtuse ? angle_of(lengths.sum, lengths.difference) : angle, column};
  return choice;
}

DEVICE float candidate_threshold(const Pass& pass, const OwnRow& own) {
  return from_ordered(pass.best[own.place]) - own.matrix->window - 2 * pass.rounding[own.place];
}

DEVICE Choice nearest_in_list(const Pass& pass, const OwnRow& own, int count, int lane) {
  const float threshold = candidate_threshold(pass, own);
  Candidate mine = {0, LOWEST_COSINE};
  if (lane < count) {
    mine = pass.candidates[own.place * candidate_capacity + lane];
  }
  Choice best = no_choice();
  for (unsigned left = __ballot_sync(FULL_WARP, mine.cosine >= threshold); left != 0; left &= left - 1) {
    const int column = __shfl_sync(FULL_WARP, mine.column, __ffs(static_cast<int>(left)) - 1);
    take_nearer(best, choice_of(pass, own, column, lane));
  }
  return best;
}

DEVICE Choice given_neighbour(const Pass& pass, const OwnRow& own, int lane) {
  const int column = pass.given[own.place];
  const bool pair = column >= 0 && column < own.matrix->count && column != own.index && takes_part(own.norm) &&
                    takes_part(pass.norms[own.matrix->first_row + column]);
  return pair ? choice_of(pass, own, column, lane) : no_choice();
}

DEVICE float scaled_dot(const Row* first, double first_norm, const Row* second, double second_norm, int dimension,
                        int lane) {
  const double first_power = power_scale(first_norm), second_power = power_scale(second_norm);
  const Real first_scale = static_cast<Real>(first_power), second_scale = static_cast<Real>(second_power);
  float sum = 0;
  for (int k = lane; k < dimension; k += 32) {
    sum = fmaf(static_cast<float>(real(first[k]) * first_scale), static_cast<float>(real(second[k]) * second_scale), sum);
  }
  return warp_sum(sum) * static_cast<float>(1 / (first_norm * first_power)) *
         static_cast<float>(1 / (second_norm * second_power));
}

// All columns again, a warp a column, against the best that the search found and then what is found here. Columns
// ascend, so the first exact duplicate settles the row.
DEVICE Choice nearest_by_scan(const Pass& pass, const OwnRow& own, int warp, int lane) {
  constexpr int warps = row_threads / 32;
  __shared__ Choice found[warps];
  __shared__ float best_cosine[warps];
  const PassMatrix& matrix = *own.matrix;
  float threshold = candidate_threshold(pass, own);
  Choice best = no_choice();
  for (int begin = 0; begin < matrix.count && best.folded > 0; begin += warps) {
    const int column = begin + warp;
    Choice mine = no_choice();
    float cosine = LOWEST_COSINE;
    if (column < matrix.count && column != own.index && takes_part(pass.norms[matrix.first_row + column])) {
      cosine = scaled_dot(own.data, own.norm, row_data(matrix, column), pass.norms[matrix.first_row + column],
                          matrix.dimension, lane);
      cosine = pass.half_space ? fabsf(cosine) : cosine;
      if (cosine >= threshold) {
        mine = choice_of(pass, own, column, lane);
      }
    }
    if (lane == 0) {
      found[warp] = mine;
      best_cosine[warp] = cosine;
    }
    __syncthreads();
    for (int w = 0; w < warps; ++w) {
      take_nearer(best, found[w]);
      threshold = fmaxf(threshold, best_cosine[w] - matrix.window);
    }
    __syncthreads();
  }
  return best;
}

DEVICE void write_choice(const Pass& pass, const OwnRow& own, const Choice& choice) {
  const bool none = choice.column == 0x7fffffff;
  pass.nearest[own.place] = none ? own.index : choice.column;
  pass.angles[own.place] = none ? 0.0 : choice.angle;
}

KERNEL void __launch_bounds__(row_threads) mma_decide(Pass pass) {
  constexpr int warps = row_threads / 32;
  __shared__ int too_many[warps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long first = static_cast<long long>(blockIdx.x) * warps, place = first + warp;
  bool scan = false;
  if (place < pass.rows) {
    const OwnRow own = own_row(pass, place);
    const int count = pass.given ? 0 : pass.counts[place];
    scan = count > candidate_capacity;
    if (!scan) {
      const Choice choice = pass.given ? given_neighbour(pass, own, lane) : nearest_in_list(pass, own, count, lane);
      if (lane == 0) {
        write_choice(pass, own, choice);
      }
    }
  }
  if (lane == 0) {
    too_many[warp] = scan;
  }
  __syncthreads();
  for (int w = 0; w < warps; ++w) {
    if (too_many[w]) {
      const OwnRow own = own_row(pass, first + w);
      const Choice choice = nearest_by_scan(pass, own, warp, lane);
      if (threadIdx.x == 0) {
        write_choice(pass, own, choice);
      }
    }
  }
}

// 4. A block a layer: what each row weighs, the layer's value and the slopes. --------------------------------------

// The sum over the block, by a fixed tree; every thread gets it.
DEVICE double block_sum(double value) {
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

DEVICE double usable_rows(const Pass& pass, const PassMatrix& matrix) {
  double count = 0;
  for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
    count += counts_as_row(pass.norms[matrix.first_row + r]) ? 1 : 0;
  }
  return block_sum(count);
}

DEVICE bool all_finite(const Pass& pass, const PassMatrix& matrix) {
  double bad = 0;
  for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
    bad += is_finite(pass.norms[matrix.first_row + r]) ? 0 : 1;
  }
  return block_sum(bad) == 0;
}

// The first row with the smallest angle.
DEVICE int closest_row(const Pass& pass, const PassMatrix& matrix) {
  __shared__ Choice parts[layer_threads];
  Choice best = no_choice();
  for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
    if (takes_part(pass.norms[matrix.first_row + r])) {
      const Choice choice = {0, folded(pass, pass.angles[matrix.first_row + r]), r};
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

// f and df/d(angle between the rows) of one row.
DEVICE double row_value(const Pass& pass, double angle) {
  const double theta = folded(pass, angle);
  return pass.cosine ? cos(theta) : -theta;
}
DEVICE double row_slope(const Pass& pass, double angle) {
  const double slope = pass.cosine ? -sin(folded(pass, angle)) : -1.0;
  return pass.half_space && angle > PI / 2 ? -slope : slope;
}

// The matrix's value; writes its slopes.
DEVICE double weigh_matrix(const Pass& pass, const PassMatrix& matrix, double usable, double factor) {
  const bool counted = usable >= 2;
  const double not_a_number = all_finite(pass, matrix) ? 0 : __longlong_as_double(0x7ff8000000000000ll);
  const int closest = pass.closest_only ? closest_row(pass, matrix) : 0;
  double value = 0;
  for (int r = threadIdx.x; r < matrix.count; r += layer_threads) {
    const long long place = matrix.first_row + r;
    const bool counts = counted && counts_as_row(pass.norms[place]) && (!pass.closest_only || r == closest);
    const double weight = counts ? (pass.closest_only ? 1.0 : 1.0 / usable) : 0.0;
    const double angle = pass.angles[place];
    value += counts ? row_value(pass, angle) * weight : 0.0;
    pass.slopes[place] = counts ? row_slope(pass, angle) * weight * factor + not_a_number : 0.0;
  }
  return counted ? block_sum(value) + not_a_number : 0.0 * block_sum(0.0);
}

KERNEL void __launch_bounds__(layer_threads) mma_layers(Pass pass) {
  const int layer = blockIdx.x, begin = pass.layer_begin[layer], end = pass.layer_begin[layer + 1];
  double counted = 0;
  for (int m = begin; m < end; ++m) {
    const double usable = usable_rows(pass, pass.matrices[m]);
    counted += usable >= 2 ? usable : 0;
  }
  double value = 0;
  for (int m = begin; m < end; ++m) {
    const double usable = usable_rows(pass, pass.matrices[m]);
    const double share = usable >= 2 ? usable / counted : 0;
    value += share * weigh_matrix(pass, pass.matrices[m], usable, pass.coefficients[layer] * share);
  }
  if (threadIdx.x == 0) {
    pass.layer_values[layer] = pass.coefficients[layer] * value;
  }
}

// 5. The sum over layers, one warp. --------------------------------------------------------------------------------

KERNEL void __launch_bounds__(32) mma_total(Pass pass) {
  double sum = 0;
  for (int layer = threadIdx.x; layer < pass.layer_count; layer += 32) {
    sum += pass.layer_values[layer];
  }
  sum = warp_sum(sum);
  if (threadIdx.x == 0) {
    *static_cast<Real*>(pass.value) = static_cast<Real>(sum);
  }
}

// 6. The gradient: a warp a row gathers from its nearest row and from those that chose it. --------------------------

// What the pair (row i, its nearest row j) adds: to row i first_unit a + other b, to row j second_unit b + other a, a
// and b unit vectors, each over its norm. Rows without a tangent part along one axis: parting_unit a and parting at
// the axis for row i, the same times mirror for row j.
struct PairTerms {
  double unit, other, parting, parting_unit, mirror;
  int axis;
};

DEVICE PairTerms pair_terms(const Pass& pass, const PassMatrix& matrix, int i) {
  PairTerms terms = {0, 0, 0, 0, -1, 0};
  const long long place = matrix.first_row + i;
  const int j = pass.nearest[place];
  const double weight = -pass.slopes[place], angle = pass.angles[place];
  if (j == i || weight == 0) {
    return terms;
  }
  const double difference = 2 * sin(angle / 2), sum = 2 * cos(angle / 2);
  if (difference > DUPLICATE && sum > DUPLICATE) {
    const double minus_cosine = difference <= sum ? difference * difference / 2 - 1 : 1 - sum * sum / 2;
    terms.other = weight / (difference * sum / 2);
    terms.unit = minus_cosine * terms.other;
    return terms;
  }
  const bool duplicates = difference <= DUPLICATE;
  const Row* row = row_data(matrix, i);
  const double inverse = 1 / pass.norms[place];
  const long long low = min(i, j), high = max(i, j);
  int axis = static_cast<int>((low * 73856093 + high * 19349663) % matrix.dimension);
  if (fabs(real(row[axis]) * inverse) > 0.9) {
    axis = (axis + 1) % matrix.dimension;
  }
  const double along = real(row[axis]) * inverse, rest = 1 - along * along;
  terms.axis = axis;
  if ((duplicates ? weight > 0 : weight < 0) && rest > 1e-12) {
    terms.parting = fabs(weight) * (i < j || !duplicates ? 1 : -1) / sqrt(rest);
    terms.parting_unit = -along * terms.parting;
    terms.mirror = duplicates ? -1 : 1;
  }
  return terms;
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
DEVICE Gathered gather_choosers(const Pass& pass, const PassMatrix& matrix, int index, int begin, int lane,
                                GradientTerms& terms) {
  Gathered gathered = {0, begin};
  const int* nearest = pass.nearest + matrix.first_row;
  __syncwarp();
  while (gathered.next < matrix.count) {
    const int i = gathered.next + lane;
    const bool chose = i < matrix.count && i != index && nearest[i] == index;
    const unsigned all = __ballot_sync(FULL_WARP, chose);
    if (gathered.count + __popc(all) > 32) {
      break;  // no room: the next batch begins with these
    }
    if (chose) {
      const int slot = gathered.count + __popc(all & ((1u << lane) - 1));
      const PairTerms theirs = pair_terms(pass, matrix, i);
      terms.row[slot] = i;
      terms.factor[slot] = (theirs.other + theirs.mirror * theirs.parting_unit) / pass.norms[matrix.first_row + i];
      terms.own[slot] = theirs.unit;
      terms.axis[slot] = theirs.axis;
      terms.amount[slot] = theirs.mirror * theirs.parting;
    }
    gathered.count += __popc(all);
    gathered.next += 32;
  }
  __syncwarp();
  return gathered;
}

DEVICE double gradient_factor(const GradientTargets& targets) {
  switch (targets.factor_type) {
    case 0: return targets.scale * *static_cast<const float*>(targets.factor);
    case 1: return targets.scale * *static_cast<const double*>(targets.factor);
    case 2: return targets.scale * float16_value(*static_cast<const unsigned short*>(targets.factor));
    case 3: return targets.scale * bfloat16_value(*static_cast<const unsigned short*>(targets.factor));
    default: return targets.scale;
  }
}

// Entries of a row that a lane sums at a time: independent loads hide one another's latency.
#define LANE_ENTRIES 4

DEVICE void add_terms(const PassMatrix& matrix, const OwnRow& own, const GradientTerms& terms, int count, int k_begin,
                      double (&sums)[LANE_ENTRIES]) {
  double own_unit = 0;
  for (int t = 0; t < count; ++t) {
    const Row* other = row_data(matrix, terms.row[t]);
#pragma unroll
    for (int e = 0; e < LANE_ENTRIES; ++e) {
      const int k = k_begin + 32 * e;
      if (k < matrix.dimension) {
        sums[e] += real(other[k]) * terms.factor[t];
        sums[e] += terms.axis[t] == k ? terms.amount[t] : 0.0;
      }
    }
    own_unit += terms.own[t];
  }
#pragma unroll
  for (int e = 0; e < LANE_ENTRIES; ++e) {
    const int k = k_begin + 32 * e;
    if (k < matrix.dimension) {
      sums[e] += real(own.data[k]) * (own_unit / own.norm);
    }
  }
}

// What the row's own pair adds.
DEVICE void add_own_terms(const Pass& pass, const PassMatrix& matrix, const OwnRow& own, const PairTerms& terms,
                          int k_begin, double (&sums)[LANE_ENTRIES]) {
  const int nearest = pass.nearest[own.place];
  const Row* other = row_data(matrix, nearest);
  const double other_factor = terms.other / pass.norms[matrix.first_row + nearest];
  const double own_factor = (terms.unit + terms.parting_unit) / own.norm;
#pragma unroll
  for (int e = 0; e < LANE_ENTRIES; ++e) {
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
  const PairTerms own_terms = pair_terms(pass, matrix, own.index);
  const Gathered first = gather_choosers(pass, matrix, own.index, 0, lane, terms);
  if (!has_pair && first.count == 0) {
    return;
  }
  const double factor = gradient_factor(targets) / own.norm;
  Row* gradient = static_cast<Row*>(targets.at[m - targets.first_matrix]) +
                  static_cast<long long>(own.index) * matrix.dimension;
  const bool one_batch = first.next >= matrix.count;
  for (int begin = 0; begin < matrix.dimension; begin += 32 * LANE_ENTRIES) {
    double sums[LANE_ENTRIES] = {};
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
    for (int e = 0; e < LANE_ENTRIES; ++e) {
      const int k = begin + lane + 32 * e;
      if (k < matrix.dimension) {
        gradient[k] = stored(real(gradient[k]) + sums[e] * factor);
      }
    }
  }
}
)mma";

/// The whole text for rows of one type and one search.
inline std::string source(int rows, int search) {
  return "#define MMA_ROWS " + std::to_string(rows) + "\n#define MMA_SEARCH " + std::to_string(search) +
         "\n#define KERNEL extern \"C\" __global__\n" + shared_source + kernel_source;
}

}  // namespace mma::detail::cuda
