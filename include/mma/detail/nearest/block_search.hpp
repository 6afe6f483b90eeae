// The contract of a search whose columns come by in blocks, for rows that lie on several processes: own rows in, blocks
// of other rows one after the other, the nearest of all to each own row out. A cosine serves both its rows: what the
// own rows are to a block's goes back to the process that has these. What near ties mean is engine.hpp's; an index is
// the row's number among all rows of all processes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mma::detail::nearest {

/// Rows [m, d] and the number of the first of them among all.
struct NumberedRows {
  at::Tensor rows;  ///< contiguous, float32 or float64, without a graph
  int64_t first = 0;
};

/// Over own rows that stay as they are. Blocks may come in any order; no two rows meet twice.
class BlockSearch {
 public:
  virtual ~BlockSearch() = default;

  /// Among the own rows themselves.
  virtual void search_own() = 0;

  /// The own rows [begin, begin + count) and a block's [m, d], each among the other's. Returns what is known now of the
  /// block's rows, [m, ...] float64: for take() where they are own rows.
  virtual at::Tensor search(const NumberedRows& block, int64_t begin, int64_t count) = 0;

  /// What another process knows of the own rows from `begin` on.
  virtual void take(const at::Tensor& known, int64_t begin) = 0;
  virtual int64_t known_numbers() const = 0;  ///< of a row in `known`

  /// After all of that: how many own rows have to look at all rows again, in float64.
  virtual int64_t begin_look() = 0;

  /// The same way again, after begin_look().
  virtual void look_at_own() = 0;
  virtual void look(const NumberedRows& block) = 0;

  /// [n] int64 on the rows' device; a row without another has its own.
  virtual at::Tensor nearest() const = 0;
};

}  // namespace mma::detail::nearest
