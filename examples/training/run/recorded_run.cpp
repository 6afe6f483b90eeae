#include "training/run/recorded_run.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "support/process/error.hpp"
#include "training/run/run.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

UserError not_of_mma_train(const fs::path& file) {
  return UserError("the " + file.filename().string() + " in " + file.parent_path().string() +
                   " is not one that mma-train wrote");
}

}  // namespace

ordered_json read_config(const fs::path& folder) {
  const fs::path file = RunFolder{folder}.config();
  std::ifstream stream(file);
  if (!stream) throw UserError(folder.string() + " holds no run of mma-train: it has no config.json");
  try {
    ordered_json config = ordered_json::parse(stream);
    if (config.at("settings").is_object()) return config;
  } catch (const nlohmann::json::exception&) {
  }
  throw not_of_mma_train(file);
}

std::vector<EpochMetrics> read_history(const fs::path& folder) {
  const fs::path file = RunFolder{folder}.metrics_jsonl();
  std::vector<EpochMetrics> history;
  std::ifstream stream(file);
  try {
    for (std::string line; std::getline(stream, line);) {
      history.push_back(epoch_metrics_from_json(ordered_json::parse(line)));
    }
  } catch (const nlohmann::json::exception&) {
    throw not_of_mma_train(file);
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
