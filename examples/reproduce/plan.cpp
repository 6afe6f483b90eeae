#include "reproduce/plan.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "reproduce/run_state.hpp"
#include "support/process/error.hpp"
#include "training/run/device.hpp"
#include "training/settings/new_run.hpp"
#include "training/settings/run_arguments.hpp"

namespace mma::examples {
namespace {

using Words = std::vector<std::string>;

void append(Words& words, const Words& more) { words.insert(words.end(), more.begin(), more.end()); }

const Words smoke_words = {"--epochs", "2", "--batch", "8", "--limit-train", "24", "--limit-test", "64"};

/// What may also be said when a run goes on.
Words words_of_machine(const PlanOptions& options) {
  Words words;
  if (options.device) append(words, {"--device", *options.device});
  if (options.threads) append(words, {"--threads", c10::str(*options.threads)});
  if (options.cuda_graph) words.push_back("--cuda-graph");
  return words;
}

/// In place of what the words say.
void set_epochs(int64_t epochs, Words& words) {
  const auto flag = std::ranges::find(words, "--epochs");
  if (flag != words.end()) words.erase(flag, flag + 2);
  append(words, {"--epochs", c10::str(epochs)});
}

Words words_of_new_run(const Variant& variant, uint64_t seed, const PlanOptions& options) {
  Words words = variant.words;
  append(words, options.scale == Scale::smoke ? smoke_words : variant.at_full);
  if (options.epochs) set_epochs(*options.epochs, words);
  append(words, {"--seed", std::to_string(seed)});
  if (!options.threads) {
    append(words, {"--threads", c10::str(variant.threads.value_or(options.threads_of_new_runs))});
  }
  append(words, words_of_machine(options));
  // All rows of a table are timed alike, those as well that no graph can hold.
  if (options.device == "cuda" && !options.cuda_graph) words.push_back("--no-cuda-graph");
  if (options.precision) append(words, {"--precision", *options.precision});
  if (options.channels_last) words.push_back(*options.channels_last ? "--channels-last" : "--no-channels-last");
  return words;
}

/// What mma-train would make of the words.
Settings settings_of(const Words& words) {
  RunArguments arguments = run_arguments_of(words);
  arguments.given["data"] = "not yet known";
  Settings settings = settings_of_new_run(arguments.given);
  check_device(settings);
  return settings;
}

/// Of one image of 32 x 32 pixels, forward: multiply-adds of the convolutions and the last layer, in millions.
double millions_of_multiply_adds(const std::string& model) {
  static const std::map<std::string, double> known = {
      {"resnet20", 41},   {"resnet56", 126},   {"vgg16-bn", 313},       {"vgg19-bn", 398},
      {"wrn-16-8", 1548}, {"wrn-28-10", 5243}, {"densenet-40-12", 265}, {"vgg11-bn-narrow", 31}};
  return known.at(model);
}

/// A backward pass costs two forward ones.
double cost_of(const Settings& settings) {
  const bool tiny_imagenet = settings.dataset == "tiny-imagenet";
  const int64_t train_images = tiny_imagenet ? 100000 : 50000;
  const int64_t test_images = 10000;
  const auto limited = [](int64_t images, int64_t limit) { return limit > 0 ? std::min(images, limit) : images; };
  const auto images =
      static_cast<double>(3 * limited(train_images, settings.limit_train) + limited(test_images, settings.limit_test));
  const double pixels = tiny_imagenet ? 4 : 1;  // times 32 x 32
  return 1e6 * millions_of_multiply_adds(settings.model) * pixels * images * static_cast<double>(settings.epochs);
}

PlannedRun planned(const Variant& variant, uint64_t seed, const PlanOptions& options) {
  PlannedRun run;
  run.begin = words_of_new_run(variant, seed, options);
  run.settings = settings_of(run.begin);
  const std::string name = variant.folder.empty() ? folder_name(run.settings) : variant.folder;
  run.name = c10::str(name, "-seed", seed);
  run.folder = options.out / "runs" / run.name;
  run.cost = cost_of(run.settings);
  const std::string data = options.data.at(run.settings.dataset);
  append(run.begin, {"--data", data, "--out", run.folder.string()});
  run.resume = {"--resume", "--out", run.folder.string(), "--data", data};
  append(run.resume, words_of_machine(options));
  return run;
}

}  // namespace

const PlannedRun& Plan::run(const Experiment& experiment, size_t row, uint64_t seed) const {
  return runs[index(experiment, row, seed)];
}

size_t Plan::index(const Experiment& experiment, size_t row, uint64_t seed) const {
  return run_of.at({experiment.name, row, seed});
}

Plan make_plan(const std::vector<Experiment>& experiments, const PlanOptions& options) {
  Plan plan;
  std::map<std::string, size_t> place;
  for (const uint64_t seed : options.seeds) {
    for (const Experiment& experiment : experiments) {
      for (size_t row = 0; row < experiment.rows.size(); ++row) {
        PlannedRun run = planned(experiment.rows[row].variant, seed, options);
        const auto [entry, is_new] = place.emplace(run.name, plan.runs.size());
        if (is_new) plan.runs.push_back(run);
        PlannedRun& kept = plan.runs[entry->second];
        if (const std::string difference = first_difference(kept.settings, run.settings); !difference.empty()) {
          throw std::logic_error(c10::str("two different runs are called ", run.name, ": ", difference));
        }
        if (std::ranges::find(kept.experiments, experiment.name) == kept.experiments.end()) {
          kept.experiments.push_back(experiment.name);
        }
        plan.run_of[{experiment.name, row, seed}] = entry->second;
      }
    }
  }
  return plan;
}

std::string folder_name(const Settings& settings) {
  std::string name = c10::str(settings.model, "-", settings.dataset, "-", settings.regularizer);
  if (settings.regularizer != "none") name += c10::str("-", settings.coefficient, "-", settings.scope);
  if (settings.autoaugment) name += "-autoaugment";
  if (settings.cutout > 0) name += c10::str("-cutout", settings.cutout);
  return name;
}

}  // namespace mma::examples
