// The second kernel: each row's largest cosine among its matrix's rows, a block a tile of the upper triangle of all
// products. One winner a row, kept by atomicMax, so that its cost does not depend on the weights and its result not on
// the order of the blocks.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

/// Stands before the kernels: what the norms set, the search raises and decide reads.
inline constexpr KernelText winner_text(__FILE__, __LINE__, R"mma(
  // A cosine and its column in one number: of two the larger is the larger cosine, on equal cosines the lower column.
  // The column is in the lower index_bits, inverted. Above it:
  // - for cosines in float32 their bits, ordered as integers are (index_bits 32);
  // - for cosines in float64 a fixed point of 64 - index_bits bits: cosine + 2 in steps of 2^(index_bits - 62). A
  // matrix
  //   that a pass takes has less than 2^22 rows, so a step is 2^-40 at most; at pairs::near_angle, below which the
  //   winner does not decide, that is 1e-11 rad: it meets the 1e-9 rad that are promised.
  typedef unsigned long long Winner;
  constexpr Winner no_winner = 0;

  inline Winner rank_of(float cosine, int) {
    const unsigned bits = static_cast<unsigned>(__float_as_int(cosine + 0.0f));  // -0 is 0
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  }
  inline Winner rank_of(double cosine, int index_bits) {
    const double fixed_point = ldexp(cosine + 2, 62 - index_bits);
    return static_cast<Winner>(fixed_point);
  }

  inline Winner columns_mask(int index_bits) { return (1ull << index_bits) - 1; }

  inline Winner winner_of(Real cosine, int column, int index_bits) {
    return rank_of(cosine, index_bits) << index_bits | (~static_cast<Winner>(column) & columns_mask(index_bits));
  }

  inline int column_of(Winner winner, int index_bits) { return static_cast<int>(~winner & columns_mask(index_bits)); }
)mma");

