#include "training/run/recorded_run.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mma/version.hpp>
#include <sstream>

#include "support/files/file_contents.hpp"
#include "support/files/json.hpp"
#include "support/files/paths.hpp"
#include "training/run/run.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

UserError not_of_mma_train(const fs::path& file, const std::string& why) {
  return UserError("the " + file.filename().string() + " in " + file.parent_path().string() +
                   " is not one that mma-train wrote: " + why);
}

}  // namespace

std::string of_another_version(const ordered_json& record) {
  if (!record.contains("version") || record["version"] == version) return "";
  return " (mma " + record["version"].dump() + " wrote it, this is " + std::string(version) + ")";
}

ordered_json read_config(const fs::path& folder) {
  const fs::path file = RunFolder{folder}.config();
  if (!is_there(file)) throw UserError(folder.string() + " holds no run of mma-train: it has no config.json");
  try {
    ordered_json config = parse_ordered_json(contents_of(file));
    const ordered_json& settings = member_of(config, "settings");
    if (!settings.is_object()) refuse_member("settings", settings, "an object");
    return config;
  } catch (const BadJson& error) {
    throw not_of_mma_train(file, error.about("it"));
  }
}

Settings read_settings(const fs::path& folder) {
  const ordered_json config = read_config(folder);
  try {
    Settings settings = settings_from_json(config.at("settings"));
    check(settings);  // as if somebody had typed them
    return settings;
  } catch (const BadJson& error) {
    throw not_of_mma_train(RunFolder{folder}.config(), error.about("its settings") + of_another_version(config));
  } catch (const UserError& error) {
    throw not_of_mma_train(RunFolder{folder}.config(), error.what());
  }
}

std::vector<EpochMetrics> read_history(const fs::path& folder) {
  const fs::path file = RunFolder{folder}.metrics_jsonl();
  std::vector<EpochMetrics> history;
  if (!is_there(file)) return history;
  std::istringstream stream(contents_of(file));
  for (std::string line; std::getline(stream, line);) {
    const int64_t epoch = std::ssize(history) + 1;
    try {
      history.push_back(epoch_metrics_from_json(parse_ordered_json(line), epoch));
    } catch (const BadJson& error) {
      throw not_of_mma_train(file, error.about(c10::str("line ", epoch)));
    }
  }
  return history;
}

double median(const std::vector<EpochMetrics>& history, double EpochMetrics::*member) {
  std::vector<double> values;
  for (const EpochMetrics& metrics : history) {
    if (!std::isnan(metrics.*member)) values.push_back(metrics.*member);
  }
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace mma::examples
