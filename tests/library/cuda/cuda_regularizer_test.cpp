// The regularizer on a GPU: through autograd, in CUDA graphs, on a stream of its own.
#include <gtest/gtest.h>
#include <mma/detail/nearest/cuda/engine.hpp>
#include <mma/mma.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda_graph.hpp"
#include "expectations.hpp"

namespace {

using expectations::random_rows;
using expectations::types;
using mma::detail::nearest::cuda::Engine;

const c10::Device the_gpu(c10::kCUDA, 0);

#define NEEDS_A_GPU() \
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU on this machine"

// Loss and backward of a regularizer; everything eager first, because a graph captured without a memory pool of its own
// may share memory with what is allocated later.
TEST(Cuda, ARegularizersBackwardCapturedInAGraphIsReplayed) {
  NEEDS_A_GPU();
  if (!Engine::available(the_gpu, at::kFloat)) GTEST_SKIP() << "the kernels cannot be compiled here (no NVRTC)";
  const CapturingStream capturing(the_gpu);
  std::vector<at::Tensor> states, weights;
  for (uint64_t state = 0; state < 4; ++state) states.push_back(random_rows(96, 75, state, at::kFloat));
  mma::Regularizer<> regularizer(mma::Options().coefficient(0.07));
  for (int layer = 0; layer < 3; ++layer) {
    weights.push_back(states[0].to(the_gpu).mul_(layer + 1).requires_grad_());
    weights.back().mutable_grad() = at::zeros_like(weights.back());
    regularizer.add("layer" + std::to_string(layer), weights.back());
  }
  const auto set_state = [&](size_t state) {
    const at::NoGradGuard no_grad;
    for (at::Tensor& weight : weights) weight.copy_(states[state]);
  };
  const auto step = [&] {
    for (const at::Tensor& weight : weights) weight.mutable_grad().zero_();
    at::Tensor loss = regularizer.loss();
    loss.backward();
    return loss;
  };
  std::vector<std::pair<at::Tensor, at::Tensor>> eager;
  for (size_t state = 1; state < 4; ++state) {
    set_state(state);
    const at::Tensor loss = step();
    eager.emplace_back(loss.detach().cpu(), weights[1].grad().cpu());
  }
  at::Tensor loss;
  const CudaGraph graph = capturing.capture([&] { loss = step(); });
  for (size_t state = 1; state < 4; ++state) {
    set_state(state);
    graph.replay();
    EXPECT_TRUE(loss.detach().cpu().equal(eager[state - 1].first));
    EXPECT_TRUE(weights[1].grad().cpu().equal(eager[state - 1].second));
  }
}

/// Layers of all types and memory formats on a device.
std::vector<at::Tensor> mixed_weights(c10::Device device) {
  std::vector<at::Tensor> weights;
  uint64_t seed = 0;
  for (const auto type : types) {
    weights.push_back(random_rows(33, 20, ++seed, type));
    weights.push_back(random_rows(12, 45, ++seed, type).view({12, 5, 3, 3}));
    weights.push_back(weights.back().contiguous(at::MemoryFormat::ChannelsLast));
    weights.push_back(random_rows(40, 9, ++seed, type).t());
  }
  for (at::Tensor& weight : weights) weight = weight.to(device).requires_grad_();
  return weights;
}

mma::Regularizer<> regularizer_over(const std::vector<at::Tensor>& weights, const mma::Options& options = {}) {
  mma::Regularizer<> regularizer(options);
  for (size_t k = 0; k < weights.size(); ++k) regularizer.add("layer" + std::to_string(k), weights[k]);
  return regularizer;
}

void expect_equal_gradients(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& wanted) {
  for (size_t k = 0; k < actual.size(); ++k) {
    const at::Tensor expected = wanted[k].grad().to(at::kDouble), grad = actual[k].grad().cpu().to(at::kDouble);
    const auto type = actual[k].scalar_type();
    const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 1e-5 : 2e-2;
    EXPECT_LE((grad - expected).norm().item<double>(), tolerance * expected.norm().item<double>()) << k;
  }
}

TEST(Cuda, ARegularizerIsAsOnTheCpu) {
  NEEDS_A_GPU();
  const std::vector<at::Tensor> weights = mixed_weights(the_gpu), on_cpu = mixed_weights(at::kCPU);
  mma::Regularizer<> regularizer = regularizer_over(weights), reference = regularizer_over(on_cpu);
  for (int round = 0; round < 2; ++round) {  // makes .grad, then adds to it
    const at::Tensor loss = regularizer.loss(), expected = reference.loss();
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-5);
    loss.backward();
    expected.backward();
    expect_equal_gradients(weights, on_cpu);
    EXPECT_NEAR(regularizer.accumulate_gradient(0.5).item<double>(), expected.item<double>(), 1e-5);
    reference.accumulate_gradient(0.5);
    expect_equal_gradients(weights, on_cpu);
  }
}

