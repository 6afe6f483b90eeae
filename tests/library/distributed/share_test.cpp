// Options().share(rank, world_size) on 1, 2 and 4 processes: after what a data-parallel training does with gradients,
// each weight's is that of one process over the whole batch with the whole regularizer, by the paper's formula (Eq 6,
// Eq 8).
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/activation.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <mma/mma.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "on_processes.hpp"
#include "reference.hpp"
#include "shards.hpp"

namespace {

using distributed::Group;
using distributed::on_all_counts;
using distributed::relative_error;
using distributed::shard_of;
using distributed::Split;

constexpr double coefficient = 0.3;

/// Layers of different cost, the output layer too; the same weights on every process.
struct Network : torch::nn::Module {
  Network() {
    register_module("convolution", convolution);
    register_module("first", first);
    register_module("second", second);
    register_module("output", output);
    to(at::kDouble);
    mma::RandomDraws draws{7};
    const at::NoGradGuard no_grad;
    for (at::Tensor& parameter : parameters()) parameter.copy_(0.3 * draws.normal(parameter.sizes()));
  }

  at::Tensor forward(const at::Tensor& images) {
    const at::Tensor features = convolution(images).relu().flatten(1);
    return output(second(first(features).relu()).relu());
  }

  torch::nn::Conv2d convolution{torch::nn::Conv2dOptions(2, 5, 3)};
  torch::nn::Linear first{20, 9}, second{9, 7}, output{7, 4};
};

at::Tensor images() { return mma::RandomDraws{8}.normal({12, 2, 4, 4}); }
at::Tensor targets() { return mma::RandomDraws{9}.normal({12, 4}); }

/// The mean over a batch.
at::Tensor data_loss(Network& network, const at::Tensor& inputs, const at::Tensor& wanted) {
  return (network.forward(inputs) - wanted).square().mean();
}

/// One process's gradients of data loss + coefficient * sum over layers of Eq 6.
std::vector<at::Tensor> expected_gradients() {
  Network network;
  data_loss(network, images(), targets()).backward();
  std::vector<at::Tensor> result;
  for (const at::Tensor& parameter : network.parameters()) {
    at::Tensor gradient = parameter.grad().clone();
    if (parameter.dim() >= 2) {
      gradient += coefficient * reference::minimal_angle_gradient(parameter.detach().flatten(1)).view_as(gradient);
    }
    result.push_back(gradient);
  }
  return result;
}

/// One process in a data-parallel training: its part of the batch and its share of the layers.
struct Part {
  explicit Part(const Group& its_group, const mma::Options& options = {})
      : group(its_group),
        regularizer(network, mma::Options(options).coefficient(coefficient).share(group->getRank(), group->getSize())) {
    const Split split{"", std::vector<int64_t>(static_cast<size_t>(group->getSize()), 12 / group->getSize())};
    inputs = shard_of(images(), split, group);
    wanted = shard_of(targets(), split, group);
  }

  at::Tensor loss() { return data_loss(network, inputs, wanted); }

  /// The mean of the gradients over the processes, by hand.
  void average() {
    for (const at::Tensor& parameter : network.parameters()) {
      std::vector<at::Tensor> gradient{parameter.grad()};
      group->allreduce(gradient)->wait();
      gradient[0].div_(group->getSize());
    }
  }

  void expect_one_processs() {
    const std::vector<at::Tensor> expected = expected_gradients();
    for (size_t k = 0; k < expected.size(); ++k) {
      EXPECT_LT(relative_error(network.parameters()[k].grad(), expected[k]), 1e-10)
          << network.named_parameters()[k].key();
    }
  }

  Group group;
  Network network;
  mma::Regularizer<> regularizer;
  at::Tensor inputs, wanted;
};

TEST(Share, OfTheLossIsOneProcesssAfterTheMean) {
  on_all_counts([](const Group& group) {
    Part part(group);
    at::Tensor loss = part.loss();
    loss = loss + part.regularizer.loss();
    loss.backward();
    part.average();
    part.expect_one_processs();
  });
}

TEST(Share, AddedToTheGradientIsOneProcesssAfterTheMean) {
  on_all_counts([](const Group& group) {
    Part part(group);
    part.loss().backward();
    part.regularizer.accumulate_gradient();  // before the mean
    part.average();
    part.expect_one_processs();
  });
}

TEST(Share, BegunBeforeTheForwardPassIsTheSame) {
  on_all_counts([](const Group& group) {
    for (const bool in_loss : {false, true}) {
      Part part(group, mma::Options().concurrent(true));
      part.regularizer.start();
      at::Tensor loss = part.loss();
      if (in_loss) loss = loss + part.regularizer.loss();
      loss.backward();
      if (!in_loss) part.regularizer.accumulate_gradient();
      part.average();
      part.expect_one_processs();
    }
  });
}

/// LibTorch's own: buckets that are sent while backward() goes on. What it takes the mean of must be in the loss.
TEST(Share, GoesThroughAReducer) {
  on_all_counts([](const Group& group) {
    Part part(group);
    const std::vector<at::Tensor> parameters = part.network.parameters();
    std::vector<std::vector<size_t>> buckets;
    for (size_t k = parameters.size(); k > 0; k -= 2) buckets.push_back({k - 1, k - 2});
    c10d::Reducer reducer(parameters, buckets, group, std::vector<bool>(parameters.size(), false), 1 << 20, false,
                          false, {}, 1 << 20, false, false, {});
    for (int step = 0; step < 2; ++step) {
      part.network.zero_grad();
      reducer.prepare_for_forward();
      at::Tensor loss = part.loss();
      loss = loss + part.regularizer.loss();
      reducer.prepare_for_backward({});
      loss.backward();
      part.expect_one_processs();
    }
  });
}

/// The processes' values are shares: their mean is the whole.
TEST(Share, OfTheValueIsAShareOfTheWhole) {
  on_all_counts([](const Group& group) {
    Part part(group);
    std::vector<at::Tensor> value{part.regularizer.loss().detach().to(at::kDouble)};
    group->allreduce(value)->wait();
    double expected = 0;
    for (const at::Tensor& parameter : part.network.parameters()) {
      if (parameter.dim() >= 2) expected += coefficient * reference::minimal_angle_loss(parameter.detach().flatten(1));
    }
    EXPECT_NEAR(value[0].item<double>() / group->getSize(), expected, 1e-12);
  });
}

}  // namespace
