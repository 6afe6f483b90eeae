// What MMA's forward and gradient cost on a GPU for the weights of whole networks: the paper's formula through
// autograd, the library through LibTorch's operations, its own kernels at random weights and at MMA's optimum, and the
// floor, one plain product a layer. Measured in turn in one process, round after round. Prints Markdown: median
// milliseconds, the ratio to the paper's formula (median over the rounds), and the peak memory beyond weights and
// gradients.
#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <mma/detail/nearest/factory.hpp>
#include <mma/mma.hpp>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "measure.hpp"
#include "weight_sets.hpp"

namespace {

using namespace mma::benchmarks;

constexpr int rounds = 20, warm_up = 3;
const c10::Device gpu(c10::kCUDA, 0);

struct Rung {
  std::string name;
  std::function<Step(const Weights&)> make;
  Step step;  ///< empty where the memory does not suffice
  double megabytes = 0;
  std::vector<double> milliseconds;
};

std::shared_ptr<mma::Regularizer<>> regularizer_of(const Weights& weights) {
  auto regularizer = std::make_shared<mma::Regularizer<>>(mma::Options());
  for (size_t k = 0; k < weights.size(); ++k) regularizer->add(std::to_string(k), weights[k]);
  return regularizer;
}

/// By LibTorch's operations, as where the kernels cannot be had.
Step portable_step(const Weights& weights) {
  mma::detail::nearest::engine_maker() = mma::detail::nearest::portable::make;
  auto regularizer = regularizer_of(weights);
  regularizer->accumulate_gradient();  // the engine is made
  mma::detail::nearest::engine_maker() = {};
  return [regularizer] { regularizer->accumulate_gradient(); };
}

bool has_kernels() { return mma::detail::nearest::cuda::Engine::available(gpu, at::kFloat); }

Step kernels_step(const Weights& weights) {
  if (!has_kernels()) return {};
  return [regularizer = regularizer_of(weights)] { regularizer->accumulate_gradient(); };
}

Step backward_step(const Weights& weights) {
  if (!has_kernels()) return {};
  return [regularizer = regularizer_of(weights)] { regularizer->loss().backward(); };
}

/// At another set of weights of the same shapes.
std::function<Step(const Weights&)> kernels_step_at(WeightSet set, const WeightShapes& shapes) {
  return [=](const Weights&) -> Step {
    if (!has_kernels()) return {};
    const auto own = std::make_shared<Weights>(weights_of(set, shapes, gpu));
    return [own, step = kernels_step(*own)] { step(); };
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
  std::vector<Rung> rungs{{"the paper's formula through autograd", paper_step, {}, 0, {}},
                          {"LibTorch's operations", portable_step, {}, 0, {}},
                          {"kernels", kernels_step, {}, 0, {}},
                          {"kernels, through loss().backward()", backward_step, {}, 0, {}},
                          {"floor: one full float32 product a layer", floor_step, {}, 0, {}}};
  if (shapes.size() > 1) {
    for (const auto& [set, name] : weight_sets) {
      if (set != WeightSet::Random) {
        rungs.push_back({std::string("kernels, weights: ") + name, kernels_step_at(set, shapes), {}, 0, {}});
      }
    }
  }
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
