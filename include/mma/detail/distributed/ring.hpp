// Every process's rows past the others, in blocks round the ring: while a block is looked at, it goes on to the next
// process and another comes. Two blocks are held beside the own rows.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "communication.hpp"
#include "shards.hpp"

namespace mma::detail::distributed {

/// Some rows of a process, numbered within it.
struct Range {
  int64_t begin = 0, count = 0;
};

/// Rows of the process so many hops before this one.
struct Block {
  at::Tensor rows;
  int64_t round, hops;
};

class Ring {
 public:
  /// rows [n, d], contiguous; blocks of at most so many rows.
  Ring(const Processes& processes, const Shards& shards, at::Tensor rows, int64_t block_rows)
      : processes_(processes), shards_(shards), rows_(std::move(rows)), block_rows_(block_rows) {
    const int64_t room = shards.size() > 1 ? std::min(block_rows, shards.largest()) : 0;
    for (at::Tensor& block : blocks_) block = at::empty({room, rows_.size(1)}, rows_.options());
  }

  /// meanwhile() once the first block is on its way, then visit(block) for each block that comes, which may be empty:
  /// of so many processes before this one.
  template <typename Meanwhile, typename Visit>
  void pass(int64_t hops, const Meanwhile& meanwhile, const Visit& visit) {
    hops_ = hops;
    const int64_t rounds = (shards_.largest() + block_rows_ - 1) / block_rows_;
    const int64_t steps = rounds * hops;
    Transfer transfer = steps > 0 ? begin(0) : Transfer();
    meanwhile();
    for (int64_t step = 0; step < steps; ++step) {
      transfer.wait();
      if (step + 1 < steps) transfer = begin(step + 1);
      const Range rows = received_at(step);
      visit(Block{block_at(step, rows.count), round(step), hop(step) + 1});
    }
  }

  /// The rows of a process, numbered within it, that pass in a round.
  Range rows_in(int64_t process, int64_t round) const {
    const int64_t begin = std::min(round * block_rows_, shards_.count(process));
    return {begin, std::min(block_rows_, shards_.count(process) - begin)};
  }

 private:
  /// A round takes a block of each process past others, a step takes each to the next process.
  int64_t round(int64_t step) const { return step / hops_; }
  int64_t hop(int64_t step) const { return step % hops_; }

  Range received_at(int64_t step) const { return rows_in(neighbour(shards_, -1 - hop(step)), round(step)); }

  /// Where the block that arrives at a step lies: in the one of the two that the step before does not use.
  at::Tensor block_at(int64_t step, int64_t count) const {
    return blocks_[static_cast<size_t>(step % 2)].narrow(0, 0, count);
  }

  at::Tensor sent_at(int64_t step) const {
    if (hop(step) > 0) return block_at(step - 1, received_at(step - 1).count);
    const Range own = rows_in(shards_.rank(), round(step));
    return rows_.narrow(0, own.begin, own.count);
  }

  Transfer begin(int64_t step) const {
    return {processes_,
            {sent_at(step), neighbour(shards_, 1)},
            {block_at(step, received_at(step).count), neighbour(shards_, -1)}};
  }

  Processes processes_;
  Shards shards_;
  at::Tensor rows_;
  int64_t block_rows_;
  int64_t hops_ = 1;
  std::array<at::Tensor, 2> blocks_;
};

}  // namespace mma::detail::distributed
