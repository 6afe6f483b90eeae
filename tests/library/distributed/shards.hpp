// How the tests lay the rows of a matrix on processes, put the processes' own rows together again, and compare.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "on_processes.hpp"

namespace distributed {

/// How many rows each process has.
struct Split {
  std::string name;
  std::vector<int64_t> counts;

  int64_t first(int64_t process) const { return std::accumulate(counts.begin(), counts.begin() + process, int64_t{0}); }
  int64_t count(int64_t process) const { return counts[static_cast<size_t>(process)]; }
};

/// n rows on so many processes: about equally; nearly all on the last one, the first with a single row, others with
/// none.
inline std::vector<Split> splits(int64_t n, int64_t processes) {
  Split even{"even", std::vector<int64_t>(static_cast<size_t>(processes), n / processes)};
  for (size_t p = 0; p < static_cast<size_t>(n % processes); ++p) ++even.counts[p];
  if (processes == 1) return {even};
  Split uneven{"uneven", std::vector<int64_t>(static_cast<size_t>(processes), 0)};
  uneven.counts.front() = n > 1 ? 1 : 0;
  uneven.counts.back() = n - uneven.counts.front();
  return {even, uneven};
}

/// This process's rows of a matrix [n, d].
inline at::Tensor shard_of(const at::Tensor& matrix, const Split& split, const Group& group) {
  return matrix.narrow(0, split.first(group->getRank()), split.count(group->getRank())).clone();
}

/// All processes' rows end to end, on each of them.
inline at::Tensor all_rows(const at::Tensor& own, const Split& split, const Group& group) {
  std::vector<int64_t> sizes = own.sizes().vec();
  sizes[0] = std::accumulate(split.counts.begin(), split.counts.end(), int64_t{0});
  std::vector<at::Tensor> all{at::zeros(sizes, own.options())};
  all[0].narrow(0, split.first(group->getRank()), own.size(0)).copy_(own);
  if (group->getSize() > 1) group->allreduce(all)->wait();
  return all[0];
}

/// |found - expected| / |expected|, expected float64.
inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const double size = expected.norm().item<double>();
  return (found.to(at::kDouble) - expected).norm().item<double>() / (size > 0 ? size : 1);
}

}  // namespace distributed
