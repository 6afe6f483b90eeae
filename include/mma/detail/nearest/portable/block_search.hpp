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
        known_(nothing_known(own.rows.size(0), own_.high.options())) {
    known_.select(1, 1).copy_(at::arange(own.first, own.first + own.rows.size(0), known_.options()));
  }

  void search_own() override { search(own_, first_, 0, own_.high.size(1), true); }

  at::Tensor search(const NumberedRows& block, int64_t begin, int64_t count) override {
    return search(split(block.rows), block.first, begin, count, false);
  }

  void take(const at::Tensor& known, int64_t begin) override {
    offer(known_.narrow(0, begin, known.size(0)), known.select(1, 0), known.select(1, 1));
  }

  int64_t known_numbers() const override { return 2; }
  int64_t begin_look() override { return 0; }
  void look_at_own() override {}
  void look(const NumberedRows&) override {}
  at::Tensor nearest() const override { return known_.select(1, 1).to(at::kLong); }

 private:
  /// [1, n, d], NaN for rows that take no part.
  static SplitRows split(const at::Tensor& rows) {
    const at::Tensor norms = rows::row_norms(rows);
    const at::Tensor takes_part = norms.isfinite().logical_and_(rows::usable_among(norms));
    const at::Tensor divisors = at::where(takes_part, norms, std::numeric_limits<double>::quiet_NaN());
    return SplitRows(rows.to(at::kDouble).div(divisors.unsqueeze(1)).unsqueeze(0));
  }

  /// [n, 2]: the distance to the nearest so far, and its number, which float64 holds exactly.
  static at::Tensor nothing_known(int64_t n, const at::TensorOptions& options) {
    return at::full({n, 2}, to_none, options);
  }

  /// The own rows [begin, begin + count) and others, numbered from `first` on; returns what is known of these.
  at::Tensor search(const SplitRows& others, int64_t first, int64_t begin, int64_t count, bool among_own) {
    const int64_t columns = others.high.size(1);
    at::Tensor theirs = nothing_known(among_own ? 0 : columns, known_.options());
    const int64_t step = std::max<int64_t>(1, tile_numbers(known_.device()) / std::max<int64_t>(1, columns));
    for (int64_t start = begin; columns > 0 && start < begin + count; start += step) {
      const int64_t rows = std::min(step, begin + count - start);
      const at::Tensor tile = decide(own_.half_squares(start, rows, others, half_space_), duplicate_).squeeze(0);
      if (among_own) tile.diagonal(start).fill_(to_none);
      const auto [distance, column] = tile.min(1);
      offer(known_.narrow(0, start, rows), distance, column + first);
      if (among_own) continue;
      const auto [column_distance, row] = tile.min(0);
      offer(theirs, column_distance, row + (first_ + start));
    }
    return theirs;
  }

  /// Of equally near ones the lowest stays.
  static void offer(const at::Tensor& known, const at::Tensor& distance, const at::Tensor& index) {
    const at::Tensor best = known.select(1, 0), its = known.select(1, 1);
    const at::Tensor equal = (distance == best).logical_and_(index < its).logical_and_(distance < to_itself);
    const at::Tensor better = (distance < best).logical_or_(equal);
    its.copy_(at::where(better, index.to(its.scalar_type()), its));
    best.copy_(at::where(better, distance, best));
  }

  int64_t first_;
  bool half_space_;
  double duplicate_;
  SplitRows own_;
  at::Tensor known_;  ///< of the own rows
};

}  // namespace mma::detail::nearest::portable
