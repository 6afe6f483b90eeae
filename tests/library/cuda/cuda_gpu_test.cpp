// The CUDA engine on a GPU; what happens where there is none.
#include <c10/core/CachingDeviceAllocator.h>
#include <gtest/gtest.h>
#include <mma/detail/nearest/cuda/engine.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda_graph.hpp"
#include "emulated_launcher.hpp"
#include "expectations.hpp"

namespace {

using expectations::all_matrices;
using expectations::factors_of;
using expectations::objectives;
using expectations::plan_of;
using expectations::random_rows;
using expectations::types;
using expectations::zeros_like;
using mma::detail::nearest::Found;
using mma::detail::nearest::Plan;
using mma::detail::nearest::cuda::Engine;

const c10::Device gpu(c10::kCUDA, 0);

#define NEEDS_A_GPU() \
  if (!at::hasCUDA()) GTEST_SKIP() << "no GPU on this machine"

Plan on_gpu(Plan plan) {
  for (auto& matrix : plan.matrices) matrix.rows = matrix.rows.to(gpu);
  return plan;
}

TEST(Cuda, KeepsTheContractAndAgreesWithTheEmulator) {
  NEEDS_A_GPU();
  for (const auto type : types) {
    for (const auto& objective : objectives) {
      const Plan plan = plan_of(all_matrices(type), objective), there = on_gpu(plan);
      const at::Tensor factors = factors_of(plan);
      Engine engine(there);
      std::vector<at::Tensor> gradients = zeros_like(there);
      const Found found = engine.find({});
      engine.add_gradient(found, gradients, factors.to(gpu) * 2, 0.5);
      expectations::expect_keeps_the_contract(plan, found, gradients, factors);
      // Sums are in another order, so of rows as near as each other another may win.
      const Found emulated = emulated_engine(plan)->find({});
      const double apart = (found.angles.cpu() - emulated.angles).abs().max().item<double>();
      EXPECT_LE(objective.half_space ? 0 : apart, type == at::kDouble ? 1e-9 : 1e-4);
    }
  }
}

TEST(Cuda, TwoPassesGiveTheSameBits) {
  NEEDS_A_GPU();
  const Plan plan = on_gpu(plan_of(all_matrices(at::kFloat)));
  const at::Tensor factors = factors_of(plan).to(gpu);
  std::vector<at::Tensor> first = zeros_like(plan), second = zeros_like(plan);
  const Found a = Engine(plan).find_and_add_gradient(first, factors, 1, {});
  Found b = Engine(plan).find({});
  EXPECT_TRUE(a.values.equal(b.values));
  EXPECT_TRUE(a.nearest.equal(b.nearest));
  b.values.reset();  // as through autograd
  Engine(plan).add_gradient(b, second, factors, 1);
  for (size_t m = 0; m < first.size(); ++m) EXPECT_TRUE(first[m].equal(second[m])) << m;
}

/// Weights that change in place, and what eager passes give for each of their states.
TEST(Cuda, APassCapturedInAGraphIsReplayed) {
  NEEDS_A_GPU();
  const Plan plan = on_gpu(plan_of(all_matrices(at::kFloat)));
  Engine engine(plan);
  const at::Tensor factors = factors_of(plan).to(gpu);
  const auto pass = [&](std::vector<at::Tensor>& gradients) {
    for (at::Tensor& gradient : gradients) gradient.zero_();
    return engine.find_and_add_gradient(gradients, factors, 1, {});
  };
  const auto change = [&](int step) {
    for (const auto& matrix : plan.matrices)
      at::Tensor(matrix.rows).copy_(matrix.rows.roll(1, 0)).mul_(1.0 + 0.1 * step);
  };
  const CapturingStream capturing(gpu);
  std::vector<at::Tensor> eager = zeros_like(plan), captured = zeros_like(plan);
  pass(captured);
  Found found;
  const CudaGraph graph = capturing.capture([&] { found = pass(captured); });
  for (int step = 1; step <= 3; ++step) {
    change(step);
    graph.replay();
    const Found expected = pass(eager);
    EXPECT_TRUE(found.values.equal(expected.values));
    EXPECT_TRUE(found.nearest.equal(expected.nearest));
    for (size_t m = 0; m < eager.size(); ++m) EXPECT_TRUE(captured[m].equal(eager[m])) << m;
  }
}

TEST(Cuda, ManyRowsNeedLittleMemory) {
  NEEDS_A_GPU();
  const at::Tensor rows = random_rows(20000, 64, 1, at::kFloat);
  const Plan plan = on_gpu(plan_of({rows}));
  auto* allocator = at::getDeviceAllocator(gpu.type());
  const auto allocated = [&] { return allocator->getDeviceStats(0).allocated_bytes[0]; };
  allocator->resetPeakStats(0);
  const int64_t before = allocated().current;
  Engine engine(plan);
  const Found found = engine.find({});
  EXPECT_LT(allocated().peak - before, 12 << 20);  // all cosines would be 1.6 GB
  const at::Tensor unit = rows.to(at::kDouble) / rows.to(at::kDouble).norm(2, {1}, true);
  for (const int64_t r : {0, 63, 64, 9999, 19999}) {
    at::Tensor cosines = unit.mv(unit[r]);
    cosines[r] = -2;
    const double given = cosines[found.nearest[r].item<int64_t>()].item<double>();
    EXPECT_LE(std::acos(given), std::acos(cosines.max().item<double>()) + 1e-4);
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
  mma::detail::nearest::cuda::KernelCache cache;
  EXPECT_EQ(cache.kernels(gpu, at::kFloat), nullptr);
  EXPECT_EQ(cache.kernels(gpu, at::kHalf), nullptr);
  ASSERT_EQ(warnings.messages.size(), 1u);
  EXPECT_NE(warnings.messages[0].find("the slower path is taken"), std::string::npos) << warnings.messages[0];
}

}  // namespace
