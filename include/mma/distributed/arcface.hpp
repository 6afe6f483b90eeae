// mma::DistributedArcFace, ArcFace's head and its cross-entropy with the classes sharded over processes (partial FC): a
// process has some classes' weights, and the softmax goes over those of all. Include <mma/distributed.hpp>.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/zeros.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <tuple>
#include <utility>

#include "../arcface.hpp"
#include "../detail/distributed/sharded_softmax.hpp"
#include "../detail/distributed/shards.hpp"
#include "../random_draws.hpp"
#include "../weight_matrix.hpp"
#include "processes.hpp"

namespace mma {

/// How a DistributedArcFace's classes lie on the processes, and which of them take part in a step.
struct ShardOptions {
  /// How many of all identities this process has; together all of them. Default: equal shares, the first processes one
  /// more where they do not come out even.
  std::optional<int64_t> identities = std::nullopt;
  /// The share of a process's classes that take part in a training step: those of the batch's labels, and others at
  /// random up to the share (partial FC's sampling). In (0, 1]; 1, the default, is the whole softmax.
  double sampled = 1;
  /// Of the random choice; with it and the number of the step, which is saved with the module, it can be repeated.
  uint64_t seed = 1;
};

/// ArcFace (Eq 15) and its cross-entropy, with the rows of its weight sharded over processes: `weight` [identities
/// here, embedding], the classes numbered in the order of the ranks. Equal to ArcFace and cross-entropy over the
/// batches of all processes laid end to end.
///
///     mma::DistributedArcFace head(group, mma::ArcFaceOptions(512, 10'000'000));
///     auto loss = head(network->forward(images), labels);                          // the same number on every process
///     loss = loss + 0.03 * mma::DistributedMinimalAngle(group)(head->weight);      // ArcFace+
///
/// Gradients: a shard gets that of one process's loss, and is not to be averaged, since only its process has it. The
/// embeddings get theirs times the number of processes, so that the mean over the processes of the network's gradients,
/// which c10d::Reducer takes, is one process's.
///
/// It is no Linear: a Regularizer over the module leaves it out, because rows of other processes may be nearest. Each
/// process saves its own shard. Deng, Guo, Xue, Zafeiriou: ArcFace, CVPR 2019; An et al.: Partial FC, ICCVW 2021.
class DistributedArcFaceImpl : public torch::nn::Module {
 public:
  /// Collective. The weight is drawn from a normal distribution of deviation 0.01, different on each process even where
  /// their generators are alike. Throws c10::Error for what ArcFace throws for, for a share outside (0, 1] and, on
  /// every process, for shards that do not make up all identities.
  DistributedArcFaceImpl(Processes processes, const ArcFaceOptions& options_, const ShardOptions& shard_ = {})
      : options(detail::checked(options_)),
        shard(shard_),
        processes_(std::move(processes)),
        shards_(agree_on_identities()) {
    TORCH_CHECK(shard.sampled > 0 && shard.sampled <= 1, "mma: DistributedArcFace's sampled share is ", shard.sampled,
                "; expected more than 0, at most 1.");
    weight = register_parameter("weight", at::empty({shards_.own_count(), options.embedding()}));
    steps_ = register_buffer("steps", at::zeros({}, at::TensorOptions(at::kLong)));
    reset_parameters();
  }

  /// Draws the weight anew, from a seed that is drawn from the default generator and the rank.
  void reset_parameters() {
    const at::NoGradGuard no_grad;
    const auto seed = at::empty({}, at::TensorOptions(at::kLong)).random_().item<int64_t>();
    const uint64_t own = splitmix64(static_cast<uint64_t>(seed), static_cast<uint64_t>(processes_.rank()));
    weight.copy_(at::empty(weight.sizes()).normal_(0, 0.01, at::make_generator<at::CPUGeneratorImpl>(own)));
  }

  /// One line: the sizes, the scale and the margins.
  void pretty_print(std::ostream& stream) const override {
    stream << "mma::DistributedArcFace(embedding=" << options.embedding() << ", identities=" << first_identity()
           << " to " << first_identity() + weight.size(0) - 1 << " of " << options.identities()
           << ", scale=" << options.scale() << ", margins=(" << options.m1() << ", " << options.m2() << ", "
           << options.m3() << "))";
  }

  /// The number of the first class whose weight this process has.
  int64_t first_identity() const { return shards_.own_first(); }

  /// This process's embeddings [b_r, embedding] and labels [b_r], integers from 0 to identities - 1 whichever process
  /// has them -> the mean cross-entropy over the batches of all processes, a scalar that is the same on each, in
  /// float32 under autocast and for float16 and bfloat16. Batches may differ in size and be empty. Once differentiable.
  /// Collective. Throws c10::Error, on every process, for other shapes, types or labels of one; on a GPU a label that
  /// no process has makes the loss NaN.
  at::Tensor forward(const at::Tensor& embeddings, const at::Tensor& labels) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const detail::distributed::Shards batch = agree_on_batch(embeddings, labels);
    const at::Tensor rows =
        detail::distributed::GatherRows::apply(processes_, batch, embeddings.to(computing_type_with(embeddings)));
    const at::Tensor all_labels =
        detail::distributed::gather_rows(processes_, batch, labels.to(rows.device(), at::kLong));
    const auto [classes, own] = own_classes(all_labels);
    return detail::distributed::ShardedCrossEntropy::apply(processes_, own, logits(rows, classes, own));
  }

