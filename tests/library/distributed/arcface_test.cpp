// mma::DistributedArcFace on 1, 2 and 4 processes against Eq 15 and cross-entropy of the whole batch with all classes,
// written out in float64; with DistributedMinimalAngle (ArcFace+), below a network whose gradients are averaged, and
// with a sample of the classes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>
#include <torch/serialize.h>
#include <mma/distributed.hpp>
#include <mma/mma.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <sstream>
#include <string>
#include <vector>

#include "error_message.hpp"
#include "on_processes.hpp"
#include "reference.hpp"
#include "shards.hpp"

namespace {

using distributed::all_rows;
using distributed::Group;
using distributed::on_all_counts;
using distributed::on_processes;
using distributed::relative_error;
using distributed::shard_of;
using distributed::Split;
using distributed::splits;
using measured::message_of;
using reference::Real;

struct Margins {
  double m1, m2, m3;
};

at::Tensor numbers(at::IntArrayRef sizes, uint64_t seed) { return mma::RandomDraws{seed}.normal(sizes); }

at::Tensor some_labels(int64_t batch, int64_t identities, uint64_t seed) {
  return numbers({batch}, seed).mul(1000).to(at::kLong).abs().remainder(identities);
}

/// Eq 15 with cross-entropy, plain: the mean over i of log sum_j exp(z_ij) - z_iy, z the logits.
Real loss_formula(const at::Tensor& embeddings, const at::Tensor& labels, const at::Tensor& weight, const Margins& m,
                  Real scale) {
  const reference::Rows x = reference::units(reference::rows_of(embeddings)),
                        w = reference::units(reference::rows_of(weight));
  Real loss = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto label = static_cast<size_t>(labels[static_cast<int64_t>(i)].item<int64_t>());
    Real sum = 0, target = 0;
    for (size_t j = 0; j < w.size(); ++j) {
      const Real theta = std::acos(reference::cosine(x[i], w[j])), moved = m.m1 * theta + m.m2;
      const Real margin = std::numbers::pi_v<Real> - (std::numbers::pi_v<Real> - m.m2) / m.m1;
      const Real own = moved < std::numbers::pi_v<Real> ? std::cos(moved) : std::cos(theta) - margin * std::sin(margin);
      const Real z = scale * (j == label ? own - m.m3 : std::cos(theta));
      if (j == label) target = z;
      sum += std::exp(z);
    }
    loss += std::log(sum) - target;
  }
  return loss / static_cast<Real>(x.size());
}

/// The same in LibTorch's operations, whose autograd gives the expected gradients.
at::Tensor loss_in_operations(const at::Tensor& embeddings, const at::Tensor& labels, const at::Tensor& weight,
                              const Margins& m, double scale) {
  constexpr double pi = std::numbers::pi;
  const at::Tensor cosines = (embeddings / embeddings.norm(2, {1}, true)).mm((weight / weight.norm(2, {1}, true)).t());
  const at::Tensor own = at::one_hot(labels, weight.size(0)).to(at::kBool);
  const at::Tensor theta = cosines.masked_select(own).acos(), moved = m.m1 * theta + m.m2;
  const double margin = pi - (pi - m.m2) / m.m1;
  const at::Tensor target = at::where(moved < pi, moved.cos(), theta.cos() - margin * std::sin(margin)) - m.m3;
  return at::cross_entropy_loss(cosines.masked_scatter(own, target) * scale, labels);
}

mma::DistributedArcFace make_head(const Group& group, const at::Tensor& weight, const Split& classes, const Margins& m,
                                  double scale, double sampled = 1) {
  mma::DistributedArcFace head(
      group, mma::ArcFaceOptions(weight.size(1), weight.size(0)).scale(scale).margins(m.m1, m.m2, m.m3),
      mma::ShardOptions{.identities = classes.count(group->getRank()), .sampled = sampled});
  head->to(weight.scalar_type());
  const at::NoGradGuard no_grad;
  head->weight.copy_(shard_of(weight, classes, group));
  return head;
}

/// Embeddings, labels and classes of all processes, and how they lie on them.
struct Whole {
  at::Tensor embeddings, labels, weight;
  Split batch, classes;
};

