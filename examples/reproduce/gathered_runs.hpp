// Runs of any machine, found in folders and held to one comparison: the same settings but for the regularization and
// the seed, each seed once.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "training/run/metrics.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {

/// What the runs of a comparison differ in, beside their seeds.
struct Arm {
  std::string regularizer;
  double coefficient = 0;
  std::string scope;

  bool operator==(const Arm&) const = default;
  /// "none"; "mma 0.07"; "mma 0.07 hidden" where it is not of all layers.
  std::string name() const;
};

/// Without regularization neither coefficient nor scope count.
Arm arm_of(const Settings& settings);

/// Whether all runs of a comparison must agree in an option.
bool is_shared(const OptionRow<Settings>& option);

struct GatheredRun {
  std::filesystem::path folder;
  nlohmann::ordered_json config;  ///< config.json
  Settings settings;
  std::vector<EpochMetrics> history;  ///< of all epochs
};

/// A folder that is not counted, and why.
struct LeftOut {
  std::filesystem::path folder;
  std::string why;
};

struct GatheredRuns {
  std::vector<GatheredRun> runs;  ///< in the order in which they were found
  std::vector<LeftOut> left_out;
};

/// Of each folder itself and all below it. config.json and metrics.csv make a folder a run; one of both alone, a run
/// that is not finished, and a repetition with the same figures are left out. Throws UserError for a folder without any
/// run, a damaged file, two runs whose settings differ in more than arm and seed, two results for one arm and seed, and
/// when no run is finished.
GatheredRuns gather_runs(const std::vector<std::string>& folders);

}  // namespace mma::examples
