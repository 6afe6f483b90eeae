// What has to be trained: each run once, whatever number of tables and figures want it, with its mma-train command.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reproduce/experiments.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// full: the paper's protocol. smoke: the same, tiny: 3 steps of 8 images, 2 epochs, 64 test images.
enum class Scale { full, smoke };

/// What holds for all runs of a plan.
struct PlanOptions {
  Scale scale = Scale::full;
  std::vector<uint64_t> seeds;
  std::filesystem::path out;
  std::map<std::string, std::string> data;  ///< a folder for each data set
  std::optional<std::string> device, precision;
  std::optional<int64_t> epochs;  ///< in place of the recipes'
  std::optional<int64_t> threads;
  int64_t threads_of_new_runs = 1;  ///< where `threads` are not given
  std::optional<bool> channels_last;
  bool cuda_graph = false;
};

struct PlannedRun {
  std::string name;  ///< its folder below OUT/runs
  std::filesystem::path folder;
  std::vector<std::string> begin;   ///< mma-train's words for a new run
  std::vector<std::string> resume;  ///< and to go on with it
  Settings settings;
  double cost = 0;                       ///< multiply-adds, training and evaluation
  std::vector<std::string> experiments;  ///< that want it
};

struct Plan {
  std::vector<PlannedRun> runs;  ///< seed by seed, so that one seed of everything comes first
  /// The run of a row of an experiment, by its index in `runs`.
  std::map<std::tuple<std::string, size_t, uint64_t>, size_t> run_of;

  const PlannedRun& run(const Experiment& experiment, size_t row, uint64_t seed) const;
  size_t index(const Experiment& experiment, size_t row, uint64_t seed) const;
};

/// Throws UserError for options that no run can have.
Plan make_plan(const std::vector<Experiment>& experiments, const PlanOptions& options);

/// A readable name of what is trained, such as vgg19-bn-cifar100-mma-0.07-all.
std::string folder_name(const Settings& settings);

}  // namespace mma::examples