void expect_formula(const Group& group, const Whole& whole, const Margins& m, double scale, at::ScalarType type) {
  // Of the numbers that the type can hold.
  const auto held = [&](const at::Tensor& t) { return t.to(type).to(at::kDouble, false, true).requires_grad_(); };
  const at::Tensor x = held(whole.embeddings), w = held(whole.weight);
  loss_in_operations(x, whole.labels, w, m, scale).backward();
  const double expected = static_cast<double>(loss_formula(x, whole.labels, w, m, scale));

  mma::DistributedArcFace head = make_head(group, w.detach().to(type), whole.classes, m, scale);
  const at::Tensor own = shard_of(x.detach().to(type), whole.batch, group).requires_grad_();
  const at::Tensor loss = head(own, shard_of(whole.labels, whole.batch, group));
  loss.backward();
  const double tolerance = type == at::kDouble ? 1e-12 : 2e-6;
  EXPECT_EQ(loss.scalar_type(), type);
  EXPECT_NEAR(loss.item<double>(), expected, tolerance * std::max(1.0, std::abs(expected)));
  EXPECT_LT(relative_error(all_rows(head->weight.grad(), whole.classes, group), w.grad()), 5 * tolerance);
  const double processes = group->getSize();
  EXPECT_LT(relative_error(all_rows(own.grad(), whole.batch, group), processes * x.grad()), 5 * tolerance);
}

TEST(DistributedArcFace, IsEq15OfAllClassesAndTheWholeBatch) {
  on_all_counts([](const Group& group) {
    const std::vector<Margins> margins{{1, 0.5, 0}, {1, 0.3, 0.2}, {0.9, 0.4, 0.15}};
    size_t made = 0;
    for (const int64_t identities : {1, 2, 3, 7, 33, 101}) {
      for (const int64_t batch : {1, 6, 13}) {
        const auto class_splits = splits(identities, group->getSize()), batch_splits = splits(batch, group->getSize());
        // Even classes with an uneven batch, and the other way round.
        for (size_t k = 0; k < class_splits.size(); ++k, ++made) {
          SCOPED_TRACE(std::to_string(identities) + " identities " + class_splits[k].name + ", a batch of " +
                       std::to_string(batch));
          const Whole whole{numbers({batch, 5}, 3 * made), some_labels(batch, identities, 3 * made + 1),
                            numbers({identities, 5}, 3 * made + 2), batch_splits[batch_splits.size() - 1 - k],
                            class_splits[k]};
          expect_formula(group, whole, margins[made % margins.size()], 30, at::kDouble);
          if (batch == 6) expect_formula(group, whole, margins[made % margins.size()], 30, at::kFloat);
        }
      }
    }
  });
}

TEST(DistributedArcFace, EveryLabelIsFoundOnWhicheverProcessHasIt) {
  on_all_counts([](const Group& group) {
    const int64_t n = 9;
    for (const Split& classes : splits(n, group->getSize())) {
      for (int64_t label = 0; label < n; ++label) {
        const Whole whole{numbers({4, 6}, 40), at::full({4}, label, at::kLong), numbers({n, 6}, 41),
                          splits(4, group->getSize())[0], classes};
        mma::DistributedArcFace head = make_head(group, whole.weight, classes, {1, 0.5, 0}, 20);
        const double loss =
            head(shard_of(whole.embeddings, whole.batch, group), shard_of(whole.labels, whole.batch, group))
                .item<double>();
        EXPECT_NEAR(loss,
                    static_cast<double>(loss_formula(whole.embeddings, whole.labels, whole.weight, {1, 0.5, 0}, 20)),
                    1e-10)
            << "label " << label;
      }
    }
  });
}

/// ArcFace+ above a network: three steps of what data-parallel training does, gradients averaged by LibTorch's Reducer
/// for the network and own ones for the head, against one process's with the formulas.
TEST(DistributedArcFace, ATrainingWithMMAIsOneProcesss) {
  on_all_counts([](const Group& group) {
    const int64_t batch = 10, identities = 11, processes = group->getSize();
    const Margins m{1, 0.5, 0};
    at::Tensor network = numbers({5, 6}, 50), weight = numbers({identities, 5}, 51);  // one process's
    const Split classes = splits(identities, processes).back(), batches = splits(batch, processes).front();
    at::Tensor own_network = network.clone().requires_grad_();
    mma::DistributedArcFace head = make_head(group, weight, classes, m, 16);
    const mma::DistributedMinimalAngle minimal_angle(group);
    c10d::Reducer reducer({own_network}, {{0}}, group, {false}, 1 << 20, false, false, {}, 1 << 20, false, false, {});
    for (uint64_t step = 0; step < 3; ++step) {
      const at::Tensor images = numbers({batch, 6}, 60 + step), labels = some_labels(batch, identities, 70 + step);
      const at::Tensor whole = network.clone().requires_grad_(), all = weight.clone().requires_grad_();
      const at::Tensor plain = loss_in_operations(images.mm(whole.t()), labels, all, m, 16);
      plain.backward();
      network -= 0.1 * whole.grad();
      weight -= 0.1 * (all.grad() + 0.3 * reference::minimal_angle_gradient(all));
      const double expected = plain.item<double>() + 0.3 * reference::minimal_angle_loss(all);

      own_network.mutable_grad() = head->weight.mutable_grad() = at::Tensor();
      reducer.prepare_for_forward();
      const at::Tensor embeddings = shard_of(images, batches, group).mm(own_network.t());
      at::Tensor loss = head(embeddings, shard_of(labels, batches, group));
      loss = loss + 0.3 * minimal_angle(head->weight);
      reducer.prepare_for_backward({});
      loss.backward();
      EXPECT_NEAR(loss.item<double>(), expected, 1e-10) << "step " << step;
      const at::NoGradGuard no_grad;
      own_network -= 0.1 * own_network.grad();
      head->weight -= 0.1 * head->weight.grad();
    }
    EXPECT_LT(relative_error(own_network.detach(), network), 1e-10);
    EXPECT_LT(relative_error(all_rows(head->weight.detach(), classes, group), weight), 1e-10);
  });
}