TEST(Cuda, ASearchBesideTheForwardPassFindsTheSame) {
  NEEDS_A_GPU();
  const std::vector<at::Tensor> weights = mixed_weights(the_gpu), copies = mixed_weights(the_gpu);
  mma::Regularizer<> beside = regularizer_over(weights, mma::Options().concurrent(true)),
                     plain = regularizer_over(copies);
  at::Tensor work = at::ones({2048, 2048}, the_gpu);
  for (int step = 0; step < 4; ++step) {
    beside.start();
    work = work.mm(work) / 2048;
    if (step == 2) {  // a change after start() is seen
      const at::NoGradGuard no_grad;
      weights[0].neg_();
      copies[0].neg_();
    }
    EXPECT_TRUE(beside.accumulate_gradient().equal(plain.accumulate_gradient())) << step;
    const at::NoGradGuard no_grad;
    for (size_t k = 0; k < weights.size(); ++k) {
      EXPECT_TRUE(weights[k].grad().equal(copies[k].grad())) << step << ", layer " << k;
      weights[k].add_(weights[k].grad(), -1);
      copies[k].add_(copies[k].grad(), -1);
    }
  }
  beside.start();  // and never taken
}

// With refresh_every a step that searches and one that keeps the pairs are two graphs.
TEST(Cuda, RefreshEveryIsTwoGraphs) {
  NEEDS_A_GPU();
  if (!Engine::available(the_gpu, at::kFloat)) GTEST_SKIP() << "the kernels cannot be compiled here (no NVRTC)";
  const CapturingStream capturing(the_gpu);
  std::vector<at::Tensor> captured, eager;
  for (uint64_t layer = 0; layer < 3; ++layer) {
    captured.push_back(random_rows(96, 75, layer, at::kFloat).to(the_gpu).requires_grad_());
    eager.push_back(captured.back().detach().clone().requires_grad_());
  }
  const auto options = mma::Options().coefficient(1).refresh_every(2);
  mma::Regularizer<> in_graphs = regularizer_over(captured, options), plain = regularizer_over(eager, options);
  const auto step = [](mma::Regularizer<>& regularizer, const std::vector<at::Tensor>& weights) {
    regularizer.accumulate_gradient();
    const at::NoGradGuard no_grad;
    for (const at::Tensor& weight : weights) {
      weight.add_(weight.grad(), -5);
      weight.grad().zero_();
    }
  };
  std::vector<std::vector<at::Tensor>> expected;  // first, as above
  for (int round = 0; round < 4; ++round) {
    step(plain, eager);
    step(plain, eager);
    expected.emplace_back();
    for (const at::Tensor& weight : eager) expected.back().push_back(weight.detach().cpu());
  }
  step(in_graphs, captured);  // kernels are loaded, .grad is there
  step(in_graphs, captured);
  const CudaGraph searches = capturing.capture([&] { step(in_graphs, captured); });
  const CudaGraph keeps = capturing.capture([&] { step(in_graphs, captured); });
  for (size_t round = 1; round < 4; ++round) {
    searches.replay();
    keeps.replay();
    for (size_t k = 0; k < captured.size(); ++k) {
      EXPECT_TRUE(captured[k].detach().cpu().equal(expected[round][k])) << round << ", layer " << k;
    }
  }
}

}  // namespace
