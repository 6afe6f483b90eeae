// Rows from each process to each other: what lies end to end for process 0, 1, ... here lies end to end from process
// 0, 1, ... there; and the way back.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <vector>

#include "communication.hpp"
#include "shards.hpp"

namespace mma::detail::distributed {

class Exchange {
 public:
  /// counts [processes]: how many rows go from here to each.
  Exchange(const Processes& processes, const std::vector<int64_t>& counts, at::Device device)
      : processes_(processes), sent_(processes.rank(), counts), received_(processes.rank(), {}) {
    const at::Tensor all = gather_small(processes, at::tensor(counts, at::TensorOptions(at::kLong)), device);
    std::vector<int64_t> to_us;
    for (int64_t p = 0; p < processes.size(); ++p) to_us.push_back(all[p][processes.rank()].item<int64_t>());
    received_ = Shards(processes.rank(), to_us);
  }

  /// [sum of counts, ...] -> what the others sent here.
  at::Tensor there(const at::Tensor& rows) const { return move(rows, sent_, received_); }

  /// Of the same length as what came, back to where that came from.
  at::Tensor back(const at::Tensor& rows) const { return move(rows, received_, sent_); }

 private:
  at::Tensor move(const at::Tensor& rows, const Shards& from, const Shards& to) const {
    if (to.size() == 1) return rows;
    const at::Tensor contiguous = rows.contiguous();
    std::vector<int64_t> sizes = rows.sizes().vec();
    sizes[0] = to.total();
    at::Tensor result = at::empty(sizes, rows.options());
    const auto part = [](const at::Tensor& all, const Shards& shards, int64_t process) {
      return all.narrow(0, shards.first(process), shards.count(process));
    };
    part(result, to, to.rank()).copy_(part(contiguous, from, from.rank()));
    for (int64_t step = 1; step < to.size(); ++step) {
      const int64_t next = neighbour(to, step), previous = neighbour(to, -step);
      Transfer(processes_, {part(contiguous, from, next), next}, {part(result, to, previous), previous}).wait();
    }
    return result;
  }

  Processes processes_;
  Shards sent_, received_;
};

}  // namespace mma::detail::distributed