/// With a share of the classes the loss is the formula's of those that took part: their gradients are not zero.
TEST(DistributedArcFace, ASampleHasTheLabelsClassesAndOthers) {
  on_all_counts([](const Group& group) {
    const int64_t batch = 8, identities = 60;
    const at::Tensor x = numbers({batch, 5}, 80), labels = some_labels(batch, identities, 81),
                     weight = numbers({identities, 5}, 82);
    const Split classes = splits(identities, group->getSize()).back(),
                batches = splits(batch, group->getSize()).front();
    mma::DistributedArcFace head = make_head(group, weight, classes, {1, 0.5, 0}, 2, 0.25);
    at::Tensor before;
    for (int step = 0; step < 2; ++step) {
      head->weight.mutable_grad() = at::Tensor();
      const at::Tensor loss = head(shard_of(x, batches, group), shard_of(labels, batches, group));
      loss.backward();
      const at::Tensor gradients = all_rows(head->weight.grad(), classes, group).norm(2, {1}),
                       took_part = at::nonzero(gradients > 0).squeeze(1);
      EXPECT_LT(took_part.size(0), identities * 2 / 3);
      EXPECT_GE(took_part.size(0), identities / 4);
      const at::Tensor place = at::searchsorted(took_part, labels);
      ASSERT_TRUE(at::equal(took_part.index_select(0, place), labels)) << "every label's class takes part";
      EXPECT_NEAR(loss.item<double>(),
                  static_cast<double>(loss_formula(x, place, weight.index_select(0, took_part), {1, 0.5, 0}, 2)),
                  1e-10);
      if (before.defined()) {
        EXPECT_FALSE(at::equal(before, took_part)) << "the same classes again";
      }
      before = took_part;
    }
    head->eval();
    EXPECT_NEAR(head(shard_of(x, batches, group), shard_of(labels, batches, group)).item<double>(),
                static_cast<double>(loss_formula(x, labels, weight, {1, 0.5, 0}, 2)), 1e-10);
  });
}

TEST(DistributedArcFace, ASavedHeadGoesOnWithTheSameDraws) {
  on_processes(2, [](const Group& group) {
    const at::Tensor weight = numbers({40, 5}, 90), x = numbers({4, 5}, 91), labels = some_labels(4, 40, 92);
    const Split classes = splits(40, 2)[0];
    mma::DistributedArcFace head = make_head(group, weight, classes, {1, 0.5, 0}, 8, 0.2),
                            other = make_head(group, at::zeros_like(weight), classes, {1, 0.5, 0}, 8, 0.2);
    head(x, labels);
    std::stringstream file;
    torch::serialize::OutputArchive saved;
    head->save(saved);
    saved.save_to(file);
    torch::serialize::InputArchive loaded;
    loaded.load_from(file);
    other->load(loaded);
    EXPECT_EQ(head(x, labels).item<double>(), other(x, labels).item<double>());
  });
}

TEST(DistributedArcFace, ProcessesSeededAlikeDrawDifferentRows) {
  on_processes(4, [](const Group& group) {
    at::manual_seed(5);
    mma::DistributedArcFace head(group, mma::ArcFaceOptions(64, 402)), again(group, mma::ArcFaceOptions(64, 402));
    EXPECT_EQ(head->weight.size(0), group->getRank() < 2 ? 101 : 100);  // equal shares, the first one more
    EXPECT_EQ(head->first_identity(), std::vector<int64_t>({0, 101, 202, 302})[static_cast<size_t>(group->getRank())]);
    const Split split{"", {101, 101, 100, 100}};
    const at::Tensor rows = all_rows(head->weight.detach(), split, group);
    EXPECT_NEAR(rows.std().item<double>(), 0.01, 3e-4);
    EXPECT_LT(mma::minimal_angle_loss(rows).item<double>(), -0.5) << "rows of two processes are alike";
    EXPECT_FALSE(at::equal(head->weight, again->weight));
    at::manual_seed(5);
    mma::DistributedArcFace same(group, mma::ArcFaceOptions(64, 402));
    EXPECT_TRUE(at::equal(head->weight, same->weight));
  });
}

