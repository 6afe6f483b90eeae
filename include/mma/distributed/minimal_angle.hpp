// mma::DistributedMinimalAngle, the paper's objective (Eq 6) of one matrix whose rows lie on several processes, as the
// rows of a classifier of millions of classes do. Include <mma/distributed.hpp>; mma.hpp leaves c10d's headers out.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <utility>

#include "../detail/distributed/nearest_function.hpp"
#include "../detail/distributed/shards.hpp"
#include "../objectives/minimal_angle.hpp"
#include "../weight_matrix.hpp"
#include "processes.hpp"

namespace mma {

/// Minus the mean angle between each row and its nearest one (Eq 6), over the rows of all processes: process r has
/// some rows [n_r, d] of a matrix [n, d], in the order of the ranks.
///
///     l = -(1/n) sum_i min_{j != i} theta_ij        i and j over the rows of all processes
///
/// Every process calls it at the same time and gets the same l. backward(), which every process calls as well, gives
/// each the gradient of l by its own rows: the rows that a single process would get. Neighbours are found while blocks
/// of rows pass round the ring, exact as everywhere in the library; a process holds its rows, their gradient, the
/// neighbours' rows and two blocks, never all rows. On a CPU it searches in the library's own loops, elsewhere in
/// LibTorch's operations (which have not run on a GPU).
///
///     mma::DistributedMinimalAngle minimal_angle(group);       // any c10d process group
///     loss = loss + 0.03 * minimal_angle(head->weight);        // ArcFace+ with a sharded head
///
/// A shard belongs to its process: its gradient is not to be averaged over the processes.
class DistributedMinimalAngle {
 public:
  /// half_space of `objective` compares lines instead of rays. Nothing is sent.
  explicit DistributedMinimalAngle(Processes processes, const MinimalAngle& objective = {})
      : processes_(std::move(processes)), objective_(objective) {}

  /// At most so many rows pass round at a time: two of such blocks are held beside the own rows. Default: 32 MiB of
  /// float32. The same on all processes. Throws c10::Error for less than 1.
  DistributedMinimalAngle& block_rows(int64_t value) {
    TORCH_CHECK(value >= 1, "mma: DistributedMinimalAngle::block_rows got ", value, "; expected 1 or more.");
    block_rows_ = value;
    return *this;
  }

  /// This process's rows [n_r, d], which may be none -> l, a scalar in radians from -pi to 0 (float32 for float16 and
  /// bfloat16), once differentiable; 0 for fewer than two rows that are not zero, NaN where any process has NaN or Inf.
  /// Collective. Throws c10::Error, on every process, where dimensions, types or requires_grad differ or a shard is not
  /// a dense floating-point matrix.
  at::Tensor operator()(const at::Tensor& rows) const {
    const detail::distributed::Shards shards = agree(rows);
    if (rows.size(1) == 0) return detail::in_computing_type(rows).sum();
    const int64_t largest_block = std::max<int64_t>(1, detail::distributed::block_numbers / rows.size(1));
    return detail::distributed::NearestFunction::apply(processes_, shards, objective_.nearest(),
                                                       block_rows_ > 0 ? block_rows_ : largest_block, rows);
  }

 private:
  static std::string refusal_of(const at::Tensor& rows) {
    try {
      detail::check_weight(rows, {}, "DistributedMinimalAngle");
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    std::ostringstream shape;
    if (rows.dim() != 2) {
      shape << "mma: DistributedMinimalAngle got rows of shape " << rows.sizes() << "; expected [rows, dimension].";
    }
    return shape.str();
  }

  /// Says what the shard is before anything large is sent.
  detail::distributed::Shards agree(const at::Tensor& rows) const {
    const std::string refusal = refusal_of(rows);
    const bool good = refusal.empty();
    using detail::distributed::Alike;
    return detail::distributed::agree(processes_,
                                      {good ? rows.size(0) : 0,
                                       {{"rows of dimension", good ? rows.size(1) : 0},
                                        Alike::type("rows of type", good ? rows.scalar_type() : at::kFloat),
                                        Alike::flag("requires_grad", good && detail::distributed::needs_graph(rows)),
                                        {"block_rows", block_rows_}}},
                                      refusal, rows.defined() ? rows.device() : at::Device(at::kCPU));
  }

  Processes processes_;
  MinimalAngle objective_;
  int64_t block_rows_ = 0;
};

}  // namespace mma
