#include "reproduce/arms.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "support/process/error.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

void add_layers(const GatheredRun& run, ArmResults& arm) {
  const auto& angles = run.history.back().angles.minimal_angles;
  if (arm.seeds.empty()) {
    for (const auto& [name, angle] : angles) arm.layers.emplace_back(name, std::vector<double>());
  }
  for (size_t i = 0; i < angles.size(); ++i) arm.layers[i].second.push_back(angles[i].second);
}

void add(const GatheredRun& run, size_t index, ArmResults& arm) {
  const std::vector<EpochMetrics>& history = run.history;
  add_layers(run, arm);
  arm.runs.push_back(index);
  arm.seeds.push_back(run.settings.seed);
  arm.top1.push_back(mean_of_last_five(history, &EpochMetrics::top1));
  arm.top5.push_back(mean_of_last_five(history, &EpochMetrics::top5));
  arm.final_top1.push_back(history.back().top1);
  arm.nearest_angle.push_back(history.back().angles.mean_nearest_angle);
  arm.minimal_angle.push_back(history.back().angles.mean_minimal_angle());
}

/// One network has one list of layers; a file edited by hand may have another.
void require_the_same_layers(const std::vector<GatheredRun>& runs) {
  const auto same_name = [](const auto& one, const auto& other) { return one.first == other.first; };
  const auto& first = runs.front().history.back().angles.minimal_angles;
  for (const GatheredRun& run : runs) {
    if (std::ranges::equal(first, run.history.back().angles.minimal_angles, same_name)) continue;
    throw UserError(c10::str("metrics.csv in ", runs.front().folder.string(), " and in ", run.folder.string(),
                             " have minimal angles of different layers: runs of one network are needed"));
  }
}

Arm baseline_named(const std::string& name, const std::vector<Arm>& arms) {
  std::vector<Arm> of_regularizer;
  std::vector<std::string> names;
  for (const Arm& arm : arms) {
    if (arm.name() == name) return arm;
    if (arm.regularizer == name) of_regularizer.push_back(arm);
    names.push_back(arm.name());
  }
  if (of_regularizer.size() == 1) return of_regularizer.front();
  throw UserError("--baseline " + name + ": " +
                  (of_regularizer.empty() ? "no run is of it" : "several arms are of this regularizer") + "; one of '" +
                  c10::Join("', '", names) + "' is needed");
}

/// With two digits, or so many that it does not look like 0.
std::string points(double value) {
  const double size = std::abs(value);
  return size > 0 && size < 0.005 ? formatted("%.1g", value) : formatted("%.2f", value);
}

}  // namespace

std::vector<ArmResults> arms_of(const std::vector<GatheredRun>& runs, const std::string& baseline) {
  require_the_same_layers(runs);
  std::vector<size_t> order;
  std::vector<Arm> arms;
  for (size_t i = 0; i < runs.size(); ++i) order.push_back(i);
  const auto key = [&](size_t index) {
    const Arm arm = arm_of(runs[index].settings);
    return std::tuple(arm.regularizer, arm.coefficient, arm.scope, runs[index].settings.seed);
  };
  std::ranges::sort(order, {}, key);
  for (const size_t index : order) {
    const Arm arm = arm_of(runs[index].settings);
    if (arms.empty() || arms.back() != arm) arms.push_back(arm);
  }
  const auto first = std::ranges::find(arms, baseline_named(baseline, arms));
  std::rotate(arms.begin(), first, first + 1);
  std::vector<ArmResults> results;
  for (const Arm& arm : arms) {
    results.emplace_back().arm = arm;
    for (const size_t index : order) {
      if (arm_of(runs[index].settings) == arm) add(runs[index], index, results.back());
    }
  }
  return results;
}

const std::vector<Measure>& measures() {
  static const std::vector<Measure> all = {{"top-1 %", "top1_percent", &ArmResults::top1},
                                           {"top-1 %, last epoch", "final_top1_percent", &ArmResults::final_top1},
                                           {"top-5 %", "top5_percent", &ArmResults::top5}};
  return all;
}

AgainstBaseline against_baseline(const ArmResults& arm, const ArmResults& baseline, const Measure& measure) {
  const std::vector<double>& all = arm.*measure.values;
  const std::vector<double>& all_of_baseline = baseline.*measure.values;
  std::vector<double> ours, theirs;
  AgainstBaseline result = {};
  for (size_t i = 0; i < arm.seeds.size(); ++i) {
    const auto found = std::ranges::find(baseline.seeds, arm.seeds[i]);
    if (found == baseline.seeds.end()) continue;
    result.seeds.push_back(arm.seeds[i]);
    ours.push_back(all[i]);
    theirs.push_back(all_of_baseline[static_cast<size_t>(found - baseline.seeds.begin())]);
    result.differences.push_back(ours.back() - theirs.back());
  }
  result.paired = paired_test(ours, theirs);
  result.welch = welch_test(all, all_of_baseline);
  if (!std::isnan(result.paired.low)) {  // else there is no scatter to find it in
    result.needed = pairs_needed(wanted_effect, standard_deviation(result.differences));
  }
  return result;
}

std::string verdict_on(const std::string& arm, const AgainstBaseline& top1) {
  const size_t pairs = top1.seeds.size();
  if (pairs == 0) return "No seed in common with the baseline: no interval, no verdict on " + arm + ".";
  if (pairs == 1) return "One pair: no interval, no verdict on " + arm + ".";
  const double low = top1.paired.low, high = top1.paired.high;
  if (std::isnan(low)) {
    return c10::str("The differences of ", pairs, " pairs do not scatter: no interval, no verdict on ", arm, ".");
  }
  const std::string basis = c10::str(" (95 %, ", pairs, " pairs)");
  if (low > 0)
    return arm + " adds between " + points(low) + " and " + points(high) + " points of top-1" + basis + ": it helps.";
  if (high < 0)
    return arm + " takes between " + points(-high) + " and " + points(-low) + " points of top-1" + basis +
           ": it harms.";
  return "The interval of " + arm + " from " + points(low) + " to " + points(high) + " points of top-1" + basis +
         " holds 0: not shown either way.";
}

}  // namespace mma::examples
