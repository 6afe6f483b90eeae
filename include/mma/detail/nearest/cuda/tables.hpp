// What the kernels must know of a plan: its matrices one after another, and how a search's blocks share their tiles
// (kernels/schedule.hpp).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "../engine.hpp"
#include "kernels/arguments.hpp"

namespace mma::detail::nearest::cuda {

struct Tables {
  std::vector<PassMatrix> matrices;  ///< one more than there are, which ends them
  std::vector<int> layer_begin;
  int64_t rows = 0, units = 0, search_blocks = 0;
  bool has_waves = false;
};

inline int64_t tiles_of(const at::Tensor& rows) {
  const int64_t blocks = (rows.size(0) + tile_rows - 1) / tile_rows;
  return rows.size(1) > 0 ? blocks * (blocks + 1) / 2 : 0;
}

inline int64_t slabs_of(const at::Tensor& rows) { return (rows.size(1) + slab - 1) / slab; }

/// How many blocks the gradient of a matrix takes.
inline int64_t chunks_of(const at::Tensor& rows) {
  return rows.size(0) * ((rows.size(1) + gradient_chunk - 1) / gradient_chunk);
}

/// As many blocks as work at once, two a multiprocessor, and fewer where each would have next to nothing to do. For
/// float64, whose pieces of a tile's products are twice as large, one, so that these take the same memory.
inline int64_t search_blocks_for(const Plan& plan, at::ScalarType type, int64_t multiprocessors) {
  constexpr int64_t fewest_units = 4;
  int64_t units = 0;
  for (const Matrix& matrix : plan.matrices) {
    units += tiles_of(matrix.rows) * slabs_of(matrix.rows);
  }
  const int64_t at_once = multiprocessors * (type == at::kDouble ? 1 : 2);
  return units == 0 ? 0 : std::clamp<int64_t>(units / fewest_units, 1, at_once);
}

/// How many bits tell the rows of a matrix apart; all that a float32 cosine leaves.
inline int index_bits_for(at::ScalarType type, int64_t rows) {
  int bits = type == at::kDouble ? 0 : 32;
  while (bits < 32 && (int64_t{1} << bits) < rows) {
    ++bits;
  }
  return bits;
}

/// Bound on |computed - true| of the cosine that a warp computes. In units of half an epsilon of the type that rows are
/// computed in: a lane's sum loses one a term, the lanes' sum five (Higham, Accuracy and Stability of Numerical
/// Algorithms, section 3.1); eight more are the comparison's.
inline double dot_error_for(at::ScalarType type, int64_t dimension) {
  const double epsilon = type == at::kDouble ? std::numeric_limits<double>::epsilon()
                                             : static_cast<double>(std::numeric_limits<float>::epsilon());
  const int64_t terms_a_lane = dimension / 32 + 4;
  return 1.02 * static_cast<double>(terms_a_lane + 5 + 8) * epsilon / 2;
}

/// Of a plan's matrices, contiguous and of one type.
inline Tables tables_of(const Plan& plan, at::ScalarType type, int64_t multiprocessors) {
  Tables tables;
  tables.search_blocks = search_blocks_for(plan, type, multiprocessors);
  int64_t chunks = 0;
  for (const Matrix& matrix : plan.matrices) {
    const at::Tensor& rows = matrix.rows;
    if (matrix.layer == tables.layer_begin.size()) {
      tables.layer_begin.push_back(static_cast<int>(tables.matrices.size()));
    }
    const int64_t waves = tables.search_blocks > 0 ? tiles_of(rows) / tables.search_blocks : 0;
    tables.matrices.push_back({rows.const_data_ptr(), tables.rows, tables.units, chunks, waves,
                               static_cast<int>(rows.size(0)), static_cast<int>(rows.size(1)),
                               index_bits_for(type, rows.size(0)), static_cast<int>(matrix.layer),
                               dot_error_for(type, rows.size(1))});
    tables.rows += rows.size(0);
    tables.units += (tiles_of(rows) - waves * tables.search_blocks) * slabs_of(rows);
    tables.has_waves = tables.has_waves || waves > 0;
    chunks += chunks_of(rows);
  }
  tables.layer_begin.push_back(static_cast<int>(tables.matrices.size()));
  tables.matrices.push_back({nullptr, tables.rows, tables.units, chunks, 0, 0, 0, 0, 0, 0});
  TORCH_CHECK(chunks <= std::numeric_limits<int32_t>::max(), "mma: too many rows for one pass on a GPU.");
  return tables;
}

}  // namespace mma::detail::nearest::cuda
