// The pieces of a pass on a CPU, for Google Benchmark: the search with its norms and angles, the angles of pairs that
// are kept, the gradient, all at once, and the functional form. One thread: for several see bench-cpu.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <mma/detail/nearest/factory.hpp>
#include <mma/mma.hpp>

#include "measure.hpp"

namespace {

using namespace mma::benchmarks;
using mma::detail::nearest::Engine;
using mma::detail::nearest::Found;
using mma::detail::nearest::Plan;

/// Layers of [rows, dimension].
struct Pass {
  explicit Pass(const benchmark::State& state) {
    at::set_num_threads(1);
    weights =
        random_weights(WeightShapes(static_cast<size_t>(state.range(0)), {state.range(1), state.range(2)}), at::kCPU);
    Plan plan{{}, mma::MinimalAngle{}.nearest()};
    for (const at::Tensor& weight : weights) {
      plan.matrices.push_back({weight.detach(), plan.matrices.size()});
      gradients.push_back(weight.grad());
    }
    factors = at::ones({state.range(0)}, at::kDouble);
    engine = mma::detail::nearest::make_engine(std::move(plan));
    found = engine->find({});
  }

  Weights weights;
  std::vector<at::Tensor> gradients;
  at::Tensor factors;
  std::unique_ptr<Engine> engine;
  Found found;
};

void search(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state) benchmark::DoNotOptimize(pass.engine->find({}));
}

void angles_of_kept_pairs(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state) benchmark::DoNotOptimize(pass.engine->find(pass.found.nearest));
}

void gradient(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state) pass.engine->add_gradient(pass.found, pass.gradients, pass.factors, 1);
}

void search_and_gradient(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state)
    benchmark::DoNotOptimize(pass.engine->find_and_add_gradient(pass.gradients, pass.factors, 1, {}));
}

void product_of_all_rows(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state) {
    for (const at::Tensor& weight : pass.weights) benchmark::DoNotOptimize(weight.detach().mm(weight.detach().t()));
  }
}

void regularizers_of_a_matrix_each(benchmark::State& state) {
  Pass pass(state);
  std::vector<mma::Regularizer<>> regularizers;
  for (const at::Tensor& weight : pass.weights) regularizers.emplace_back(mma::Options()).add("weight", weight);
  for (auto _ : state) {
    for (auto& regularizer : regularizers) regularizer.loss().backward();
  }
}

void functional_form(benchmark::State& state) {
  Pass pass(state);
  for (auto _ : state) {
    for (const at::Tensor& weight : pass.weights) mma::minimal_angle_loss(weight).backward();
  }
}

/// A last layer of VGG19-BN, a group of WRN-28-10, a stage of ResNet56, a block of DenseNet-40-12.
void layers(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"layers", "rows", "dimension"})->Unit(benchmark::kMillisecond);
  for (const auto& arguments : std::vector<std::vector<int64_t>>{
           {1, 512, 4608}, {1, 640, 5760}, {17, 64, 576}, {12, 12, 1000}, {1, 100, 512}}) {
    benchmark->Args(arguments);
  }
}

BENCHMARK(search)->Apply(layers);
BENCHMARK(angles_of_kept_pairs)->Apply(layers);
BENCHMARK(gradient)->Apply(layers);
BENCHMARK(search_and_gradient)->Apply(layers);
BENCHMARK(product_of_all_rows)->Apply(layers);
BENCHMARK(regularizers_of_a_matrix_each)->Apply(layers);
BENCHMARK(functional_form)->Apply(layers);

}  // namespace

BENCHMARK_MAIN();