  ArcFaceOptions options;  ///< what it was made of
  ShardOptions shard;      ///< how its classes lie on the processes
  at::Tensor weight;       ///< [identities here, embedding]

 private:
  using OwnLabels = detail::distributed::OwnLabels;

  detail::distributed::Shards agree_on_identities() const {
    const int64_t even = options.identities() / processes_.size(), more = options.identities() % processes_.size();
    const int64_t own = shard.identities.value_or(even + (processes_.rank() < more ? 1 : 0));
    detail::distributed::Shards all = detail::distributed::agree(
        processes_,
        {std::max<int64_t>(own, 0), {{"an ArcFace with identities to the number of", options.identities()}}},
        own < 0
            ? "mma: DistributedArcFace got " + std::to_string(own) + " identities for its shard; expected 0 or more."
            : "",
        detail::distributed::device_of(processes_));
    TORCH_CHECK(all.total() == options.identities(), "mma: DistributedArcFace's shards have ", all.total(),
                " identities; expected ", options.identities(), ", which is how many there are.");
    return all;
  }

  at::ScalarType computing_type_with(const at::Tensor& embeddings) const {
    return at::promote_types(detail::in_computing_type(embeddings).scalar_type(),
                             detail::in_computing_type(weight).scalar_type());
  }

  std::string refusal_of(const at::Tensor& embeddings, const at::Tensor& labels) const {
    try {
      detail::check_embeddings(options, embeddings);
      detail::check_labels(options, embeddings, labels);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  }

  detail::distributed::Shards agree_on_batch(const at::Tensor& embeddings, const at::Tensor& labels) const {
    const std::string refusal = refusal_of(embeddings, labels);
    const bool good = refusal.empty();
    using detail::distributed::Alike;
    return detail::distributed::agree(
        processes_,
        {good ? embeddings.size(0) : 0,
         {Alike::type("embeddings and weights of type", good ? computing_type_with(embeddings) : at::kFloat),
          Alike::flag("embeddings with requires_grad", good && detail::distributed::needs_graph(embeddings))}},
        refusal, embeddings.device());
  }

  /// The classes here that take part, and which embeddings' labels are among them, where.
  std::pair<at::Tensor, OwnLabels> own_classes(const at::Tensor& all_labels) {
    const at::Tensor here = all_labels - first_identity();
    const at::Tensor embedding = at::nonzero(here.ge(0).logical_and_(here.lt(weight.size(0)))).squeeze(1);
    const at::Tensor column = here.index_select(0, embedding);
    if (!is_training() || shard.sampled == 1 || weight.size(0) == 0) return {weight, {embedding, column}};
    const at::Tensor sample = sample_with(column);
    return {weight.index_select(0, sample), {embedding, at::searchsorted(sample, column)}};
  }

  /// Classes here, ascending: those given, and others at random up to the share.
  at::Tensor sample_with(const at::Tensor& given) {
    RandomDraws draws{splitmix64(shard.seed, static_cast<uint64_t>(processes_.rank())), steps_.item<int64_t>()};
    steps_.add_(1);
    const at::Tensor order = draws.normal({weight.size(0)}).to(weight.device());
    order.index_fill_(0, given, std::numeric_limits<double>::infinity());
    const auto share = static_cast<int64_t>(std::ceil(shard.sampled * static_cast<double>(weight.size(0))));
    const auto labels = order.isinf().sum().item<int64_t>();
    return std::get<0>(std::get<1>(order.topk(std::max(share, labels))).sort());
  }

  /// [B, classes that take part here], in the type of all.
  at::Tensor logits(const at::Tensor& rows, const at::Tensor& classes, const OwnLabels& own) const {
    const at::Tensor typed = classes.to(rows.scalar_type());
    const at::Tensor cosines = detail::cosines_between(rows, typed);
    const at::Tensor targets = detail::margin_of(options)(
        detail::angles_between(rows.index_select(0, own.embedding), typed.index_select(0, own.column)));
    return cosines.index_put({own.embedding, own.column}, targets.to(rows.scalar_type())) * options.scale();
  }

  Processes processes_;
  detail::distributed::Shards shards_;
  at::Tensor steps_;  ///< that drew classes
};

/// Holds a DistributedArcFaceImpl: mma::DistributedArcFace head(group, mma::ArcFaceOptions(512, 10'000'000)).
class DistributedArcFace : public torch::nn::ModuleHolder<DistributedArcFaceImpl> {
 public:
  using Impl = DistributedArcFaceImpl;  ///< the module itself
  using torch::nn::ModuleHolder<DistributedArcFaceImpl>::ModuleHolder;
};

}  // namespace mma
