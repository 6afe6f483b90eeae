// What a training step costs under each regularizer: in one process, one step of each in turn, round after round, so
// that whatever else the machine does falls on all of them alike. Prints Markdown: the median seconds of a step, the
// median over the rounds of its ratio to the step without a regularizer, and on a GPU the most memory it held.
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>

#include "measure.hpp"
#include "step_parts.hpp"
#include "support/process/environment.hpp"
#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "train/image_trainer.hpp"
#include "training/run/device.hpp"
#include "training/run/training.hpp"
#include "training/settings/recipe.hpp"

namespace {

using namespace mma::examples;

struct Arguments {
  std::string model = "vgg11-bn-narrow", dataset = "cifar100", data, device = "cpu", precision = "float32";
  std::vector<std::string> regularizers;  // empty: all
  bool cuda_graph = false, no_channels_last = false, on_request = false, parts = false;
  int64_t batch = 128, rounds = 20, threads = 1;
};

struct Candidate {
  std::string name;
  std::unique_ptr<Training> training;
  std::vector<double> seconds;
  int64_t held_bytes = 0, peak_bytes = 0;  // of the GPU
  std::map<std::string, std::vector<double>> milliseconds_of_part;
};

/// While it lives, what LibTorch takes and gives back on the GPU is counted to a candidate.
class CountedMemory {
 public:
  CountedMemory(const Arguments& arguments, int64_t& held, int64_t& peak)
      : allocator_(arguments.device == "cuda" ? at::getDeviceAllocator(at::kCUDA) : nullptr), held_(held), peak_(peak) {
    if (allocator_ == nullptr) return;
    allocator_->resetPeakStats(0);
    before_ = allocator_->getDeviceStats(0).allocated_bytes[0].current;  // [0]: of all pools together
  }
  ~CountedMemory() {
    if (allocator_ == nullptr) return;
    const auto stats = allocator_->getDeviceStats(0).allocated_bytes[0];
    peak_ = std::max(peak_, held_ + stats.peak - before_);
    held_ += stats.current - before_;
  }
  CountedMemory(const CountedMemory&) = delete;
  CountedMemory& operator=(const CountedMemory&) = delete;

