// Cross-entropy where each process has all embeddings and some of the classes: embeddings and labels of all processes
// gathered, the softmax's largest logit and sum taken over all, and the gradient brought back to who gave an embedding.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <vector>

#include "communication.hpp"
#include "shards.hpp"

namespace mma::detail::distributed {

/// own [b_r, ...] of each process, end to end on every one.
inline at::Tensor gather_rows(const Processes& processes, const Shards& shards, const at::Tensor& own) {
  std::vector<int64_t> sizes = own.sizes().vec();
  sizes[0] = shards.largest();
  at::Tensor padded = at::zeros(sizes, own.options());
  padded.narrow(0, 0, own.size(0)).copy_(own);
  std::vector<at::Tensor> all = gather(processes, padded);
  for (int64_t p = 0; p < shards.size(); ++p) {
    at::Tensor& rows = all[static_cast<size_t>(p)];
    rows = rows.narrow(0, 0, shards.count(p));
  }
  return at::cat(all);
}

/// gather_rows() as a function: its gradient is the sum of what all processes give the own rows, times their number, so
/// that the mean over the processes, which data-parallel training takes of a network's gradients, is that of one
/// process.
struct GatherRows : torch::autograd::Function<GatherRows> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const Processes& processes, const Shards& shards,
                            const at::Tensor& own) {
    context->saved_data["all"] = at::IValue::make_capsule(c10::make_intrusive<Saved>(processes, shards));
    return gather_rows(processes, shards, own);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const auto& all = static_cast<const Saved&>(*context->saved_data["all"].toCapsule());
    const at::Tensor sum = grad_outputs[0].contiguous().clone();
    reduce(all.processes, sum, c10d::ReduceOp::SUM);
    return {{}, {}, sum.narrow(0, all.shards.own_first(), all.shards.own_count()) * all.processes.size()};
  }

 private:
  struct Saved : torch::CustomClassHolder {
    Saved(Processes p, Shards s) : processes(std::move(p)), shards(std::move(s)) {}
    Processes processes;
    Shards shards;
  };
};

/// The embeddings, of all, whose label is a class here, and which: [k] each.
struct OwnLabels {
  at::Tensor embedding, column;
};

/// The mean cross-entropy [] over all embeddings, of logits [B, C_r] with the classes here. A label that no process has
/// makes it NaN.
struct ShardedCrossEntropy : torch::autograd::Function<ShardedCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const Processes& processes,
                            const OwnLabels& labels, const at::Tensor& logits) {
    const int64_t batch = logits.size(0);
    const at::Tensor largest = logits.size(1) > 0
                                   ? logits.amax(1)
                                   : at::full({batch}, -std::numeric_limits<double>::infinity(), logits.options());
    reduce(processes, largest, c10d::ReduceOp::MAX);
    at::Tensor shares = (logits - largest.unsqueeze(1)).exp_();
    const at::Tensor own = logits.index({labels.embedding, labels.column}) - largest.index_select(0, labels.embedding);
    const at::Tensor zeros = at::zeros({batch}, logits.options());
    at::Tensor sums = at::stack({shares.sum(1), zeros.index_put({labels.embedding}, own),
                                 zeros.index_put({labels.embedding}, at::ones_like(own))});
    reduce(processes, sums, c10d::ReduceOp::SUM);
    shares.div_(sums[0].unsqueeze(1));
    context->save_for_backward({shares, labels.embedding, labels.column});
    return at::where(sums[2] == 1, sums[0].log() - sums[1], std::numeric_limits<double>::quiet_NaN())
        .mean()
        .to(logits.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    TORCH_CHECK(
        !at::GradMode::is_enabled(),
        "mma: DistributedArcFace was asked for the gradient of its gradient (create_graph); expected one backward "
        "pass, which is all that goes over processes.");
    const auto saved = context->get_saved_variables();
    at::Tensor gradient = saved[0].index_put({saved[1], saved[2]}, at::ones_like(saved[1]).to(saved[0]).neg(), true);
    return {{}, {}, gradient * (grad_outputs[0] / static_cast<double>(gradient.size(0)))};
  }
};

}  // namespace mma::detail::distributed
