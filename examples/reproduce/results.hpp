// The figures of an experiment's rows, seed by seed, from the runs that are finished.
#pragma once

#include <vector>

#include "reproduce/plan.hpp"
#include "reproduce/run_state.hpp"

namespace mma::examples {

/// The plan and what there is of it; both as long as each other.
struct Standing {
  Plan plan;
  std::vector<uint64_t> seeds;
  std::vector<RunState> states;

  size_t count(RunStatus status) const;
};

/// One row: entry i of each list is of seed seeds[i], whose run is runs[i] of the plan.
struct RowResults {
  std::vector<uint64_t> seeds;
  std::vector<size_t> runs;
  std::vector<double> top1, top5;                ///< percent, means over the last five epochs
  std::vector<double> final_top1;                ///< after the last epoch
  std::vector<double> seconds, memory_mib;       ///< a step (median over the epochs); the peak
  std::vector<std::vector<double>> angles = {};  ///< degrees, of each of the experiment's layers
  std::vector<double> mean_angle;                ///< of all layers

  bool empty() const { return seeds.empty(); }
};

/// Throws UserError when a run has no layer of a wanted name.
RowResults results_of(const Experiment& experiment, size_t row, const Standing& standing);

}  // namespace mma::examples
