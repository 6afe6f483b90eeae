// The nearest row of each own row among the rows of all processes: found while they pass round the ring, then fetched
// from the processes that have them, so that angles and gradients are those of listed pairs.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_unique2.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "../nearest/block_factory.hpp"
#include "../pairs/angles.hpp"
#include "../rows/norms.hpp"
#include "exchange.hpp"
#include "ring.hpp"
#include "shards.hpp"

namespace mma::detail::distributed {

/// Numbers of a block that passes round: 32 MiB of float32.
inline constexpr int64_t block_numbers = int64_t{1} << 23;

/// Which rows of a host and of a guest's block are searched among each other when the block comes by. Two processes
/// meet once, each cosine serving both; opposite ones of an even ring meet twice, and the guest's lower half waits for
/// the time that it is host.
struct Meeting {
  Range host, guest;

  Meeting(const Shards& shards, int64_t host_rank, int64_t guest_rank, int64_t hops, Range block)
      : host{0, shards.count(host_rank)}, guest(block) {
    const bool opposite = 2 * hops == shards.size();
    if (opposite && host_rank < guest_rank) host.count /= 2;
    if (opposite && host_rank > guest_rank) {
      const int64_t end = block.begin + block.count;
      guest.begin = std::clamp(shards.count(guest_rank) / 2, block.begin, end);
      guest.count = end - guest.begin;
    }
    if (host.count == 0) guest.count = 0;
  }
};

/// Searches a block that has come, tells its process what its rows are near to here, and hears the same of own rows.
inline void meet(const Processes& processes, const Shards& shards, const Ring& ring, const Block& block,
                 nearest::BlockSearch& search) {
  const int64_t guest = neighbour(shards, -block.hops), host = neighbour(shards, block.hops);
  const Range come = ring.rows_in(guest, block.round), gone = ring.rows_in(shards.rank(), block.round);
  const Meeting here(shards, shards.rank(), guest, block.hops, come);
  const Meeting there(shards, host, shards.rank(), block.hops, gone);
  const at::Tensor rows = block.rows.narrow(0, here.guest.begin - come.begin, here.guest.count);
  const at::Tensor found =
      search.search({rows, shards.first(guest) + here.guest.begin}, here.host.begin, here.host.count);
  const at::Tensor heard = at::empty({there.guest.count, search.known_numbers()}, found.options());
  Transfer(processes, {found, guest}, {heard, host}, /*tag=*/1).wait();
  search.take(heard, there.guest.begin);
}

/// The number among all of each own row's nearest one, [n] int64; its own for a row without another.
inline at::Tensor search_ring(const Processes& processes, const Shards& shards, const at::Tensor& rows, bool half_space,
                              int64_t block_rows) {
  const auto search = nearest::make_block_search({rows, shards.own_first()}, half_space);
  Ring ring(processes, shards, rows, block_rows);
  ring.pass(
      shards.size() / 2, [&] { search->search_own(); },
      [&](const Block& block) { meet(processes, shards, ring, block, *search); });
  const at::Tensor open = gather_small(processes, at::tensor(search->begin_look(), at::kLong), rows.device());
  if (open.sum().item<int64_t>() > 0) {
    ring.pass(
        shards.size() - 1, [&] { search->look_at_own(); },
        [&](const Block& block) {
          const int64_t guest = neighbour(shards, -block.hops);
          if (block.rows.size(0) > 0)
            search->look({block.rows, shards.first(guest) + ring.rows_in(guest, block.round).begin});
        });
  }
  return search->nearest();
}

/// The rows of other processes, and of this one, that own rows chose, each once; and who asked for ours.
class ChosenRows {
 public:
  /// nearest [n]: the number among all of what each of rows [n, d] chose.
  ChosenRows(const Processes& processes, const Shards& shards, const at::Tensor& rows, const at::Tensor& nearest)
      : ChosenRows(processes, shards, rows, at::_unique2(nearest, /*sorted=*/true, /*return_inverse=*/true)) {}

  const at::Tensor& rows() const { return rows_; }    ///< [u, d]
  const at::Tensor& place() const { return place_; }  ///< [n]: which of them a row chose

  /// What the chosen rows [u, d] get, at the processes that have them: to[own row] += theirs, in the ranks' order.
  void add_to_owners(at::Tensor& to, const at::Tensor& given) const {
    const at::Tensor ours = exchange_.there(given);
    pairs::add_rows(to, asked_, ours);
  }

 private:
  using Unique = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

  ChosenRows(const Processes& processes, const Shards& shards, const at::Tensor& rows, const Unique& unique)
      : place_(std::get<1>(unique)),
        exchange_(processes, counts_of(shards, std::get<0>(unique)), rows.device()),
        asked_(exchange_.there(std::get<0>(unique)) - shards.own_first()),
        rows_(exchange_.back(rows.index_select(0, asked_))) {}

  /// How many of ascending numbers each process has.
  static std::vector<int64_t> counts_of(const Shards& shards, const at::Tensor& numbers) {
    std::vector<int64_t> firsts;
    for (int64_t p = 0; p <= shards.size(); ++p) firsts.push_back(shards.first(p));
    const at::Tensor begin = at::bucketize(at::tensor(firsts, at::TensorOptions(at::kLong)), numbers.to(at::kCPU));
    std::vector<int64_t> counts;
    for (int64_t p = 0; p < shards.size(); ++p) counts.push_back((begin[p + 1] - begin[p]).item<int64_t>());
    return counts;
  }

  at::Tensor place_;
  Exchange exchange_;
  at::Tensor asked_;  ///< own rows that others, and this process, chose, each chooser's ascending
  at::Tensor rows_;
};

/// part(begin, count) over n rows of a dimension, as many at a time as pairs/ takes.
template <typename Part>
void in_chunks(const at::Tensor& rows, const Part& part) {
  const int64_t n = rows.size(0), chunk = pairs::pairs_per_chunk(rows.size(1), rows.device());
  for (int64_t begin = 0; begin < n; begin += chunk) part(begin, std::min(chunk, n - begin));
}

/// The angles [n] in float64 between each own row and what it chose; NaN where either is zero or not finite.
inline at::Tensor angles_to(const ChosenRows& chosen, const at::Tensor& rows) {
  at::Tensor angles = at::empty({rows.size(0)}, rows.options().dtype(at::kDouble));
  in_chunks(rows, [&](int64_t begin, int64_t count) {
    const at::Tensor theirs = chosen.rows().index_select(0, chosen.place().narrow(0, begin, count));
    const at::Tensor both = at::cat({rows.narrow(0, begin, count), theirs});
    const at::Tensor first = at::arange(count, chosen.place().options());
    angles.narrow(0, begin, count).copy_(pairs::pair_angles(both, rows::row_norms(both), first, first + count));
  });
  return angles;
}

}  // namespace mma::detail::distributed