inline constexpr KernelText search_text(__FILE__, __LINE__, R"mma(
  constexpr int strip_blocks = 16;
  constexpr int slab = 32;       // terms of the product that are in shared memory at a time
  constexpr int sum_slabs = 16;  // slabs summed before their sum is added to the total: blocks of 512 terms
  constexpr int product_stride = tile_rows + 1;
  constexpr int search_blocks = MMA_ROWS == 1 ? 2 : 3;  // on a multiprocessor, which bounds the registers

  struct alignas(16) Four {
    Real v[4];
  };
  struct alignas(4 * sizeof(Row)) RowFour {
    Row v[4];
  };

  inline int matrix_of_tile(const Pass& pass, long long tile) {
    int low = 0, high = pass.matrix_count;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (pass.matrices[middle].first_tile <= tile ? low : high) = middle;
    }
    return low;
  }

  // Strips of 16 block rows, column by column, so that tiles worked on at the same time share their rows in the cache.
  inline void locate_tile(int blocks, long long index, int* block_row, int* block_column) {
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
    Real scale[2 * tile_rows];    // power of two that brings the row's length into [1, 2)
    Real inverse[2 * tile_rows];  // 1 over the length then; 0 for rows that take no part
  };

  inline int tile_row(int place, int first_row, int first_column) {
    return place < tile_rows ? first_row + place : first_column + place - tile_rows;
  }

  inline void load_tile_rows(const Pass& pass, const PassMatrix& matrix, int first_row, int first_column,
                             TileRows& tile) {
    const int place = threadIdx.x, row = tile_row(place, first_row, first_column);
    const double norm = row < matrix.count ? pass.norms[matrix.first_row + row] : 0.0;
    const bool part = takes_part(norm);
    const double scale = part ? power_scale(norm) : 0.0;
    tile.scale[place] = static_cast<Real>(scale);
    tile.inverse[place] = part ? static_cast<Real>(1 / (norm * scale)) : Real(0);
  }

  // Eight quads of a slab a thread, eight neighbouring threads a row.
  inline void load_slab(const PassMatrix& matrix, const TileRows& tile, int first_row, int first_column, int k_begin,
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
        quads[s].v[c] = real(loaded.v[c]) * tile.scale[place];
      }
    }
  }

  // Term k of place p lies at [side][k][p ^ swizzle(k)]: stores of a warp and loads of four places meet no bank twice.
  inline int slab_index(int side, int k, int place) { return (side * slab + k) * tile_rows + (place ^ (k / 4 * 4)); }

  inline void store_slab(const Four (&quads)[8], Real* memory) {
    const int quad = threadIdx.x % 8;
#pragma unroll
    for (int s = 0; s < 8; ++s) {
      const int place = (threadIdx.x / 8 + 16 * s) % tile_rows;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        memory[slab_index(s / 4, 4 * quad + c, place)] = quads[s].v[c];
      }
    }
  }

  // A thread makes 8 x 4 products: rows 4 y to 4 y + 3 and 32 more than those, columns 4 x to 4 x + 3.
  struct Products {
    Real v[8][4];
  };

  inline int product_row(int i) { return 4 * (threadIdx.x / 16) + i % 4 + 32 * (i / 4); }

  inline void multiply_slab(const Real* memory, Products& sum) {
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll 4
    for (int k = 0; k < slab; ++k) {
      const Four low = *reinterpret_cast<const Four*>(memory + slab_index(0, k, 4 * y));
      const Four high = *reinterpret_cast<const Four*>(memory + slab_index(0, k, 32 + 4 * y));
      const Four right = *reinterpret_cast<const Four*>(memory + slab_index(1, k, 4 * x));
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

  inline void store_products(const Products& total, Real* memory) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        memory[product_row(i) * product_stride + 4 * (threadIdx.x % 16) + j] = total.v[i][j];
      }
    }
  }

  // Two threads take a row of the tile (a column where `own_side` is the second): the tile's winner raises the row's.
  inline void offer(const Pass& pass, const PassMatrix& matrix, const TileRows& tile, const Real* product, int own_side,
                    int own_first, int other_first, bool diagonal) {
    const int own = threadIdx.x / 2;
    const int own_step = own_side == 0 ? product_stride : 1, other_step = own_side == 0 ? 1 : product_stride;
    const Real own_inverse = tile.inverse[own_side * tile_rows + own];
    const Real* other_inverse = tile.inverse + (1 - own_side) * tile_rows;
    Winner winner = no_winner;
    if (own_inverse > 0) {
      for (int other = threadIdx.x % 2; other < tile_rows; other += 2) {
        if (other_inverse[other] > 0 && !(diagonal && own == other)) {
          const Real cosine = product[own * own_step + other * other_step] * (own_inverse * other_inverse[other]);
          const Real deciding = pass.objective.half_space && cosine < 0 ? -cosine : cosine;
          winner = max(winner, winner_of(deciding, other_first + other, matrix.index_bits));
        }
      }
    }
    winner = max(winner, __shfl_xor_sync(full_warp, winner, 1));
    if (winner != no_winner && threadIdx.x % 2 == 0) {
      atomicMax(pass.winners + matrix.first_row + own_first + own, winner);
    }
  }

  KERNEL void __launch_bounds__(search_threads, search_blocks) mma_search(Pass pass) {
    alignas(16) __shared__ Real memory[tile_rows * product_stride];  // slabs, then products
    __shared__ TileRows tile;
    const PassMatrix matrix = pass.matrices[matrix_of_tile(pass, blockIdx.x)];
    int block_row, block_column;
    locate_tile((matrix.count + tile_rows - 1) / tile_rows, blockIdx.x - matrix.first_tile, &block_row, &block_column);
    const int first_row = block_row * tile_rows, first_column = block_column * tile_rows;
    load_tile_rows(pass, matrix, first_row, first_column, tile);
    __syncthreads();

    const bool aligned =
        matrix.dimension % 4 == 0 && reinterpret_cast<unsigned long long>(matrix.rows) % sizeof(RowFour) == 0;
    const int slabs = (matrix.dimension + slab - 1) / slab;
    Products total = {}, sum = {};
    Four quads[8];
    load_slab(matrix, tile, first_row, first_column, 0, aligned, quads);
    for (int s = 0; s < slabs; ++s) {
      store_slab(quads, memory);
      __syncthreads();
      if (s + 1 < slabs) {
        load_slab(matrix, tile, first_row, first_column, (s + 1) * slab, aligned, quads);
      }
      multiply_slab(memory, sum);
      __syncthreads();
      if ((s + 1) % sum_slabs == 0) {
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
)mma");

}  // namespace mma::detail::nearest::cuda
