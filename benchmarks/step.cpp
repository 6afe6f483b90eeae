// What a training step costs under each regularizer: in one process, one step of each in turn, round after round, so
// that whatever else the machine does falls on all of them alike. Prints Markdown: the median seconds of a step, and
// the median over the rounds of its ratio to the step without a regularizer.
#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "common/error.hpp"
#include "common/objectives.hpp"
#include "train/recipe.hpp"
#include "train/training.hpp"

namespace {

using namespace mma::examples;

struct Arguments {
  std::string model = "vgg11-bn-narrow", dataset = "cifar100", data;
  std::vector<std::string> regularizers;  // empty: all
  int64_t batch = 128, rounds = 20, threads = 1;
};

struct Candidate {
  std::string name;
  std::unique_ptr<Training> training;
  std::vector<double> seconds;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Candidate candidate(const std::string& name, const Arguments& arguments, const Dataset& dataset) {
  Settings settings;
  settings.model = arguments.model;
  settings.dataset = arguments.dataset;
  settings.batch = arguments.batch;
  settings.epochs = 1;
  settings.learning_rate = 0.01;
  settings.momentum = 0.9;
  settings.threads = arguments.threads;
  settings.regularizer = name;
  if (name != "none") {
    settings.coefficient =
        objective_named(name, "--regularizers").coefficient.value_or(recipe_for_model(arguments.model).coefficient);
  }
  return {name, std::make_unique<Training>(settings, prepared(dataset, settings)), {}};
}

void run_round(std::vector<Candidate>& candidates, int64_t round) {
  for (Candidate& each : candidates) {
    const auto start = std::chrono::steady_clock::now();
    each.training->step(0, round % each.training->steps_per_epoch());
    each.training->sums();  // waits for a GPU
    each.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}

void print(const std::vector<Candidate>& candidates) {
  std::printf("| regularizer | seconds a step | ratio to none |\n|---|---:|---:|\n");
  const std::vector<double>& plain = candidates.front().seconds;
  for (const Candidate& each : candidates) {
    std::vector<double> ratios;
    for (size_t k = 0; k < plain.size(); ++k) ratios.push_back(each.seconds[k] / plain[k]);
    std::printf("| %s | %.4f | %.3f |\n", each.name.c_str(), median(each.seconds), median(ratios));
  }
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
  CLI11_PARSE(app, argc, argv);
  if (arguments.regularizers.empty()) {
    for (const NamedObjective& objective : objectives()) arguments.regularizers.push_back(objective.name);
  }
  at::set_num_threads(static_cast<int>(arguments.threads));
  const Dataset dataset = load_dataset(arguments.dataset, arguments.data);
  std::vector<Candidate> candidates;
  candidates.push_back(candidate("none", arguments, dataset));
  for (const std::string& name : arguments.regularizers) candidates.push_back(candidate(name, arguments, dataset));
  constexpr int64_t warm_up = 2;
  for (int64_t round = 0; round < warm_up + arguments.rounds; ++round) {
    if (round == warm_up) {
      for (Candidate& each : candidates) each.seconds.clear();
    }
    run_round(candidates, round);
  }
  std::printf("%s, %s, batch %lld, %lld threads, medians of %lld rounds\n\n", arguments.model.c_str(),
              arguments.dataset.c_str(), static_cast<long long>(arguments.batch),
              static_cast<long long>(arguments.threads), static_cast<long long>(arguments.rounds));
  print(candidates);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("bench-step", [&] { return run(argc, argv); });
}
