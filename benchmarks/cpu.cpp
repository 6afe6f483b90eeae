// What MMA's value and gradient cost on a CPU for all weights of a network: against the paper's formula through
// autograd, against the floor (the products alone), and in memory; at random weights, at MMA's optimum, at those of a
// training, and where all rows lie close together. Steps of each in turn in one process, round after round, so that
// whatever else the machine does falls on all of them alike. Prints Markdown; a bar that is missed is shown as missed,
// and then the exit code is 1.
#include <ATen/Parallel.h>
#include <mma/mma.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "memory.hpp"
#include "support/files/tensor_file.hpp"
#include "weight_sets.hpp"

namespace {

using namespace mma::benchmarks;

constexpr int rounds = 15, warm_up = 2;
constexpr double mebibyte = 1 << 20;
constexpr double largest_ratio = 1.15;  ///< of a step at the optimum or in a training to one at random weights

struct Network {
  std::string name;
  WeightShapes shapes;
  std::optional<double> least_speedup, largest_floor_ratio;  ///< what this project asks of itself
  std::function<double(double weights)> largest_memory;      ///< MiB, of the weights' MiB
};

double two_copies(double weights) { return 10 + 2 * weights; }

std::vector<Network> networks() {
  return {{"vgg19-bn", weight_shapes("vgg19-bn"), 5.0, 1.35, two_copies},
          {"wrn-28-10", weight_shapes("wrn-28-10"), 3.8, {}, {}},
          {"resnet56", weight_shapes("resnet56"), 4.0, {}, {}},
          {"densenet-40-12", weight_shapes("densenet-40-12"), 4.0, {}, {}}};
}

/// The matrices of a network that mma-train has exported; none where there is no such file.
Weights trained_weights(const std::string& folder, const std::string& network) {
  const std::string file = folder + "/" + network + ".safetensors";
  Weights weights;
  if (folder.empty() || !std::filesystem::exists(file)) return weights;
  for (const auto& [name, tensor] : mma::examples::read_tensor_file(file).tensors) {
    if (tensor.dim() < 2) continue;
    weights.push_back(tensor.to(at::kFloat).contiguous().requires_grad_());
    weights.back().mutable_grad() = at::zeros_like(weights.back().detach());
  }
  return weights;
}

std::shared_ptr<mma::Regularizer<>> regularizer_of(const Weights& weights, const mma::Options& options = {}) {
  auto result = std::make_shared<mma::Regularizer<>>(options);
  for (size_t k = 0; k < weights.size(); ++k) result->add(std::to_string(k), weights[k]);
  return result;
}

Step accumulate_step(const Weights& weights, const mma::Options& options = {}) {
  return [regularizer = regularizer_of(weights, options)] { regularizer->accumulate_gradient(); };
}

Step backward_step(const Weights& weights) {
  return [regularizer = regularizer_of(weights)] { regularizer->loss().backward(); };
}

/// Products of all tiles of the upper triangle, and one read and one write of the weights.
Step floor_step(const Weights& weights, int64_t tile) {
  const at::Tensor product = at::empty({tile * tile});
  return [&weights, product, tile] {
    for (const at::Tensor& weight : weights) {
      const at::Tensor rows = weight.detach().flatten(1);
      const int64_t n = rows.size(0);
      for (int64_t i = 0; i < n; i += tile) {
        const at::Tensor left = rows.narrow(0, i, std::min(tile, n - i));
        for (int64_t j = i; j < n; j += tile) {
          const at::Tensor right = rows.narrow(0, j, std::min(tile, n - j));
          at::Tensor out = product.narrow(0, 0, left.size(0) * right.size(0)).view({left.size(0), right.size(0)});
          at::mm_out(out, left, right.t());
        }
      }
      weight.grad().copy_(weight.detach());
    }
  };
}

/// With the tile that is fastest here.
Step fastest_floor(const Weights& weights) {
  Step best;
  double least = 0;
  for (const int64_t tile : {64, 128, 256, 512}) {
    const Step step = floor_step(weights, tile);
    std::vector<double> milliseconds;
    for (int k = 0; k < 4; ++k) milliseconds.push_back(milliseconds_of(step));
    const double time = *std::min_element(milliseconds.begin(), milliseconds.end());
    if (!best || time < least) {
      best = step;
      least = time;
    }
  }
  return best;
}

// --- memory ---

WeightShapes shapes_of(const std::string& name) {
  return name == "50000x64" ? WeightShapes{{50000, 64}} : weight_shapes(name);
}

/// The peak of memory of two steps beyond weights, gradients and what a first product leaves.
int print_peak_of(const std::string& way, const std::string& name) {
  const Weights warm = random_weights({{300, 300}}, at::kCPU), weights = random_weights(shapes_of(name), at::kCPU);
  paper_step(warm)();
  accumulate_step(warm)();
  const PeakMemory peak;
  const Step step = way == "formula" ? paper_step(weights) : accumulate_step(weights);
  const double milliseconds = milliseconds_of(step);
  if (way != "formula" && name != "50000x64") step();
  print_peak({peak.mebibytes(), milliseconds});
  return 0;
}

// --- the table ---

struct Way {
  std::string name;
  Step step;
  std::vector<double> milliseconds;
};

/// in_cache: each step is taken once before it is timed, so that all find their own weights in the cache, not only
/// those that come after another step over the same ones.
void measure(std::vector<Way>& ways, bool in_cache) {
  for (int round = 0; round < warm_up + rounds; ++round) {
    for (Way& way : ways) {
      if (in_cache) way.step();
      const double milliseconds = milliseconds_of(way.step);
      if (round >= warm_up) way.milliseconds.push_back(milliseconds);
    }
  }
}

bool all_met = true;
std::vector<std::string> memory_lines;

/// The number, with what was asked and whether it is met.
std::string judged(double value, const char* format, std::optional<double> bar, bool at_least) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  if (!bar) return text;
  const bool met = at_least ? value >= *bar : value <= *bar;
  all_met = all_met && met;
  char result[128];
  std::snprintf(result, sizeof result, "%s (asked: %s %g, %s)", text, at_least ? "≥" : "≤", *bar,
                met ? "met" : "**MISSED**");
  return result;
}

