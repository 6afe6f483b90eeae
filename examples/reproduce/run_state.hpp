// What a run's folder holds: nothing, a run that was begun, a finished one; or another run than the one wanted.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "training/run/metrics.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

enum class RunStatus { missing, begun, finished };

struct RunState {
  RunStatus status = RunStatus::missing;
  std::vector<EpochMetrics> history;  ///< of the finished epochs
  nlohmann::ordered_json config;      ///< how it was made; null where the run was killed before it wrote that

  double seconds() const;  ///< of the finished epochs
};

/// Throws UserError that names the folder when it holds another run, or files that mma-train did not write.
RunState look_at(const std::filesystem::path& folder, const Settings& wanted);

/// "its coefficient is 0.1, not 0.07" of the first setting that two runs do not share, or "". What does not change what
/// is trained is left out: the data's folder, the recipe's name, device, threads, order in memory, checkpoints.
std::string first_difference(const Settings& found, const Settings& wanted);

}  // namespace mma::examples
