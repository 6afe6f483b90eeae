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
      throw UserError((text.empty() ? "''" : text) + (is_there(folder)
                                                          ? " is no folder; that of a run, or one above such, is needed"
                                                          : ": there is no such folder"));
    }
    if (!search.look_into(folder)) {
      throw UserError(text + " holds no run: no folder in it has a config.json and a metrics.csv");
    }
  }
  return search;
}

std::string shown(const Given& value) {
  if (value.is_object()) return value.dump();
  const std::string words = text(value);
  return words.empty() ? "not given" : words;
}

GatheredRun read_run(const fs::path& folder) {
  GatheredRun run = {folder, read_config(folder), read_settings(folder), {}};
  if (const ordered_json program = run.config.value("program", ordered_json("mma-train")); program != "mma-train") {
    throw UserError(
        c10::str("the run in ", folder.string(), " is of ", shown(program), "; one of mma-train is needed"));
  }
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

/// Where each process normalises over its own piece of the batch, their number is a setting. Runs of older versions had
/// one.
std::optional<Difference> difference_of_processes(const GatheredRun& first, const GatheredRun& second) {
  constexpr const char* key = "processes";
  const auto count = [&](const GatheredRun& run) { return run.config.value(key, ordered_json(1)); };
  if (first.settings.sync_batch_norm || count(first) == count(second)) return std::nullopt;
  return Difference{key, shown(count(first)), shown(count(second))};
}

/// A setting that an older version did not have is what it is by default: settings_from_json() has seen to that.
std::optional<Difference> difference(const GatheredRun& first, const GatheredRun& second) {
  const ordered_json &one_json = first.config["settings"], &other_json = second.config["settings"];
  for (const OptionRow<Settings>& row : run_options()) {
    if (!is_shared(row)) continue;
    const Given one = value_of(row, first.settings), other = value_of(row, second.settings);
    const auto words = [&](const Given& value, const ordered_json& json) {
      return shown(value) + (json.contains(row.key) ? "" : " (which its config.json does not say: the default)");
    };
    if (one != other) return Difference{row.name, words(one, one_json), words(other, other_json)};
  }
  if (const auto others = difference_of_others(one_json, other_json)) return others;
  return difference_of_processes(first, second);
}

[[noreturn]] void refuse(const GatheredRun& one, const GatheredRun& other, const Difference& found) {
  throw UserError(c10::str("the runs in ", one.folder.string(), " and ", other.folder.string(),
                           " are not of one comparison: ", found.name, " is ", found.first, " in the one and ",
                           found.second,
                           " in the other; gather runs that differ in regularizer, coefficient, scope and seed "
                           "alone"));
}

/// Folders of other machines may hold other images: their numbers must agree among the runs that recorded them.
void require_the_same_data(const std::vector<GatheredRun>& runs) {
  for (const char* key : {"train_images", "test_images", "classes", "parameters"}) {
    const GatheredRun* first = nullptr;
    for (const GatheredRun& run : runs) {
      if (!run.config.contains(key)) continue;
      if (first == nullptr) first = &run;
      if (first->config[key] == run.config[key]) continue;
      refuse(*first, run, {key, shown(first->config, key), shown(run.config, key)});
    }
  }
}

void require_one_comparison(const std::vector<GatheredRun>& runs) {
  for (const GatheredRun& run : runs) {
    if (const std::optional<Difference> found = difference(runs.front(), run)) refuse(runs.front(), run, *found);
  }
  require_the_same_data(runs);
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

bool have_the_same_figures(const GatheredRun& one, const GatheredRun& other) {
  return std::ranges::equal(one.history, other.history, same_figures);
}

/// Counts each seed of an arm once.
void take(GatheredRun run, GatheredRuns& gathered) {
  const auto is_of_arm = [&](const GatheredRun& other) { return arm_of(other.settings) == arm_of(run.settings); };
  const auto twin = std::ranges::find_if(gathered.runs, [&](const GatheredRun& other) {
    return is_of_arm(other) && other.settings.seed == run.settings.seed;
  });
  if (twin == gathered.runs.end()) {
    for (const GatheredRun& other : gathered.runs) {
      if (!is_of_arm(other) || !have_the_same_figures(other, run)) continue;
      throw UserError(c10::str("the runs in ", other.folder.string(), " and ", run.folder.string(),
                               " have the same figures to the last digit, but the seeds ", other.settings.seed, " and ",
                               run.settings.seed, ": one is a copy of the other, so leave it out"));
    }
    gathered.runs.push_back(std::move(run));
    return;
  }
  if (have_the_same_figures(*twin, run)) {
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