/// A step over weights of one set.
struct SetOfWeights {
  std::string name;
  Weights weights;
  bool judged;  ///< whether its cost is asked to be that of random weights
};

std::vector<SetOfWeights> sets_of(const Network& network, const std::string& trained) {
  std::vector<SetOfWeights> sets;
  for (const auto& [set, name] : weight_sets) {
    sets.push_back({name, weights_of(set, network.shapes, at::kCPU), set != WeightSet::Cone});
  }
  if (Weights weights = trained_weights(trained, network.name); !weights.empty()) {
    sets.push_back({"of a training", std::move(weights), true});
  }
  return sets;
}

void print_network(const Network& network, bool official, const std::string& program, const std::string& trained) {
  const std::vector<SetOfWeights> sets = sets_of(network, trained);
  const Weights& random = sets.front().weights;
  std::vector<Way> ways{{"formula", paper_step(random), {}},
                        {"floor", fastest_floor(random), {}},
                        {"loss().backward()", backward_step(random), {}},
                        {"kept", accumulate_step(random, mma::Options().refresh_every(1 << 30)), {}}};
  const size_t first_set = ways.size();
  for (const SetOfWeights& set : sets) ways.push_back({set.name, accumulate_step(set.weights), {}});
  double bytes = 0;
  for (const at::Tensor& weight : random) bytes += static_cast<double>(weight.nbytes());
  measure(ways, bytes < 16 * mebibyte);
  const auto& formula = ways[0].milliseconds;
  const auto bar = [&](std::optional<double> value) { return official ? value : std::nullopt; };
  for (size_t k = 0; k < sets.size(); ++k) {
    const auto& own = ways[first_set + k].milliseconds;
    const bool counts = sets[k].judged;
    std::printf(
        "| %s | %s | %.2f | %s | %s | %s |\n", network.name.c_str(), sets[k].name.c_str(), median(own),
        judged(median_ratio(own, ways[first_set].milliseconds), "%.2f",
               counts && k > 0 ? bar(largest_ratio) : std::nullopt, false)
            .c_str(),
        judged(median_ratio(formula, own), "%.2f", counts ? bar(network.least_speedup) : std::nullopt, true).c_str(),
        judged(median_ratio(own, ways[1].milliseconds), "%.2f",
               counts ? bar(network.largest_floor_ratio) : std::nullopt, false)
            .c_str());
  }
  std::printf("| %s | random, `loss().backward()` | %.2f | | %.2f | |\n", network.name.c_str(),
              median(ways[2].milliseconds), median_ratio(formula, ways[2].milliseconds));
  std::printf("| %s | random, pairs kept | %.2f | | %.2f | |\n", network.name.c_str(), median(ways[3].milliseconds),
              median_ratio(formula, ways[3].milliseconds));
  std::printf("| %s | the formula | %.2f | | | |\n", network.name.c_str(), median(formula));
  std::fflush(stdout);
  if (official) {
    std::optional<double> most;
    if (network.largest_memory) most = network.largest_memory(bytes / mebibyte);
    memory_lines.push_back("| " + network.name + " | " +
                           judged(peak_of(program, "ours " + network.name).mebibytes, "%.1f", most, false) + " | " +
                           judged(peak_of(program, "formula " + network.name).mebibytes, "%.1f", {}, false) + " |");
  }
}

