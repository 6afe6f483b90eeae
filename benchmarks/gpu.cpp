// What MMA's forward and gradient cost on a GPU for the weights of whole networks: the paper's formula through
// autograd, the library through LibTorch's operations, its own kernels at random weights and at MMA's optimum, and the
// floor, one plain product a layer. Measured in turn in one process, round after round. Prints Markdown: median
// milliseconds, the ratio to the paper's formula (median over the rounds), and the peak memory beyond weights and
// gradients; then each kernel's microseconds.
//
//   bench-gpu [--csv FILE]    the same as rows of a table too
//   bench-gpu --passes NET    a few passes over one network's weights and nothing else, for a profiler
#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <mma/detail/nearest/factory.hpp>
#include <mma/mma.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
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

using mma::detail::nearest::cuda::Kernel;
using mma::detail::nearest::cuda::kernel_names;
using mma::detail::nearest::cuda::KernelLauncher;

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

/// The table's rows, where one is asked for.
std::ofstream& csv() {
  static std::ofstream file;
  return file;
}

void write_row(const std::string& network, const std::string& what, double milliseconds, const std::string& ratio,
               double megabytes) {
  csv() << network << ",\"" << what << "\"," << milliseconds << ',' << ratio << ',' << megabytes << '\n';
}

/// Launches each kernel many times between two events of the GPU's; the gradient is added as often.
class TimingLauncher final : public KernelLauncher {
 public:
  explicit TimingLauncher(std::shared_ptr<KernelLauncher> launcher) : launcher_(std::move(launcher)) {}

  void launch(Kernel kernel, int64_t blocks, int threads, void** arguments) override {
    constexpr int times = 20;
    const c10::Stream stream = c10::impl::VirtualGuardImpl(gpu.type()).getStream(gpu);
    c10::Event begin(gpu.type(), c10::EventFlag::BACKEND_DEFAULT), end(gpu.type(), c10::EventFlag::BACKEND_DEFAULT);
    launcher_->launch(kernel, blocks, threads, arguments);
    begin.record(stream);
    for (int time = 0; time < times; ++time) launcher_->launch(kernel, blocks, threads, arguments);
    end.record(stream);
    end.synchronize();
    microseconds.at(static_cast<size_t>(kernel)) = 1e3 * begin.elapsedTime(end) / times;
  }

  int multiprocessors() const override { return launcher_->multiprocessors(); }

  std::array<double, kernel_names.size()> microseconds{};

 private:
  std::shared_ptr<KernelLauncher> launcher_;
};

std::array<double, kernel_names.size()> kernel_microseconds(const Weights& weights) {
  mma::detail::nearest::Plan plan;
  plan.objective = {-1, 0, false, false};
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& weight : weights) {
    plan.matrices.push_back({weight.detach().flatten(1), plan.matrices.size()});
    gradients.push_back(at::zeros_like(plan.matrices.back().rows));
  }
  const auto launcher =
      std::make_shared<TimingLauncher>(mma::detail::nearest::cuda::stream_launcher(gpu, weights.front().scalar_type()));
  mma::detail::nearest::cuda::Engine engine(plan, launcher);
  const at::Tensor factors =
      at::ones({static_cast<int64_t>(plan.layers())}, at::TensorOptions(at::kDouble).device(gpu));
  engine.find_and_add_gradient(gradients, factors, 1, {});
  return launcher->microseconds;
}

/// A column each for the sets of weights, and for rows in bfloat16.
void measure_kernels(const std::string& network, const WeightShapes& shapes) {
  if (!has_kernels()) return;
  std::vector<std::pair<std::string, std::array<double, kernel_names.size()>>> columns;
  for (const auto& [set, name] : weight_sets) {
    if (shapes.size() > 1 || set == WeightSet::Random) {
      const Weights weights = weights_of(set, shapes, gpu);
      columns.emplace_back(name, kernel_microseconds(weights));
      if (set != WeightSet::Random) continue;
      Weights halves;
      for (const at::Tensor& weight : weights) halves.push_back(weight.detach().to(at::kBFloat16));
      columns.emplace_back("random, bfloat16", kernel_microseconds(halves));
    }
  }
  std::printf("\n| microseconds of |");
  for (const auto& column : columns) std::printf(" %s |", column.first.c_str());
  std::printf("\n|---|");
  for (size_t c = 0; c < columns.size(); ++c) std::printf("---:|");
  for (size_t k = 0; k < kernel_names.size(); ++k) {
    std::printf("\n| `%s` |", kernel_names[k]);
    for (const auto& [name, microseconds] : columns) {
      std::printf(" %.1f |", microseconds[k]);
      write_row(network, std::string(kernel_names[k]) + ", " + name, microseconds[k] / 1e3, "", 0);
    }
  }
  std::printf("\n");
  std::fflush(stdout);
}

void print(const std::string& network, const Rung& rung, const Rung& formula) {
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
  write_row(network, rung.name, median(rung.milliseconds), formula.step ? ratio : "", rung.megabytes);
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
  for (const Rung& rung : rungs) print(network, rung, rungs.front());
  std::fflush(stdout);
  rungs.clear();
  measure_kernels(network, shapes);
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  const bool known = words.empty() || (words.size() == 2 && (words[0] == "--csv" || words[0] == "--passes"));
  if (!known) {
    std::fprintf(stderr, "bench-gpu: expected nothing, --csv FILE or --passes NETWORK\n");
    return 2;
  }
  if (!at::hasCUDA()) {
    std::fprintf(stderr, "bench-gpu: LibTorch finds no GPU on this machine, so there is nothing to measure\n");
    return 1;
  }
  if (!words.empty() && words[0] == "--passes") {
    const Weights weights = random_weights(weight_shapes(words[1]), gpu);
    const auto regularizer = regularizer_of(weights);
    for (int pass = 0; pass < 3; ++pass) regularizer->accumulate_gradient();
    wait();
    return 0;
  }
  if (!words.empty()) {
    csv().open(words[1]);
    if (!csv()) {
      std::fprintf(stderr, "bench-gpu: %s cannot be written\n", words[1].c_str());
      return 1;
    }
    csv() << "network,what,milliseconds,times_faster,mebibytes\n";
  }
  std::printf(
      "Medians of %d rounds, float32 weights, forward and gradient; kernels by 20 launches between two events.\n",
      rounds);
  for (const char* network : {"vgg19-bn", "wrn-28-10", "resnet56", "densenet-40-12"}) {
    measure(network, weight_shapes(network));
  }
  measure("a classifier, 85,742 x 512", {{85742, 512}});
  return csv().is_open() && !csv().flush() ? 1 : 0;
}
