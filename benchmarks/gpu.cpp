// What MMA's forward and gradient cost on a GPU for the weights of whole networks: the paper's formula through
// autograd, the library through LibTorch's batched operations, its own kernels with each search, and the floor, one
// plain product a layer. Measured in turn in one process, round after round. Prints Markdown: median milliseconds, the
// ratio to the paper's formula (median over the rounds), and the peak memory beyond weights and gradients.
#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <mma/detail/cuda_network.hpp>
#include <mma/mma.hpp>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "measure.hpp"

namespace {

using namespace mma::benchmarks;
using mma::SearchPrecision;

constexpr int rounds = 20, warm_up = 3;
const c10::Device gpu(c10::kCUDA, 0);

struct Rung {
  std::string name;
  std::function<Step(const Weights&)> make;
  Step step;  ///< empty where the memory does not suffice
  double megabytes = 0;
  std::vector<double> milliseconds;
};

/// MinimalAngle as a user's own objective: taken through LibTorch's operations, batch by batch.
struct Batched {
  mma::MinimalAngle angle;
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const { return angle(rows, usable); }
  std::pair<at::Tensor, at::Tensor> value_and_gradient(const at::Tensor& rows, const at::Tensor& usable,
                                                       const at::Tensor& grad_output) const {
    return angle.value_and_gradient(rows, usable, grad_output);
  }
};

Step batched_step(const Weights& weights) {
  auto regularizer = std::make_shared<mma::Regularizer<Batched>>(mma::Options());
  for (size_t k = 0; k < weights.size(); ++k) regularizer->add(std::to_string(k), weights[k]);
  return [regularizer] { regularizer->accumulate_gradient(); };
}

std::function<Step(const Weights&)> kernels_step(SearchPrecision precision, bool through_autograd = false) {
  return [=](const Weights& weights) -> Step {
    if (!mma::detail::CudaNetwork::available(gpu, at::kFloat, precision)) return {};
    auto regularizer = std::make_shared<mma::Regularizer<>>(mma::Options().search_precision(precision));
    for (size_t k = 0; k < weights.size(); ++k) regularizer->add(std::to_string(k), weights[k]);
    if (through_autograd) return [regularizer] { regularizer->loss().backward(); };
    return [regularizer] { regularizer->accumulate_gradient(); };
  };
}

Step floor_step(const Weights& weights) {
  size_t largest = 0;
  for (const at::Tensor& weight : weights) largest = std::max(largest, static_cast<size_t>(weight.size(0)));
  const auto side = static_cast<int64_t>(largest);
  const at::Tensor products = at::empty({side * side}, weights.front().options().requires_grad(false));
  return [&weights, products] {
    for (const at::Tensor& weight : weights) {
      const at::Tensor rows = weight.detach().flatten(1);
      const int64_t n = rows.size(0);
      at::Tensor product = products.narrow(0, 0, n * n).view({n, n});
      at::mm_out(product, rows, rows.t());
    }
  };
}

void wait() { c10::impl::VirtualGuardImpl(gpu.type()).getStream(gpu).synchronize(); }

c10::CachingDeviceAllocator::Stat allocated() {
  return at::getDeviceAllocator(gpu.type())->getDeviceStats(0).allocated_bytes[0];
}

/// Makes the step and takes it once, for its peak of memory. Gives up where the memory does not suffice.
void prepare(Rung& rung, const Weights& weights) {
  at::getDeviceAllocator(gpu.type())->resetPeakStats(0);
  const int64_t before = allocated().current;
  try {
    rung.step = rung.make(weights);
    if (rung.step) rung.step();
    wait();
  } catch (const c10::OutOfMemoryError&) {
    rung.step = {};
  }
  rung.megabytes = static_cast<double>(allocated().peak - before) / (1 << 20);
}

double milliseconds_with_the_gpu(const Step& step) {
  wait();
  return milliseconds_of([&] {
    step();
    wait();
  });
}

void print(const Rung& rung, const Rung& formula) {
  if (!rung.step) {
    std::printf("| %s | not run: %s | | |\n", rung.name.c_str(),
                rung.megabytes > 0 ? "the memory does not suffice" : "no kernels here");
    return;
  }
  std::string ratio = "formula not run";
  if (formula.step) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", median_ratio(formula.milliseconds, rung.milliseconds));
    ratio = text;
  }
  std::printf("| %s | %.3f | %s | %.1f |\n", rung.name.c_str(), median(rung.milliseconds), ratio.c_str(),
              rung.megabytes);
}

void measure(const std::string& network, const WeightShapes& shapes) {
  const Weights weights = random_weights(shapes, gpu);
  std::vector<Rung> rungs{
      {"the paper's formula through autograd", paper_step, {}, 0, {}},
      {"LibTorch's operations, batched", batched_step, {}, 0, {}},
      {"kernels, float32 search", kernels_step(SearchPrecision::Float32), {}, 0, {}},
      {"kernels, TF32 search", kernels_step(SearchPrecision::TF32), {}, 0, {}},
      {"kernels, bfloat16 search", kernels_step(SearchPrecision::BFloat16), {}, 0, {}},
      {"the same through loss().backward()", kernels_step(SearchPrecision::BFloat16, true), {}, 0, {}},
      {"floor: one full float32 product a layer", floor_step, {}, 0, {}}};
  for (Rung& rung : rungs) prepare(rung, weights);
  for (int round = 0; round < warm_up + rounds; ++round) {
    for (Rung& rung : rungs) {
      if (!rung.step) continue;
      const double milliseconds = milliseconds_with_the_gpu(rung.step);
      if (round >= warm_up) rung.milliseconds.push_back(milliseconds);
    }
  }
  std::printf("\n### %s\n\n| | ms | times faster than the formula | MiB beyond weights and gradients |\n",
              network.c_str());
  std::printf("|---|---:|---:|---:|\n");
  for (const Rung& rung : rungs) print(rung, rungs.front());
  std::fflush(stdout);
}

}  // namespace

int main() {
  if (!at::hasCUDA()) {
    std::fprintf(stderr, "bench-gpu: LibTorch finds no GPU on this machine, so there is nothing to measure\n");
    return 1;
  }
  std::printf("Medians of %d rounds, float32 weights, forward and gradient.\n", rounds);
  for (const char* network : {"vgg19-bn", "resnet56", "wrn-28-10", "densenet-40-12"}) {
    measure(network, weight_shapes(network));
  }
  measure("a classifier, 85,742 x 512", {{85742, 512}});
  return 0;
}
