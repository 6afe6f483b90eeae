// The one place where a search of blocks is chosen: the CPU's loops, and LibTorch's operations for everything else.
#pragma once

#include <functional>
#include <memory>

#include "block_search.hpp"
#include "cpu/block_search.hpp"
#include "portable/block_search.hpp"

namespace mma::detail::nearest {

/// Makes a search over own rows [n, d] of float32 or float64.
using BlockSearchMaker = std::function<std::unique_ptr<BlockSearch>(const NumberedRows& own, bool half_space)>;

/// What makes searches of blocks on this thread, if not the rows' device: for the tests, as engine_maker().
inline BlockSearchMaker& block_search_maker() {
  thread_local BlockSearchMaker maker;
  return maker;
}

inline std::unique_ptr<BlockSearch> make_block_search(const NumberedRows& own, bool half_space) {
  if (block_search_maker()) return block_search_maker()(own, half_space);
  if (!own.rows.is_cpu()) return std::make_unique<portable::BlockSearch>(own, half_space);
  if (own.rows.scalar_type() == at::kDouble) return std::make_unique<cpu::BlockSearch<double>>(own, half_space);
  return std::make_unique<cpu::BlockSearch<float>>(own, half_space);
}

}  // namespace mma::detail::nearest
