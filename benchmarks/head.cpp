// What MMA costs on the classifier of a face network with very many identities, on a CPU: seconds a step and peak
// memory of each way to take it, beside ArcFace's own step. Each in a process of its own. Prints Markdown.
#include <ATen/Parallel.h>
#include <torch/nn/functional/loss.h>
#include <mma/mma.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "memory.hpp"

namespace {

using namespace mma::benchmarks;

constexpr int64_t batch = 128;

struct Way {
  const char* name;
  const char* about;
  int steps;  ///< over which the seconds are the mean
};

const std::vector<Way> ways = {{"accumulate", "`accumulate_gradient()`", 1},
                               {"backward", "`loss().backward()`", 1},
                               {"refresh", "`accumulate_gradient()`, `refresh_every(10)`", 10},
                               {"sampled", "`Sampled<>{.share = 0.1}`, `accumulate_gradient()`", 3},
                               {"arcface", "ArcFace itself, 128 embeddings: forward, cross-entropy, backward", 3}};

template <typename Objective = mma::MinimalAngle>
std::shared_ptr<mma::Regularizer<Objective>> regularizer_of(const at::Tensor& weight,
                                                            const mma::Options& options = {}) {
  auto result = std::make_shared<mma::Regularizer<Objective>>(options);
  result->add("head", weight);
  return result;
}

Step step_of(const std::string& way, const mma::ArcFace& head) {
  const at::Tensor weight = head->weight;
  if (way == "backward") return [own = regularizer_of(weight)] { own->loss().backward(); };
  if (way == "refresh") {
    return [own = regularizer_of(weight, mma::Options().refresh_every(10))] { own->accumulate_gradient(); };
  }
  if (way == "sampled") {
    return [own = regularizer_of<mma::Sampled<>>(weight)] { own->accumulate_gradient(); };  // a tenth by default
  }
  if (way == "arcface") {
    const at::Tensor labels = at::arange(batch, at::kLong).remainder(weight.size(0));
    const at::Tensor embeddings = at::randn({batch, weight.size(1)}).requires_grad_();
    return [=]() mutable {
      torch::nn::functional::cross_entropy(mma::ArcFace(head)(embeddings, labels), labels).backward();
    };
  }
  return [own = regularizer_of(weight)] { own->accumulate_gradient(); };
}

mma::ArcFace make_head(int64_t rows, int64_t dimension) {
  mma::ArcFace head(dimension, rows);
  head->weight.mutable_grad() = at::zeros_like(head->weight);
  return head;
}

int print_peak_of(const std::string& name, int64_t rows, int64_t dimension) {
  step_of(name, make_head(300, 300))();  // what a first call leaves
  const mma::ArcFace head = make_head(rows, dimension);
  const PeakMemory peak;
  const Step step = step_of(name, head);
  double milliseconds = 0;
  int steps = 1;
  for (const Way& way : ways) {
    if (name == way.name) steps = way.steps;
  }
  for (int k = 0; k < steps; ++k) milliseconds += milliseconds_of(step) / steps;
  print_peak({peak.mebibytes(), milliseconds});
  return 0;
}

void print_table(const std::string& program, int64_t rows, int64_t dimension) {
  const auto n = static_cast<double>(rows), gibibyte = static_cast<double>(1 << 30);
  std::printf(
      "A head of %lld identities, %lld numbers each, float32, %d threads: the weight is %.0f MiB, its gradient as much "
      "again.\nThe paper's way keeps several n x n matrices: one is %.1f GiB.\n\n",
      static_cast<long long>(rows), static_cast<long long>(dimension), at::get_num_threads(),
      n * static_cast<double>(dimension) * 4 / (1 << 20), n * n * 4 / gibibyte);
  std::printf("| | seconds a step | peak beyond weight and gradient, MiB |\n|---|---:|---:|\n");
  for (const Way& way : ways) {
    const Peak peak =
        peak_of(program, std::string(way.name) + " " + std::to_string(rows) + " " + std::to_string(dimension));
    std::printf("| %s | %.2f | %.0f |\n", way.about, peak.milliseconds / 1000, peak.mebibytes);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(2);
  const auto number = [&](int place) { return static_cast<int64_t>(std::atoll(argv[place])); };
  if (argc == 5 && std::string(argv[1]) == "--peak") return print_peak_of(argv[2], number(3), number(4));
  if (argc != 1 && (argc != 3 || number(1) < 300 || number(2) < 1)) {
    std::fprintf(stderr, "bench-head: expected nothing, or a number of identities (300 or more) and a dimension\n");
    return 2;
  }
  // The identities of MS1MV2, the cleaned MS-Celeb-1M on which ArcFace's authors train.
  print_table(argv[0], argc == 3 ? number(1) : 85742, argc == 3 ? number(2) : 512);
  return 0;
}
