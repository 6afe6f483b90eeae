// The pass over a network on a GPU; what happens where there is none.
#include <c10/core/CachingDeviceAllocator.h>
#include <gtest/gtest.h>
#include <mma/detail/cuda_network.hpp>
#include <mma/mma.hpp>

#include <string>
#include <utility>
#include <vector>

#include "cuda_graph.hpp"
#include "emulated_launcher.hpp"
#include "pass_expectations.hpp"

namespace {

using expectations::objectives;
using expectations::plan_of;
using expectations::random_rows;
using expectations::types;
using mma::SearchPrecision;
using mma::detail::CudaNetwork;
using mma::detail::FoundPairs;
using mma::detail::PairPlan;

const c10::Device gpu(c10::kCUDA, 0);

#define NEEDS_A_GPU() \
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU on this machine"

constexpr SearchPrecision precisions[] = {SearchPrecision::Float32, SearchPrecision::TF32, SearchPrecision::BFloat16};

std::vector<at::Tensor> all_matrices(at::ScalarType type) {
  std::vector<at::Tensor> result = expectations::awkward_matrices(type);
  for (const at::Tensor& rows : expectations::special_matrices(type)) result.push_back(rows);
  return result;
}

PairPlan on_gpu(PairPlan plan) {
  for (auto& matrix : plan.matrices) matrix.rows = matrix.rows.to(gpu);
  return plan;
}

std::vector<at::Tensor> zeros_like(const PairPlan& plan) {
  std::vector<at::Tensor> result;
  for (const auto& matrix : plan.matrices) result.push_back(at::zeros_like(matrix.rows));
  return result;
}

TEST(Cuda, APassOverANetworkIsAsOnTheCpu) {
  NEEDS_A_GPU();
  for (const auto type : types) {
    for (const auto& objective : objectives) {
      const PairPlan plan = plan_of(all_matrices(type), objective);
      for (const auto precision : precisions) {
        CudaNetwork network(on_gpu(plan), precision);
        std::vector<at::Tensor> gradients = zeros_like(on_gpu(plan));
        const FoundPairs found = network.find({});
        network.add_gradient(found, gradients, at::scalar_tensor(2.0, gpu), 0.5);
        expectations::expect_equals_the_cpu(plan, found, gradients);
        CudaNetwork emulated(plan, precision, std::make_shared<EmulatedLauncher>(type, precision, 1));
        EXPECT_TRUE(found.nearest.cpu().equal(emulated.find({}).nearest));
      }
    }
  }
}

TEST(Cuda, TwoPassesGiveTheSameBits) {
  NEEDS_A_GPU();
  const PairPlan plan = on_gpu(plan_of(all_matrices(at::kFloat), {}));
  for (const auto precision : precisions) {
    std::vector<at::Tensor> first = zeros_like(plan), second = zeros_like(plan);
    CudaNetwork network(plan, precision), other(plan, precision);
    const FoundPairs a = network.find({}), b = other.find({});
    network.add_gradient(a, first, {}, 1);
    other.add_gradient(b, second, {}, 1);
    EXPECT_TRUE(a.value.equal(b.value));
    EXPECT_TRUE(a.nearest.equal(b.nearest));
    for (size_t m = 0; m < first.size(); ++m) EXPECT_TRUE(first[m].equal(second[m])) << m;
  }
}

/// Weights that change in place, and what eager passes give for each of their states.
TEST(Cuda, APassCapturedInAGraphIsReplayed) {
  NEEDS_A_GPU();
  const PairPlan plan = on_gpu(plan_of(all_matrices(at::kFloat), {}));
  CudaNetwork network(plan, SearchPrecision::Float32);
  const auto pass = [&](std::vector<at::Tensor>& gradients) {
    for (at::Tensor& gradient : gradients) gradient.zero_();
    const FoundPairs found = network.find({});
    network.add_gradient(found, gradients, {}, 1);
    return found;
  };
  const auto change = [&](int step) {
    for (const auto& matrix : plan.matrices)
      at::Tensor(matrix.rows).copy_(matrix.rows.roll(1, 0)).mul_(1.0 + 0.1 * step);
  };
  const CapturingStream capturing(gpu);
  std::vector<at::Tensor> eager = zeros_like(plan), captured = zeros_like(plan);
  pass(captured);
  FoundPairs found;
  const CudaGraph graph = capturing.capture([&] { found = pass(captured); });
  for (int step = 1; step <= 3; ++step) {
    change(step);
    graph.replay();
    const FoundPairs expected = pass(eager);
    EXPECT_TRUE(found.value.equal(expected.value));
    EXPECT_TRUE(found.nearest.equal(expected.nearest));
    for (size_t m = 0; m < eager.size(); ++m) EXPECT_TRUE(captured[m].equal(eager[m])) << m;
  }
}

// Loss and backward of a regularizer; everything eager first, because a graph captured without a memory pool of its own
// may share memory with what is allocated later.
TEST(Cuda, ARegularizersBackwardCapturedInAGraphIsReplayed) {
  NEEDS_A_GPU();
  if (!CudaNetwork::available(gpu, at::kFloat)) GTEST_SKIP() << "the kernels cannot be compiled here (no NVRTC)";
  const CapturingStream capturing(gpu);
  std::vector<at::Tensor> states, weights;
  for (uint64_t state = 0; state < 4; ++state) states.push_back(random_rows(96, 75, state, at::kFloat));
  mma::Regularizer<> regularizer(mma::Options().coefficient(0.07));
  for (int layer = 0; layer < 3; ++layer) {
    weights.push_back(states[0].to(gpu).mul_(layer + 1).requires_grad_());
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

mma::Regularizer<> regularizer_of(const std::vector<at::Tensor>& weights, const mma::Options& options = {}) {
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
  const std::vector<at::Tensor> weights = mixed_weights(gpu), on_cpu = mixed_weights(at::kCPU);
  mma::Regularizer<> regularizer = regularizer_of(weights), reference = regularizer_of(on_cpu);
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
  const std::vector<at::Tensor> weights = mixed_weights(gpu), copies = mixed_weights(gpu);
  mma::Regularizer<> beside = regularizer_of(weights, mma::Options().concurrent(true)), plain = regularizer_of(copies);
  at::Tensor work = at::ones({2048, 2048}, gpu);
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
  if (!CudaNetwork::available(gpu, at::kFloat)) GTEST_SKIP() << "the kernels cannot be compiled here (no NVRTC)";
  const CapturingStream capturing(gpu);
  std::vector<at::Tensor> captured, eager;
  for (uint64_t layer = 0; layer < 3; ++layer) {
    captured.push_back(random_rows(96, 75, layer, at::kFloat).to(gpu).requires_grad_());
    eager.push_back(captured.back().detach().clone().requires_grad_());
  }
  const auto options = mma::Options().coefficient(1).refresh_every(2);
  mma::Regularizer<> in_graphs = regularizer_of(captured, options), plain = regularizer_of(eager, options);
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

TEST(Cuda, ManyRowsNeedLittleMemory) {
  NEEDS_A_GPU();
  const at::Tensor rows = random_rows(20000, 64, 1, at::kFloat);
  const PairPlan plan = on_gpu(plan_of({rows}, {}));
  auto* allocator = at::getDeviceAllocator(gpu.type());
  const auto allocated = [&] { return allocator->getDeviceStats(0).allocated_bytes[0]; };
  allocator->resetPeakStats(0);
  const int64_t before = allocated().current;
  CudaNetwork network(plan, SearchPrecision::Float32);
  const FoundPairs found = network.find({});
  EXPECT_LT(allocated().peak - before, 8 << 20);  // all cosines would be 1.6 GB
  const at::Tensor unit = rows.to(at::kDouble) / rows.to(at::kDouble).norm(2, {1}, true);
  for (const int64_t r : {0, 63, 64, 9999, 19999}) {
    at::Tensor cosines = unit.mv(unit[r]);
    cosines[r] = -2;
    EXPECT_EQ(found.nearest[r].item<int64_t>(), cosines.argmax().item<int64_t>());
  }
}

/// What is warned of while it lives.
class Warnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override { messages.push_back(warning.msg()); }
  std::vector<std::string> messages;
};

TEST(CudaKernels, WithoutAGpuThereIsOneWarningAndNoLauncher) {
  if (at::hasCUDA()) GTEST_SKIP() << "there is a GPU on this machine";
  Warnings warnings;
  const c10::WarningUtils::WarningHandlerGuard guard(&warnings);
  mma::detail::CudaCompiler compiler;
  EXPECT_EQ(compiler.kernels(gpu, at::kFloat, SearchPrecision::Float32), nullptr);
  EXPECT_EQ(compiler.kernels(gpu, at::kHalf, SearchPrecision::TF32), nullptr);
  ASSERT_EQ(warnings.messages.size(), 1u);
  EXPECT_NE(warnings.messages[0].find("the slower path is taken"), std::string::npos) << warnings.messages[0];
}

}  // namespace
