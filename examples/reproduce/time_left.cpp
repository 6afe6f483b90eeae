#include "reproduce/time_left.hpp"

#include "reproduce/statistics.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

std::string network_of(const PlannedRun& run) { return run.settings.model + " on " + run.settings.dataset; }

}  // namespace

void TimeLeft::learn(const PlannedRun& run, double seconds) {
  seconds_by_cost_[network_of(run)].push_back(seconds / run.cost);
}

std::optional<double> TimeLeft::seconds(const PlannedRun& run, double share) const {
  const auto own = seconds_by_cost_.find(network_of(run));
  if (own != seconds_by_cost_.end()) return share * run.cost * median(own->second);
  std::vector<double> others;
  for (const auto& [network, speeds] : seconds_by_cost_) others.push_back(median(speeds));
  if (others.empty()) return std::nullopt;
  return share * run.cost * median(others);
}

std::string duration_or_unknown(const std::optional<double>& seconds) {
  return seconds ? duration(*seconds) : "unknown";
}

}  // namespace mma::examples
