// How the rows of a matrix lie on the processes: each has some of them, numbered over all in the order of the ranks.
// What every process must agree on before anything large is sent, so that a mistake of one is an error of all.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "communication.hpp"

namespace mma::detail::distributed {

/// Where each process's rows begin.
class Shards {
 public:
  /// counts [processes]: how many rows each has.
  Shards(int64_t rank, const std::vector<int64_t>& counts) : rank_(rank), first_{0} {
    for (const int64_t count : counts) first_.push_back(first_.back() + count);
  }

  int64_t size() const { return static_cast<int64_t>(first_.size()) - 1; }
  int64_t rank() const { return rank_; }
  int64_t first(int64_t process) const { return first_[static_cast<size_t>(process)]; }
  int64_t count(int64_t process) const { return first(process + 1) - first(process); }
  int64_t own_first() const { return first(rank_); }
  int64_t own_count() const { return count(rank_); }
  int64_t total() const { return first_.back(); }

  int64_t largest() const {
    int64_t result = 0;
    for (int64_t p = 0; p < size(); ++p) result = std::max(result, count(p));
    return result;
  }

 private:
  int64_t rank_;
  std::vector<int64_t> first_;  ///< of each process, and the end
};

/// The process after `steps` of them in the ring.
inline int64_t neighbour(const Shards& shards, int64_t steps) {
  return (shards.rank() + steps % shards.size() + shards.size()) % shards.size();
}

/// What all processes must have alike, and how a sentence calls it.
struct Alike {
  using Words = std::string (*)(int64_t);

  std::string name;
  int64_t value = 0;
  Words words = [](int64_t number) { return std::to_string(number); };

  static Alike type(const std::string& name, at::ScalarType value) {
    return {name, static_cast<int64_t>(value),
            [](int64_t number) { return std::string(c10::toString(static_cast<at::ScalarType>(number))); }};
  }
  static Alike flag(const std::string& name, bool value) {
    return {name, value ? 1 : 0, [](int64_t number) { return std::string(number != 0 ? "true" : "false"); }};
  }
};

/// What each process says before anything large is sent.
struct Statement {
  int64_t rows = 0;
  std::vector<Alike> alike;
};

/// Gathers the processes' statements: the rows of each. `refusal`: why this process cannot take part, if not empty.
/// Throws c10::Error on every process where one refuses or two differ, naming the processes.
inline Shards agree(const Processes& processes, const Statement& own, const std::string& refusal, at::Device device) {
  std::vector<int64_t> said{refusal.empty() ? 1 : 0, own.rows};
  for (const Alike& each : own.alike) said.push_back(each.value);
  const at::Tensor all = gather_small(processes, at::tensor(said, at::TensorOptions(at::kLong)), device);
  TORCH_CHECK(refusal.empty(), refusal);
  std::vector<int64_t> counts;
  for (int64_t p = 0; p < processes.size(); ++p) {
    const at::Tensor theirs = all[p];
    TORCH_CHECK(theirs[0].item<int64_t>() == 1, "mma: process ", p,
                " cannot take part; expected what it says about its own tensors to be mended there.");
    for (size_t k = 0; k < own.alike.size(); ++k) {
      const Alike& each = own.alike[k];
      const auto value = theirs[static_cast<int64_t>(k) + 2].item<int64_t>();
      const auto first = all[0][static_cast<int64_t>(k) + 2].item<int64_t>();
      TORCH_CHECK(value == first, "mma: process ", p, " has ", each.name, " ", each.words(value), ", process 0 has ",
                  each.words(first), "; expected the same on all processes.");
    }
    counts.push_back(theirs[1].item<int64_t>());
  }
  return {processes.rank(), counts};
}

/// Whether a backward pass will come to this tensor.
inline bool needs_graph(const at::Tensor& tensor) { return at::GradMode::is_enabled() && tensor.requires_grad(); }

}  // namespace mma::detail::distributed