void print_table(int threads, const std::string& program, const std::string& trained) {
  at::set_num_threads(threads);
  std::printf("\n### %d thread%s\n\n", threads, threads == 1 ? "" : "s");
  std::printf(
      "| network | weights | ms | of random weights | times faster than the formula | of the floor |\n"
      "|---|---|---:|---:|---:|---:|\n");
  for (const Network& network : networks()) print_network(network, threads > 1, program, trained);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--peak") {
    at::set_num_threads(2);
    return print_peak_of(argv[2], argv[3]);
  }
  if (argc != 1 && !(argc == 3 && std::string(argv[1]) == "--trained")) {
    std::fprintf(stderr,
                 "bench-cpu: expected nothing, or --trained FOLDER with weights that mma-train --export has written, "
                 "such as FOLDER/resnet56.safetensors; it prints a table of what MMA costs on this machine's CPU\n");
    return 2;
  }
  const std::string trained = argc == 3 ? argv[2] : "";
  std::printf(
      "Value and gradient of MMA over all weights, float32, medians of %d alternating rounds in one process, by "
      "`accumulate_gradient()` where nothing else is said.\n"
      "*formula*: Eq 6 through autograd. *floor*: `at::mm` of the tiles of the upper triangle (the fastest of four "
      "tile sizes) and one read and write of the weights.\n"
      "*optimum*: where the dimension allows it a simplex or orthogonal rows, turned at random, rows scaled, with 1e-7 "
      "of noise; for other matrices 400 of MMA's own steps. *within 0.05 rad*: all rows of a matrix are near, and "
      "every one is looked at in float64. *of a training*: %s.\n"
      "*pairs kept*: a step of `refresh_every` without a search.\n",
      rounds, trained.empty() ? "not given (--trained)" : "weights that mma-train made on Fashion-MNIST with MMA");
  for (const int threads : {2, 1}) print_table(threads, argv[0], trained);
  std::printf("\nPeak of memory beyond weights and gradients, MiB, in a process of its own, 2 threads:\n\n");
  std::printf("| weights of | MMA | the formula |\n|---|---:|---:|\n");
  for (const std::string& line : memory_lines) std::printf("%s\n", line.c_str());
  const Peak rows = peak_of(argv[0], "ours 50000x64");
  std::printf("\n50,000 rows of dimension 64, 2 threads: %.1f s, peak %s MiB; all their cosines alone are %.0f MiB.\n",
              rows.milliseconds / 1000, judged(rows.mebibytes, "%.1f", 1024, false).c_str(),
              50000.0 * 50000 * 4 / mebibyte);
  return all_met ? 0 : 1;
}
