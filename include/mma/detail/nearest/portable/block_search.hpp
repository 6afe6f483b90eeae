// A search whose columns come by in blocks, in LibTorch's operations on any device: the distances of
// portable/search.hpp, so exact that no row looks again, in tiles.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/min.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "../../pairs/lists.hpp"
#include "../../rows/norms.hpp"
#include "../block_search.hpp"
#include "batches.hpp"
#include "search.hpp"

namespace mma::detail::nearest::portable {

class BlockSearch final : public nearest::BlockSearch {
 public:
  BlockSearch(const NumberedRows& own, bool half_space)
      : first_(own.first),
        half_space_(half_space),
        duplicate_(pairs::duplicate_distance(own.rows.scalar_type())),
        own_(split(own.rows)),
        distances_(at::full({own.rows.size(0)}, to_none, own_.high.options())),
        nearest_(at::arange(own.first, own.first + own.rows.size(0), own.rows.options().dtype(at::kLong))) {}

  void search_own() override { search(own_, first_, true); }
  void search(const NumberedRows& block) override { search(split(block.rows), block.first, false); }
  int64_t begin_look() override { return 0; }
  void look_at_own() override {}
  void look(const NumberedRows&) override {}
  at::Tensor nearest() const override { return nearest_; }

 private:
  /// [1, n, d], NaN for rows that take no part.
  static SplitRows split(const at::Tensor& rows) {
    const at::Tensor norms = rows::row_norms(rows);
    const at::Tensor takes_part = norms.isfinite().logical_and_(rows::usable_among(norms));
    const at::Tensor divisors = at::where(takes_part, norms, std::numeric_limits<double>::quiet_NaN());
    return SplitRows(rows.to(at::kDouble).div(divisors.unsqueeze(1)).unsqueeze(0));
  }

  void search(const SplitRows& others, int64_t first, bool among_own) {
    const int64_t n = distances_.size(0), columns = others.high.size(1);
    if (columns == 0) return;
    const int64_t step = std::max<int64_t>(1, tile_numbers(distances_.device()) / columns);
    for (int64_t start = 0; start < n; start += step) {
      const int64_t count = std::min(step, n - start);
      const at::Tensor tile = decide(own_.half_squares(start, count, others, half_space_), duplicate_).squeeze(0);
      if (among_own) tile.diagonal(start).fill_(to_none);
      auto [distance, index] = tile.min(1);
      offer(start, distance, index.add_(first));
    }
  }

  /// Of equally near ones the lowest stays.
  void offer(int64_t start, const at::Tensor& distance, const at::Tensor& index) {
    at::Tensor best = distances_.narrow(0, start, distance.size(0)), its = nearest_.narrow(0, start, distance.size(0));
    const at::Tensor equal = (distance == best).logical_and_(index < its).logical_and_(distance < to_itself);
    const at::Tensor better = (distance < best).logical_or_(equal);
    its.copy_(at::where(better, index, its));
    best.copy_(at::where(better, distance, best));
  }

  int64_t first_;
  bool half_space_;
  double duplicate_;
  SplitRows own_;
  at::Tensor distances_;  ///< [n] float64, to the nearest so far
  at::Tensor nearest_;    ///< [n] int64
};

}  // namespace mma::detail::nearest::portable
