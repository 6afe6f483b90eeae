#include "reproduce/gathered_runs.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "reproduce/metrics_csv.hpp"
#include "support/files/paths.hpp"
#include "support/process/error.hpp"
#include "support/terminal/table.hpp"
#include "training/run/recorded_run.hpp"
#include "training/run/run.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

/// Walks through folders and sorts them into runs and others; a folder that two paths lead to is counted once.
class Search {
 public:
  /// Whether there is a run, or half of one.
  bool look_into(const fs::path& folder) {
    const auto [place, is_new] = seen_.emplace(fs::weakly_canonical(folder), false);
    if (!is_new) return place->second;
    const RunFolder files{folder};
    const bool has_config = is_file(files.config()), has_metrics = is_file(files.metrics_csv());
    if (has_config && has_metrics) runs.push_back(folder);
    if (has_config && !has_metrics) left_out.push_back({folder, "it has config.json, but no metrics.csv"});
    if (has_metrics && !has_config) left_out.push_back({folder, "it has metrics.csv, but no config.json"});
    bool holds = has_config || has_metrics;
    for (const fs::path& below : folders_in(folder)) holds = look_into(below) || holds;
    return place->second = holds;
  }

  std::vector<fs::path> runs;
  std::vector<LeftOut> left_out;

 private:
  /// In the order of their names: a report must not depend on the file system's.
  static std::vector<fs::path> folders_in(const fs::path& folder) {
    std::vector<fs::path> folders;
    try {
      for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (is_folder(entry.path())) folders.push_back(entry.path());
      }
    } catch (const fs::filesystem_error& error) {
      throw UserError(folder.string() + " cannot be looked into: " + error.code().message());
    }
    std::ranges::sort(folders);
    return folders;
  }

  std::map<fs::path, bool> seen_;  ///< and what look_into() found there
};

