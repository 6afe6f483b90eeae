// How the search's blocks share its work, whatever the number and the shapes of the matrices: each takes the same
// number of units. A unit is one slab of one tile: 32 terms of the products of 64 rows with 64 rows.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText schedule_text(__FILE__, __LINE__, R"mma(
  // A matrix with more tiles than there are blocks gives each block `waves` whole ones, so that tiles worked on at the
  // same time are neighbours and share their rows in the cache. The units of all other tiles lie in one row, of which
  // each block takes an equal stretch: the tiles inside it whole, of those at its ends a piece of the sum.
  inline int slabs_of(const PassMatrix& matrix) { return (matrix.dimension + slab - 1) / slab; }

  inline long long stretch_begin(const Pass& pass, long long block) { return block * pass.units / pass.search_blocks; }

  // The block in whose stretch a unit lies: the last that begins at or before it.
  inline int block_of_unit(const Pass& pass, long long unit) {
    return static_cast<int>(((unit + 1) * pass.search_blocks + pass.units - 1) / pass.units - 1);
  }

  // Some slabs of a tile. tile_begin: the tile's first unit; first_block to last_block have pieces of it.
  struct Piece {
    PassMatrix matrix;
    long long tile;
    long long tile_begin;
    int slab_begin;
    int slab_end;
    int first_block;
    int last_block;
  };

  inline Piece whole_tile(const Pass& pass, const PassMatrix& matrix, long long wave, int block) {
    const Piece piece = {matrix, wave * pass.search_blocks + block, 0, 0, slabs_of(matrix), block, block};
    return piece;
  }

  // From a unit to the end of its tile or of the block's stretch.
  inline Piece piece_from(const Pass& pass, long long unit, long long stretch_end) {
    Piece piece;
    piece.matrix = pass.matrices[matrix_of(pass, &PassMatrix::first_unit, unit)];
    const int slabs = slabs_of(piece.matrix);
    const long long tile = (unit - piece.matrix.first_unit) / slabs;
    piece.tile = piece.matrix.waves * pass.search_blocks + tile;
    piece.tile_begin = piece.matrix.first_unit + tile * slabs;
    piece.slab_begin = static_cast<int>(unit - piece.tile_begin);
    piece.slab_end = static_cast<int>(min(stretch_end - piece.tile_begin, static_cast<long long>(slabs)));
    piece.first_block = block_of_unit(pass, piece.tile_begin);
    piece.last_block = block_of_unit(pass, piece.tile_begin + slabs - 1);
    return piece;
  }

  constexpr int strip_blocks = 16;

  // The rows and columns, in blocks of 64, of a tile of the upper triangle: strips of 16 block rows, column by column.
  inline void locate_tile(long long blocks, long long index, int* block_row, int* block_column) {
    long long first = 0, height, triangle;
    while (true) {
      height = min(static_cast<long long>(strip_blocks), blocks - first);
      triangle = height * (height + 1) / 2;
      const long long size = triangle + height * (blocks - first - height);
      if (index < size) {
        break;
      }
      index -= size;
      first += height;
    }
    if (index >= triangle) {
      *block_row = static_cast<int>(first + (index - triangle) % height);
      *block_column = static_cast<int>(first + height + (index - triangle) / height);
      return;
    }
    int column = 0;
    for (; index > column; ++column) {
      index -= column + 1;
    }
    *block_row = static_cast<int>(first + index);
    *block_column = static_cast<int>(first + column);
  }
)mma");

}  // namespace mma::detail::nearest::cuda
