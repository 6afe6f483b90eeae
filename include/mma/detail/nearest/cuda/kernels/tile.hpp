// A tile of the search: 64 rows and 64 columns of one matrix, scaled so that no product leaves the range, read slab by
// slab into registers; and the 64 x 64 products that come of it in shared memory.
#pragma once

#include "text.hpp"

namespace mma::detail::nearest::cuda {

inline constexpr KernelText tile_text(__FILE__, __LINE__, R"mma(
  constexpr int product_stride = tile_rows + 1;
  constexpr int product_bytes = tile_rows * product_stride * static_cast<int>(sizeof(Real));

  // Rows are brought to this length, up to twice: far from the ends of a float's range; as halves of float16, whose
  // range ends at 2^16, the smaller half then still has all its bits.
#if MMA_ROWS == 1
  constexpr double tile_length = 1;
#else
  constexpr double tile_length = 16384;
#endif

  // The tile's 64 rows and then its 64 columns: place 0 to 127.
  struct TileRows {
    Real scale[2 * tile_rows];    // a power of two
    Real inverse[2 * tile_rows];  // 1 over the scaled row's length; 0 for rows that take no part
  };

  struct TilePlace {
    int first_row;
    int first_column;
    bool diagonal;
  };

  inline TilePlace place_of(const Piece& piece) {
    int block_row, block_column;
    locate_tile((piece.matrix.count + tile_rows - 1) / tile_rows, piece.tile, &block_row, &block_column);
    const TilePlace place = {block_row * tile_rows, block_column * tile_rows, block_row == block_column};
    return place;
  }

  inline int tile_row(const TilePlace& at, int place) {
    return place < tile_rows ? at.first_row + place : at.first_column + place - tile_rows;
  }

  // The smallest rows' would be beyond a float's range; a little less does.
  inline double tile_scale(double norm) { return fmin(power_scale(norm) * tile_length, 1.7014118346046923e38); }

  inline void load_tile_rows(const Pass& pass, const PassMatrix& matrix, const TilePlace& at, TileRows& tile) {
    const int place = threadIdx.x, row = tile_row(at, place);
    const double norm = row < matrix.count ? pass.norms[matrix.first_row + row] : 0.0;
    const bool part = takes_part(norm);
    const double scale = part ? tile_scale(norm) : 0.0;
    tile.scale[place] = static_cast<Real>(scale);
    tile.inverse[place] = part ? static_cast<Real>(1 / (norm * scale)) : Real(0);
  }

  // Eight quads of a slab a thread, eight neighbouring threads a row.
  constexpr int quads = 8;

  inline int quad_place(int quad) { return threadIdx.x / 8 + 16 * quad; }

  // The first four are of the tile's rows, the others of its columns: of a tile on the diagonal these are the same
  // ones, which are read once.
  constexpr int row_quads = quads / 2;

  // Where a thread's quads of each slab are. Of rows that are not there others are read, of rows that take no part
  // whatever is in them: their products are not looked at.
  struct SlabReader {
    const Row* rows[quads];
    Real scales[quads];
    int dimension;
    bool aligned;
    bool diagonal;
  };

  inline SlabReader reader_of(const PassMatrix& matrix, const TileRows& tile, const TilePlace& at) {
    SlabReader reader;
    reader.dimension = matrix.dimension;
    reader.aligned = is_aligned(matrix);
    reader.diagonal = at.diagonal;
#pragma unroll
    for (int q = 0; q < quads; ++q) {
      const int place = quad_place(q);
      reader.rows[q] = row_data(matrix, min(tile_row(at, place), matrix.count - 1));
      reader.scales[q] = tile.scale[place];
    }
    return reader;
  }

  template <int begin, int end>
  inline void read_quads(const SlabReader& reader, int k, RowFour (&loaded)[quads]) {
    if (!reader.aligned || k >= reader.dimension) {
#pragma unroll
      for (int q = begin; q < end; ++q) {
        loaded[q] = load_four(reader.rows[q], k, reader.dimension, false);
      }
      return;
    }
#pragma unroll
    for (int q = begin; q < end; ++q) {
      loaded[q] = *reinterpret_cast<const RowFour*>(reader.rows[q] + k);
    }
  }

  inline void read_slab(const SlabReader& reader, int which, RowFour (&loaded)[quads]) {
    const int k = which * slab + 4 * (threadIdx.x % 8);
    read_quads<0, row_quads>(reader, k, loaded);
    if (!reader.diagonal) {
      read_quads<row_quads, quads>(reader, k, loaded);
    }
  }

  // Where the columns' slab is in shared memory, counted in places.
  inline int column_side(const TilePlace& at) { return at.diagonal ? 0 : tile_rows; }
)mma");

}  // namespace mma::detail::nearest::cuda