/// A folder as a person writes it: without the slash that completion leaves at its end.
fs::path without_slash(const std::string& text) {
  const fs::path path = fs::path(text).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

Search found_in(const std::vector<std::string>& folders) {
  Search search;
  for (const std::string& text : folders) {
    const fs::path folder = without_slash(text);
    if (!is_folder(folder)) {
      throw UserError(text + (is_there(folder) ? " is no folder; that of a run, or one above such, is needed"
                                               : ": there is no such folder"));
    }
    if (!search.look_into(folder)) {
      throw UserError(text + " holds no run: no folder in it has a config.json and a metrics.csv");
    }
  }
  return search;
}

GatheredRun read_run(const fs::path& folder) {
  GatheredRun run = {folder, read_config(folder), read_settings(folder), {}};
  run.history = read_metrics_csv(RunFolder{folder}.metrics_csv());
  const auto epochs = static_cast<int64_t>(run.history.size());
  if (epochs > run.settings.epochs) {
    throw UserError(c10::str(RunFolder{folder}.metrics_csv().string(), " has ", epochs,
                             " epochs, but by its config.json the run has ", run.settings.epochs));
  }
  return run;
}

bool is_finished(const GatheredRun& run) { return static_cast<int64_t>(run.history.size()) == run.settings.epochs; }

struct Difference {
  std::string name, first, second;
};

std::string shown(const Given& value) {
  if (value.is_object()) return value.dump();
  const std::string words = text(value);
  return words.empty() ? "not given" : words;
}

std::string shown(const ordered_json& json, const std::string& key) {
  return json.contains(key) ? shown(json[key]) : "not there";
}

/// Of what stands in both under a key: what a program has beside the common options, and what only a newer version
/// knows.
std::optional<Difference> difference_of_others(const ordered_json& first, const ordered_json& second) {
  const auto is_option = [](const std::string& key) {
    return std::ranges::any_of(run_options(), [&](const auto& row) { return row.key == key; });
  };
  for (const ordered_json* one : {&first, &second}) {
    for (const auto& [key, value] : one->items()) {
      if (is_option(key)) continue;
      if (first.contains(key) && second.contains(key) && first[key] == second[key]) continue;
      return Difference{key, shown(first, key), shown(second, key)};
    }
  }
  return std::nullopt;
}

/// Folders of other machines may hold other images: their numbers must agree, where both runs recorded them.
std::optional<Difference> difference_of_data(const ordered_json& first, const ordered_json& second) {
  for (const char* key : {"train_images", "test_images", "classes", "parameters"}) {
    if (!first.contains(key) || !second.contains(key) || first[key] == second[key]) continue;
    return Difference{key, shown(first, key), shown(second, key)};
  }
  return std::nullopt;
}

/// A setting that an older version did not have is what it is by default: settings_from_json() has seen to that.
std::optional<Difference> difference(const GatheredRun& first, const GatheredRun& second) {
  for (const OptionRow<Settings>& row : run_options()) {
    if (!is_shared(row)) continue;
    const Given one = value_of(row, first.settings), other = value_of(row, second.settings);
    if (one != other) return Difference{row.name, shown(one), shown(other)};
  }
  if (const auto others = difference_of_others(first.config["settings"], second.config["settings"])) return others;
  return difference_of_data(first.config, second.config);
}

void require_one_comparison(const std::vector<GatheredRun>& runs) {
  for (const GatheredRun& run : runs) {
    if (const std::optional<Difference> found = difference(runs.front(), run)) {
      throw UserError(c10::str("the runs in ", runs.front().folder.string(), " and ", run.folder.string(),
                               " are not of one comparison: ", found->name, " is ", found->first, " in the one and ",
                               found->second,
                               " in the other; gather runs that differ in regularizer, coefficient, scope and seed "
                               "alone"));
    }
  }
}

/// NaN, of what was not measured, equals NaN.
bool same(double one, double other) { return one == other || (std::isnan(one) && std::isnan(other)); }

/// Whether all that does not depend on the machine's speed and the date is the same, to the last digit.
bool same_figures(const EpochMetrics& one, const EpochMetrics& other) {
  const auto& angles = one.angles.minimal_angles;
  const auto& others = other.angles.minimal_angles;
  return same(one.learning_rate, other.learning_rate) && same(one.loss, other.loss) &&
         same(one.regularization_loss, other.regularization_loss) && same(one.top1, other.top1) &&
         same(one.top5, other.top5) && same(one.angles.mean_nearest_angle, other.angles.mean_nearest_angle) &&
         one.angles.pairs_above == other.angles.pairs_above &&
         std::ranges::equal(angles, others, [](const auto& layer, const auto& same_layer) {
           return layer.first == same_layer.first && same(layer.second, same_layer.second);
         });
}

/// Counts each seed of an arm once.
void take(GatheredRun run, GatheredRuns& gathered) {
  const auto twin = std::ranges::find_if(gathered.runs, [&](const GatheredRun& other) {
    return other.settings.seed == run.settings.seed && arm_of(other.settings) == arm_of(run.settings);
  });
  if (twin == gathered.runs.end()) {
    gathered.runs.push_back(std::move(run));
    return;
  }
  if (std::ranges::equal(twin->history, run.history, same_figures)) {
    gathered.left_out.push_back({run.folder, "the same figures as in " + twin->folder.string() + ", counted once"});
    return;
  }
  throw UserError(c10::str("the runs in ", twin->folder.string(), " and ", run.folder.string(), " are both of ",
                           arm_of(run.settings).name(), " with seed ", run.settings.seed,
                           ", but their figures differ: a seed counts once, so leave one of them out"));
}

}  // namespace

std::string Arm::name() const {
  if (regularizer == "none") return regularizer;
  return regularizer + " " + exact(coefficient) + (scope == "all" ? "" : " " + scope);
}

Arm arm_of(const Settings& settings) {
  if (settings.regularizer == "none") return {"none", 0, "all"};
  return {settings.regularizer, settings.coefficient, settings.scope};
}

bool is_shared(const OptionRow<Settings>& option) {
  static const std::set<std::string> of_arm_and_seed = {"regularizer", "coefficient", "scope", "seed"};
  return !option.of_machine && !of_arm_and_seed.contains(option.key);
}

GatheredRuns gather_runs(const std::vector<std::string>& folders) {
  Search search = found_in(folders);
  std::vector<GatheredRun> finished;
  GatheredRuns gathered = {{}, std::move(search.left_out)};
  for (const fs::path& folder : search.runs) {
    GatheredRun run = read_run(folder);
    if (is_finished(run)) {
      finished.push_back(std::move(run));
    } else {
      gathered.left_out.push_back(
          {folder, c10::str("it is not finished: ", run.history.size(), " of ", run.settings.epochs, " epochs")});
    }
  }
  if (finished.empty()) {
    const LeftOut& first = gathered.left_out.front();
    throw UserError(c10::str("no finished run was found, only ", gathered.left_out.size(), " left out, such as ",
                             first.folder.string(), ": ", first.why));
  }
  require_one_comparison(finished);
  for (GatheredRun& run : finished) take(std::move(run), gathered);
  return gathered;
}

}  // namespace mma::examples
