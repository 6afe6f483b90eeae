#include "reproduce/run_state.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <fstream>

#include "support/process/error.hpp"
#include "training/run/checkpoint.hpp"
#include "training/run/recorded_run.hpp"
#include "training/run/run.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {
namespace {

using nlohmann::ordered_json;

/// Whether it decides where and how a run is computed, not what.
bool is_of_machine(const std::string& key) {
  return std::ranges::any_of(run_options(), [&](const auto& row) { return row.key == key && row.of_machine; });
}

/// A member that one of them lacks, as one of another version, has its default.
std::string first_difference(const ordered_json& found, const ordered_json& wanted) {
  static const ordered_json defaults = to_json(Settings());
  const auto value = [](const ordered_json& settings, const std::string& name) {
    if (settings.contains(name)) return settings[name];
    return defaults.contains(name) ? defaults[name] : ordered_json();
  };
  for (const auto& [name, member] : wanted.items()) {
    if (is_of_machine(name)) continue;
    const ordered_json there = value(found, name);
    if (there != member) return c10::str("its ", name, " is ", there.dump(), ", not ", member.dump());
  }
  return "";
}

/// The settings of a run that was killed between its first checkpoint and its config.json.
ordered_json settings_in_checkpoint(const RunFolder& files) {
  const std::optional<RunRecord> record = record_in(read_tensor_file(files.checkpoint()), files.checkpoint());
  if (!record) throw UserError(files.checkpoint().string() + " is not a checkpoint of mma-train");
  return to_json(record->settings);
}

void require_the_same(const ordered_json& found, const Settings& wanted, const std::filesystem::path& folder) {
  const std::string difference = first_difference(found, to_json(wanted));
  if (difference.empty()) return;
  throw UserError(c10::str(folder.string(), " holds another run than the one wanted (", difference,
                           "): move it away, or choose another --out"));
}

}  // namespace

std::string first_difference(const Settings& found, const Settings& wanted) {
  return first_difference(to_json(found), to_json(wanted));
}

double RunState::seconds() const {
  double seconds = 0;
  for (const EpochMetrics& metrics : history) seconds += metrics.seconds;
  return seconds;
}

RunState look_at(const std::filesystem::path& folder, const Settings& wanted) {
  const RunFolder files{folder};
  RunState state;
  if (!files.holds_a_run()) return state;
  state.status = RunStatus::begun;
  if (!std::filesystem::exists(files.config())) {
    require_the_same(settings_in_checkpoint(files), wanted, folder);
    return state;
  }
  state.config = read_config(folder);
  require_the_same(state.config.at("settings"), wanted, folder);
  state.history = read_history(folder);
  if (!state.history.empty() && state.history.back().epoch >= wanted.epochs) state.status = RunStatus::finished;
  return state;
}

}  // namespace mma::examples
