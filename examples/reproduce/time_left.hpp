// How long the runs that are left will take, from those that are finished.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "reproduce/plan.hpp"

namespace mma::examples {

/// A run's seconds grow with its cost; each network on a data set has its own speed, and one that was not measured yet
/// has the median of those that were.
class TimeLeft {
 public:
  /// A finished run took so long.
  void learn(const PlannedRun& run, double seconds);

  /// Seconds of a share of a run; empty until something was measured.
  std::optional<double> seconds(const PlannedRun& run, double share = 1) const;

 private:
  std::map<std::string, std::vector<double>> seconds_by_cost_;  ///< of each network
};

/// "1:02:03 h", or "unknown".
std::string duration_or_unknown(const std::optional<double>& seconds);

}  // namespace mma::examples