TEST(DistributedArcFace, HalvesAreComputedInFloat32) {
  on_processes(2, [](const Group& group) {
    const at::Tensor weight = numbers({20, 5}, 100), x = numbers({6, 5}, 101).to(at::kHalf),
                     labels = some_labels(6, 20, 102);
    mma::DistributedArcFace head = make_head(group, weight.to(at::kFloat), splits(20, 2)[0], {1, 0.5, 0}, 16);
    const at::Tensor own = shard_of(x, splits(6, 2)[0], group).requires_grad_();
    const at::Tensor loss = head(own, shard_of(labels, splits(6, 2)[0], group));
    loss.backward();
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_EQ(own.grad().scalar_type(), at::kHalf);
    EXPECT_NEAR(loss.item<double>(),
                static_cast<double>(loss_formula(x, labels, weight.to(at::kFloat), {1, 0.5, 0}, 16)), 1e-4);
  });
}

TEST(DistributedArcFace, NaNReachesEveryProcess) {
  on_processes(2, [](const Group& group) {
    at::Tensor weight = numbers({20, 5}, 110);
    weight[19][2] = std::numeric_limits<double>::quiet_NaN();
    mma::DistributedArcFace head = make_head(group, weight, splits(20, 2)[0], {1, 0.5, 0}, 16);
    EXPECT_TRUE(std::isnan(head(numbers({3, 5}, 111), some_labels(3, 20, 112)).item<double>()));
  });
}

TEST(DistributedArcFace, AMistakeOfOneProcessIsAnErrorOfAll) {
  on_processes(2, [](const Group& group) {
    const bool second = group->getRank() == 1;
    mma::DistributedArcFace head(group, mma::ArcFaceOptions(5, 20));
    const auto message = [&](const at::Tensor& x, const at::Tensor& labels) {
      return message_of([&] { head(x, labels); });
    };
    const at::Tensor x = at::ones({2, 5}), labels = at::zeros({2}, at::kLong);
    EXPECT_EQ(message(x, second ? labels + 20 : labels),
              second
                  ? "mma: ArcFace got the label 20; expected labels from 0 to 19."
                  : "mma: process 1 cannot take part; expected what it says about its own tensors to be mended there.");
    EXPECT_NE(message(second ? at::ones({2, 4}) : x, labels).find(second ? "[2, 4]" : "process 1"), std::string::npos);
    EXPECT_EQ(message(x.clone().requires_grad_(second), labels),
              "mma: process 1 has embeddings with requires_grad true, process 0 has false; expected the same on all "
              "processes.");
    EXPECT_EQ(message(x, labels), "nothing thrown");
    const auto made = [&](const mma::ArcFaceOptions& options, const mma::ShardOptions& shard) {
      return message_of([&] { mma::DistributedArcFace(group, options, shard); });
    };
    EXPECT_EQ(made({5, 20}, {.identities = 9}),
              "mma: DistributedArcFace's shards have 18 identities; expected 20, which is how many there are.");
    EXPECT_EQ(made({5, second ? 21 : 20}, {}),
              "mma: process 1 has an ArcFace with identities to the number of 21, process 0 has 20; expected the same "
              "on all processes.");
    EXPECT_EQ(made({5, 20}, {.sampled = 0}),
              "mma: DistributedArcFace's sampled share is 0; expected more than 0, at most 1.");
    EXPECT_EQ(made({5, 0}, {}), "mma: ArcFace of 0 identities and embeddings of 5; expected 1 or more of each.");
  });
}

/// A Regularizer sees the shard's rows alone: it leaves the head to DistributedMinimalAngle.
TEST(DistributedArcFace, ARegularizerLeavesItOut) {
  on_processes(1, [](const Group& group) {
    struct Network : torch::nn::Module {
      explicit Network(const Group& group) : head(group, mma::ArcFaceOptions(5, 20)) {
        register_module("hidden", hidden);
        register_module("head", head);
      }
      torch::nn::Linear hidden{6, 5};
      mma::DistributedArcFace head;
    };
    Network network(group);
    mma::Regularizer<> regularizer(network);
    ASSERT_EQ(regularizer.layers().size(), 1U);
    EXPECT_EQ(regularizer.layers()[0].name, "hidden");
    std::ostringstream line;
    network.head->pretty_print(line);
    EXPECT_EQ(line.str(),
              "mma::DistributedArcFace(embedding=5, identities=0 to 19 of 20, scale=64, margins=(1, 0.5, 0))");
  });
}

}  // namespace
