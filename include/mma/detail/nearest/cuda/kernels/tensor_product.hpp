// A tile's products on tensor cores. A float32 entry is two float16, high + low, which hold 22 of its bits; of the four
// products of halves the three larger ones are made (the fourth is below 2^-22), for rows of half precision the one.
// Sums are float32, moved to a second sum every 128 terms, because the cores round towards zero: the cosine is as good
// as by float32 multiply-adds.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText tensor_product_text(__FILE__, __LINE__, R"mma(
#if MMA_TENSOR_CORES
  constexpr int halves = MMA_ROWS == 0 ? 2 : 1;
  constexpr int half_entries = 2 * tile_rows * slab;  // of one half of a slab of all 128 places
  constexpr int buffer_entries = halves * half_entries;
  constexpr int sum_slabs = 4;
  constexpr int tile_bytes = 2 * buffer_entries * 2 > product_bytes ? 2 * buffer_entries * 2 : product_bytes;

  // Entry k of a place: chunks of eight, in an order in which eight rows' same chunk meets no bank twice.
  inline int half_index(int half, int place, int k) {
    return half * half_entries + place * slab + ((k / 8) ^ (place / 2 % 4)) * 8 + k % 8;
  }

  struct alignas(8) FourHalves {
    unsigned first, second;
  };

  template <int begin, int end>
  inline void store_quads(const RowFour (&loaded)[quads], const SlabReader& reader, unsigned short* buffer) {
    const int k = 4 * (threadIdx.x % 8);
#pragma unroll
    for (int q = begin; q < end; ++q) {
      const int place = quad_place(q);
      float v[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        v[c] = real(loaded[q].v[c]) * reader.scales[q];
      }
      const FourHalves high = {two_halves(v[0], v[1]), two_halves(v[2], v[3])};
      *reinterpret_cast<FourHalves*>(buffer + half_index(0, place, k)) = high;
      if (halves == 2) {
        const FourHalves low = {two_halves(v[0] - first_half(high.first), v[1] - second_half(high.first)),
                                two_halves(v[2] - first_half(high.second), v[3] - second_half(high.second))};
        *reinterpret_cast<FourHalves*>(buffer + half_index(halves - 1, place, k)) = low;
      }
    }
  }

  inline void store_slab(const RowFour (&loaded)[quads], const SlabReader& reader, unsigned short* buffer) {
    store_quads<0, row_quads>(loaded, reader, buffer);
    if (!reader.diagonal) {
      store_quads<row_quads, quads>(loaded, reader, buffer);
    }
  }

  // A warp makes a quarter of the products, 32 x 32, as 2 x 4 of the cores' 16 x 8.
  struct Products {
    float v[2][4][4];
  };

  inline int warp_row() { return threadIdx.x / 64 * 32; }
  inline int warp_column() { return threadIdx.x / 32 % 2 * 32; }

  // Some quarter has no rows, or of the diagonal's two equal ones is the lower.
  inline bool has_products(const PassMatrix& matrix, const TilePlace& at) {
    return at.first_row + warp_row() < matrix.count && at.first_column + warp_column() < matrix.count &&
           !(at.diagonal && warp_row() > warp_column());
  }

  struct Fragments {
    unsigned left[2][4];   // of 16 rows each
    unsigned right[2][4];  // of 16 columns each
  };

  inline void load_fragments(const unsigned short* buffer, int half, int k, int columns, Fragments& fragments) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = warp_row() + 16 * i + lane % 16;
      load_matrices(buffer + half_index(half, row, k + lane / 16 * 8), fragments.left[i]);
      const int column = columns + warp_column() + 16 * i + lane % 8 + lane / 16 * 8;
      load_matrices(buffer + half_index(half, column, k + lane / 8 % 2 * 8), fragments.right[i]);
    }
  }

  inline void multiply_fragments(const unsigned (&left)[2][4], const unsigned (&right)[2][4], Products& sum) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        multiply_add(left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1], sum.v[i][j]);
      }
    }
  }

  inline void multiply_slab(const unsigned short* buffer, int columns, Products& sum) {
#pragma unroll
    for (int k = 0; k < slab; k += 16) {
      Fragments high;
      load_fragments(buffer, 0, k, columns, high);
      if (halves == 2) {
        Fragments low;
        load_fragments(buffer, halves - 1, k, columns, low);
        multiply_fragments(high.left, low.right, sum);
        multiply_fragments(low.left, high.right, sum);
      }
      multiply_fragments(high.left, high.right, sum);
    }
  }

  inline void add_products(Products& total, Products& sum) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          total.v[i][j][e] += sum.v[i][j][e];
          sum.v[i][j][e] = 0;
        }
      }
    }
  }

  inline void store_products(const Products& total, Real* products) {
    const int lane = threadIdx.x % 32, row = warp_row() + lane / 4, column = warp_column() + 2 * (lane % 4);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          products[(row + 16 * i + e / 2 * 8) * product_stride + column + 8 * j + e % 2] = total.v[i][j][e];
        }
      }
    }
  }

  // Three slabs are under way: one is multiplied from shared memory, the next one is written there, the one after that
  // is being read. The products are in shared memory when all threads are through.
  inline void multiply_tile(const Piece& piece, const TilePlace& at, const TileRows& tile, char* memory) {
    unsigned short* buffers = reinterpret_cast<unsigned short*>(memory);
    const bool multiplies = has_products(piece.matrix, at);
    Products total = {}, sum = {};
    const SlabReader reader = reader_of(piece.matrix, tile, at);
    RowFour loaded[quads];
    read_slab(reader, piece.slab_begin, loaded);
    store_slab(loaded, reader, buffers);
    if (piece.slab_begin + 1 < piece.slab_end) {
      read_slab(reader, piece.slab_begin + 1, loaded);
    }
    __syncthreads();
    for (int s = piece.slab_begin; s < piece.slab_end; ++s) {
      const int now = (s - piece.slab_begin) % 2;
      if (s + 1 < piece.slab_end) {
        store_slab(loaded, reader, buffers + (1 - now) * buffer_entries);
      }
      if (s + 2 < piece.slab_end) {
        read_slab(reader, s + 2, loaded);
      }
      if (multiplies) {
        multiply_slab(buffers + now * buffer_entries, column_side(at), sum);
        if ((s - piece.slab_begin + 1) % sum_slabs == 0) {
          add_products(total, sum);
        }
      }
      __syncthreads();
    }
    add_products(total, sum);
    store_products(total, reinterpret_cast<Real*>(memory));
    __syncthreads();
  }
#endif
)mma");

}  // namespace mma::detail::nearest::cuda
