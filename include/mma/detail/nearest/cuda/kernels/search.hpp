// The second kernel: each row's largest cosine among its matrix's rows, over the tiles of the upper triangle of all
// products. One winner a row, kept by atomicMax, so that its cost does not depend on the weights and its result not on
// the order of the blocks.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText search_text(__FILE__, __LINE__, R"mma(
  constexpr int piece_products = tile_rows * tile_rows;

  // Of a tile's pieces the one that a block has made: its first, of a tile that begins before its stretch, or its last.
  inline Real* piece_memory(const Pass& pass, int block, bool of_an_earlier_tile) {
    return static_cast<Real*>(pass.pieces) +
           (2 * static_cast<long long>(block) + (of_an_earlier_tile ? 0 : 1)) * piece_products;
  }

  // Whether all the tile's pieces are made, by this block as the last one; then their sum, in the order of the blocks,
  // is in `products`.
  inline bool completes_tile(const Pass& pass, const Piece& piece, Real* products) {
    if (piece.first_block == piece.last_block) {
      return true;
    }
    __shared__ int arrived_before;
    Real* own = piece_memory(pass, blockIdx.x, piece.first_block != static_cast<int>(blockIdx.x));
    for (int p = threadIdx.x; p < piece_products; p += search_threads) {
      own[p] = products[p / tile_rows * product_stride + p % tile_rows];
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      arrived_before = atomicAdd(pass.arrived + piece.first_block, 1);
    }
    __syncthreads();
    if (arrived_before != piece.last_block - piece.first_block) {
      return false;
    }
    __threadfence();
    for (int p = threadIdx.x; p < piece_products; p += search_threads) {
      Real sum = 0;
      for (int block = piece.first_block; block <= piece.last_block; ++block) {
        const volatile Real* part = piece_memory(pass, block, block != piece.first_block);
        sum += part[p];
      }
      products[p / tile_rows * product_stride + p % tile_rows] = sum;
    }
    if (threadIdx.x == 0) {
      pass.arrived[piece.first_block] = 0;  // for the next pass
    }
    __syncthreads();
    return true;
  }

  // Two threads take a row of the tile (a column where `own_side` is the second): the tile's winner raises the row's.
  // Of the diagonal's two equal products the upper one is read.
  inline void offer(const Pass& pass, const PassMatrix& matrix, const TileRows& tile, const Real* products,
                    int own_side, int own_first, int other_first, bool diagonal) {
    const int own = threadIdx.x / 2;
    const Real own_inverse = tile.inverse[own_side * tile_rows + own];
    const Real* other_inverse = tile.inverse + (1 - own_side) * tile_rows;
    Winner winner = no_winner;
    if (own_inverse > 0) {
      for (int other = threadIdx.x % 2; other < tile_rows; other += 2) {
        if (other_inverse[other] > 0 && !(diagonal && own == other)) {
          const bool own_is_row = diagonal ? own < other : own_side == 0;
          const Real product =
              own_is_row ? products[own * product_stride + other] : products[other * product_stride + own];
          const Real cosine = product * (own_inverse * other_inverse[other]);
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

  inline void search_piece(const Pass& pass, const Piece& piece, TileRows& tile, char* memory) {
    const TilePlace at = place_of(piece);
    __syncthreads();  // the piece before is through
    load_tile_rows(pass, piece.matrix, at, tile);
    __syncthreads();
    multiply_tile(piece, at, tile, memory);
    Real* products = reinterpret_cast<Real*>(memory);
    if (completes_tile(pass, piece, products)) {
      offer(pass, piece.matrix, tile, products, 0, at.first_row, at.first_column, at.diagonal);
      if (!at.diagonal) {
        offer(pass, piece.matrix, tile, products, 1, at.first_column, at.first_row, false);
      }
    }
  }

  KERNEL void __launch_bounds__(search_threads, 2) mma_search(Pass pass) {
    alignas(16) __shared__ char memory[tile_bytes];
    __shared__ TileRows tile;
    for (int m = 0; pass.has_waves && m < pass.matrix_count; ++m) {
      for (long long wave = 0; wave < pass.matrices[m].waves; ++wave) {
        search_piece(pass, whole_tile(pass, pass.matrices[m], wave, blockIdx.x), tile, memory);
      }
    }
    const long long end = stretch_begin(pass, blockIdx.x + 1);
    for (long long unit = stretch_begin(pass, blockIdx.x); unit < end;) {
      const Piece piece = piece_from(pass, unit, end);
      search_piece(pass, piece, tile, memory);
      unit = piece.tile_begin + piece.slab_end;
    }
  }
)mma");

}  // namespace mma::detail::nearest::cuda
