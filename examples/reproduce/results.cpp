#include "reproduce/results.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>

#include "support/process/error.hpp"
#include "training/run/recorded_run.hpp"

namespace mma::examples {
namespace {

double angle_of(const std::string& layer, const RunState& state, const PlannedRun& run) {
  const auto& angles = state.history.back().angles.minimal_angles;
  if (layer.empty() && !angles.empty()) return angles.back().second;
  const auto found = std::ranges::find(angles, layer, [](const auto& angle) { return angle.first; });
  if (found == angles.end()) throw UserError(c10::str("the run in ", run.folder.string(), " has no layer ", layer));
  return found->second;
}

}  // namespace

size_t Standing::count(RunStatus status) const {
  return static_cast<size_t>(std::ranges::count(states, status, &RunState::status));
}

RowResults results_of(const Experiment& experiment, size_t row, const Standing& standing) {
  RowResults results;
  results.angles.resize(experiment.layers.size());
  for (const uint64_t seed : standing.seeds) {
    const size_t index = standing.plan.index(experiment, row, seed);
    const RunState& state = standing.states[index];
    if (state.status != RunStatus::finished) continue;
    const std::vector<EpochMetrics>& history = state.history;
    results.seeds.push_back(seed);
    results.runs.push_back(index);
    results.top1.push_back(mean_of_last_five(history, &EpochMetrics::top1));
    results.top5.push_back(mean_of_last_five(history, &EpochMetrics::top5));
    results.final_top1.push_back(history.back().top1);
    results.seconds.push_back(median(history, &EpochMetrics::seconds_per_step));
    results.memory_mib.push_back(history.back().peak_memory_mib);
    results.mean_angle.push_back(history.back().angles.mean_minimal_angle());
    for (size_t layer = 0; layer < experiment.layers.size(); ++layer) {
      results.angles[layer].push_back(angle_of(experiment.layers[layer].name, state, standing.plan.runs[index]));
    }
  }
  return results;
}

}  // namespace mma::examples
