// A tile's products by multiply-adds in the rows' own type: for float64, and for GPUs without the tensor cores that
// tensor_product.hpp asks for.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText plain_product_text(__FILE__, __LINE__, R"mma(
#if !MMA_TENSOR_CORES
  constexpr int sum_slabs = 16;  // of float32, summed before their sum is added to the total: blocks of 512 terms
  constexpr int tile_bytes = product_bytes;

  struct alignas(4 * sizeof(Real)) Four {
    Real v[4];
  };

  // Term k of place p lies at [side][k][p ^ swizzle(k)]: stores of a warp and loads of four places meet no bank twice.
  inline int slab_index(int side, int k, int place) { return (side * slab + k) * tile_rows + (place ^ (k / 4 * 4)); }

  inline void store_slab(const RowFour (&loaded)[quads], const SlabReader& reader, Real* memory) {
    const int k = 4 * (threadIdx.x % 8);
#pragma unroll
    for (int q = 0; q < quads; ++q) {
      if (q >= row_quads && reader.diagonal) {
        break;
      }
      const int place = quad_place(q);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        memory[slab_index(q / 4, k + c, place % tile_rows)] = real(loaded[q].v[c]) * reader.scales[q];
      }
    }
  }

  // A thread makes 8 x 4 products: rows 4 y to 4 y + 3 and 32 more than those, columns 4 x to 4 x + 3.
  struct Products {
    Real v[8][4];
  };

  inline int product_row(int i) { return 4 * (threadIdx.x / 16) + i % 4 + 32 * (i / 4); }

  inline void multiply_slab(const Real* memory, int columns, Products& sum) {
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll 4
    for (int k = 0; k < slab; ++k) {
      const Four low = *reinterpret_cast<const Four*>(memory + slab_index(0, k, 4 * y));
      const Four high = *reinterpret_cast<const Four*>(memory + slab_index(0, k, 32 + 4 * y));
      const Four right = *reinterpret_cast<const Four*>(memory + slab_index(columns / tile_rows, k, 4 * x));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sum.v[i][j] = fused(low.v[i], right.v[j], sum.v[i][j]);
          sum.v[i + 4][j] = fused(high.v[i], right.v[j], sum.v[i + 4][j]);
        }
      }
    }
  }

  inline void add_products(Products& total, Products& sum) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        total.v[i][j] += sum.v[i][j];
        sum.v[i][j] = 0;
      }
    }
  }

  inline void store_products(const Products& total, Real* products) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        products[product_row(i) * product_stride + 4 * (threadIdx.x % 16) + j] = total.v[i][j];
      }
    }
  }

  // The next slab is being read while one is multiplied. The products are in shared memory when all threads are
  // through.
  inline void multiply_tile(const Piece& piece, const TilePlace& at, const TileRows& tile, char* bytes) {
    Real* memory = reinterpret_cast<Real*>(bytes);
    Products total = {}, sum = {};
    const SlabReader reader = reader_of(piece.matrix, tile, at);
    RowFour loaded[quads];
    read_slab(reader, piece.slab_begin, loaded);
    for (int s = piece.slab_begin; s < piece.slab_end; ++s) {
      store_slab(loaded, reader, memory);
      __syncthreads();
      if (s + 1 < piece.slab_end) {
        read_slab(reader, s + 1, loaded);
      }
      multiply_slab(memory, column_side(at), sum);
      __syncthreads();
      if (MMA_ROWS != 1 && (s - piece.slab_begin + 1) % sum_slabs == 0) {
        add_products(total, sum);
      }
    }
    add_products(total, sum);
    store_products(total, memory);
    __syncthreads();
  }
#endif
)mma");

}  // namespace mma::detail::nearest::cuda