 private:
  c10::DeviceAllocator* allocator_;
  int64_t &held_, &peak_, before_ = 0;
};

Settings settings_of(const Arguments& arguments, const std::string& regularizer) {
  Settings settings;
  settings.model = arguments.model;
  settings.dataset = arguments.dataset;
  settings.data = arguments.data;
  settings.batch = arguments.batch;
  settings.epochs = 1;
  settings.learning_rate = 0.01;
  settings.momentum = 0.9;
  settings.weight_decay = recipe_for(arguments.model, arguments.dataset).values.weight_decay;
  settings.threads = arguments.threads;
  settings.device = arguments.device;
  settings.channels_last = arguments.device == "cpu" && !arguments.no_channels_last;
  settings.regularizer = regularizer;
  if (regularizer != "none") {
    settings.coefficient = objective_named(regularizer, "--regularizers")
                               .coefficient.value_or(recipe_for(arguments.model, arguments.dataset).values.coefficient);
  }
  return settings;
}

Candidate candidate(const Arguments& arguments, const Settings& settings, const Dataset& dataset) {
  check(settings);
  check_device(settings);
  Candidate result;
  result.name = settings.regularizer + (settings.precision == "float32" ? "" : ", " + settings.precision) +
                (settings.cuda_graph ? ", CUDA graph" : "");
  const CountedMemory counted(arguments, result.held_bytes, result.peak_bytes);
  result.training = std::make_unique<Training>(settings, dataset, image_trainer());
  return result;
}

/// None and the regularizers; then the same in another precision or by a CUDA graph, where that is asked for.
std::vector<Candidate> candidates_of(const Arguments& arguments) {
  std::vector<Settings> all = {settings_of(arguments, "none")};
  check(all.front());
  for (const std::string& name : arguments.regularizers) {
    if (name != "none") all.push_back(settings_of(arguments, name));
  }
  const size_t plain = all.size();
  for (size_t k = 0; k < plain && (arguments.precision != "float32" || arguments.cuda_graph); ++k) {
    Settings settings = all[k];
    settings.precision = arguments.precision;
    settings.channels_last = settings.channels_last || (arguments.precision == "bf16" && !arguments.no_channels_last);
    settings.cuda_graph = arguments.cuda_graph;
    all.push_back(settings);
  }
  const Dataset dataset = prepared(image_trainer().load(all.front()), all.front());
  std::vector<Candidate> candidates;
  for (const Settings& settings : all) candidates.push_back(candidate(arguments, settings, dataset));
  return candidates;
}

void run_round(const Arguments& arguments, std::vector<Candidate>& candidates, int64_t round) {
  for (Candidate& each : candidates) {
    const CountedMemory counted(arguments, each.held_bytes, each.peak_bytes);
    const int64_t full_batches = std::max<int64_t>(1, each.training->steps_per_epoch() - 1);
    const auto start = std::chrono::steady_clock::now();
    each.training->step(0, round % full_batches);
    each.training->sums();  // waits for a GPU
    each.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

void print(const Arguments& arguments, const std::vector<Candidate>& candidates) {
  const bool gpu = arguments.device == "cuda";
  std::printf("| regularizer | seconds a step | ratio to none |%s\n", gpu ? " peak MiB |" : "");
  std::printf("|---|---:|---:|%s\n", gpu ? "---:|" : "");
  const std::vector<double>& plain = candidates.front().seconds;
  for (const Candidate& each : candidates) {
    std::printf("| %s | %.4f | %.3f |", each.name.c_str(), mma::benchmarks::median(each.seconds),
                mma::benchmarks::median_ratio(each.seconds, plain));
    if (gpu) std::printf(" %.0f |", static_cast<double>(each.peak_bytes) / (1024.0 * 1024.0));
    std::printf("\n");
  }
}

/// For a program that measures something else in between: a round for each line read, its seconds in one line.
void run_on_request(const Arguments& arguments, std::vector<Candidate>& candidates) {
  std::cout << candidates.front().training->parameter_count() << std::endl;
  int64_t round = 0;
  for (std::string line; std::getline(std::cin, line); ++round) {
    run_round(arguments, candidates, round);
    for (const Candidate& each : candidates) std::cout << each.seconds.back() << ' ';
    std::cout << std::endl;
  }
}

void run_all(const Arguments& arguments, std::vector<Candidate>& candidates) {
  constexpr int64_t warm_up = 5;  // a CUDA graph is captured in the fourth step
  for (int64_t round = 0; round < warm_up + arguments.rounds; ++round) {
    if (round == warm_up) {
      for (Candidate& each : candidates) each.seconds.clear();
    }
    run_round(arguments, candidates, round);
  }
  std::printf("%s, %s, batch %lld, %s, %lld threads, medians of %lld rounds\n\n", arguments.model.c_str(),
              arguments.dataset.c_str(), static_cast<long long>(arguments.batch), arguments.device.c_str(),
              static_cast<long long>(arguments.threads), static_cast<long long>(arguments.rounds));
  print(arguments, candidates);
}

/// A step of each by its parts. On a GPU products are put before it, so that it is launched before it begins: the parts
/// are then the GPU's time alone, as in a replayed graph.
void run_parts_round(const Arguments& arguments, std::vector<Candidate>& candidates, int64_t round) {
  const at::Device device(arguments.device);
  for (Candidate& each : candidates) {
    const int64_t full_batches = std::max<int64_t>(1, each.training->steps_per_epoch() - 1);
    if (device.is_cuda()) {
      const at::Tensor large = at::ones({8192, 8192}, at::TensorOptions(device));
      for (int k = 0; k < 4; ++k) large.mm(large);
    }
    mma::benchmarks::StepParts parts(device);
    each.training->step(0, round % full_batches);
    for (const auto& [part, milliseconds] : parts.milliseconds()) {
      each.milliseconds_of_part[part].push_back(milliseconds);
    }
  }
}

void print_parts(const std::vector<Candidate>& candidates) {
  std::printf("| milliseconds of |");
  for (const Candidate& each : candidates) std::printf(" %s |", each.name.c_str());
  std::printf("\n|---|");
  for (size_t k = 0; k < candidates.size(); ++k) std::printf("---:|");
  for (const std::string& part : mma::benchmarks::parts_of_a_step()) {
    std::printf("\n| %s |", part.c_str());
    for (const Candidate& each : candidates) {
      const auto found = each.milliseconds_of_part.find(part);
      if (found == each.milliseconds_of_part.end()) {
        std::printf(" |");
      } else {
        std::printf(" %.3f |", mma::benchmarks::median(found->second));
      }
    }
  }
  std::printf("\n");
}

void run_parts(const Arguments& arguments, std::vector<Candidate>& candidates) {
  for (int64_t round = 0; round < 3 + arguments.rounds; ++round) {
    if (round == 3) {
      for (Candidate& each : candidates) each.milliseconds_of_part.clear();
    }
    run_parts_round(arguments, candidates, round);
  }
  print_parts(candidates);
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"What a training step costs under each regularizer, measured in turn in one process", "bench-step"};
  app.add_option("--model", arguments.model)->capture_default_str();
  app.add_option("--dataset", arguments.dataset)->capture_default_str();
  app.add_option("--data", arguments.data, "The data set's folder")->required();
  app.add_option("--regularizers", arguments.regularizers, "Names, separated by commas (default: all)")->delimiter(',');
  app.add_option("--batch", arguments.batch)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--rounds", arguments.rounds)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", arguments.threads)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--device", arguments.device, "cpu or cuda")->capture_default_str();
  app.add_option("--precision", arguments.precision, "bf16: further rows, the same in that precision")
      ->capture_default_str()
      ->check(CLI::IsMember(std::vector<std::string>{"float32", "bf16"}));
  app.add_flag("--cuda-graph", arguments.cuda_graph, "Further rows, the same by a CUDA graph (with --precision: both)");
  app.add_flag("--no-channels-last", arguments.no_channels_last, "Images and filters with contiguous channels");
  app.add_flag("--on-request", arguments.on_request, "A round for each line of stdin, answered by its rows' seconds");
  app.add_flag("--parts", arguments.parts, "A step by its parts: batch, convolutions, ..., update");
  CLI11_PARSE(app, argc, argv);
  if (arguments.regularizers.empty()) {
    for (const NamedObjective& objective : objectives()) arguments.regularizers.push_back(objective.name);
  }
  at::set_num_threads(static_cast<int>(arguments.threads));
  std::vector<Candidate> candidates = candidates_of(arguments);
  if (arguments.parts) {
    run_parts(arguments, candidates);
  } else if (arguments.on_request) {
    run_on_request(arguments, candidates);
  } else {
    run_all(arguments, candidates);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  restart_for_training(argv);  // as mma-train does
  return run_program("bench-step", [&] { return run(argc, argv); });
}
