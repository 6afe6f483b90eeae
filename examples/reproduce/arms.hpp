// What gathered runs tell: figures by arm and seed, and each arm against the baseline.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reproduce/gathered_runs.hpp"
#include "reproduce/statistics.hpp"

namespace mma::examples {

/// Entry i of each list is of seed seeds[i].
struct ArmResults {
  Arm arm;
  std::vector<size_t> runs;  ///< of the gathered ones
  std::vector<uint64_t> seeds;
  std::vector<double> top1, top5;     ///< percent, means over the last five epochs
  std::vector<double> final_top1;     ///< after the last epoch
  std::vector<double> nearest_angle;  ///< degrees, after the last epoch: mean over layers of the mean nearest angle
  std::vector<double> minimal_angle;  ///< the same of the minimal angles
  std::vector<std::pair<std::string, std::vector<double>>> layers;  ///< their minimal angles
};

/// The baseline first, the others by their names, seeds rising. `baseline` is an arm's name, or its regularizer's where
/// one arm alone has that. Throws UserError for a baseline that is not there, and for runs whose layers differ.
std::vector<ArmResults> arms_of(const std::vector<GatheredRun>& runs, const std::string& baseline);

/// A figure that arms are compared by.
struct Measure {
  const char* name;
  const char* key;
  std::vector<double> ArmResults::*values;
};

/// The one that decides first: top-1, the mean over the last five epochs.
const std::vector<Measure>& measures();

/// The difference that the number of seeds is worked out for.
inline constexpr double wanted_effect = 0.3;  // points

/// An arm against the baseline, of one measure.
struct AgainstBaseline {
  std::vector<uint64_t> seeds;  ///< that both have
  std::vector<double> differences;
  TTest paired, welch;        ///< by those seeds; of all runs
  std::optional<int> needed;  ///< seeds for the wanted effect at power 0.8
};

AgainstBaseline against_baseline(const ArmResults& arm, const ArmResults& baseline, const Measure& measure);

/// One sentence that follows from the interval alone: whether the arm adds to top-1, takes from it, or neither is
/// shown.
std::string verdict_on(const std::string& arm, const AgainstBaseline& top1);

}  // namespace mma::examples
