#include "train/compare.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/error.hpp"
#include "train/run.hpp"
#include "train/run_plots.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

struct FinishedRun {
  std::string folder;
  Settings settings;
  std::vector<EpochMetrics> history;
};

std::ifstream opened(const fs::path& path, const std::string& folder) {
  std::ifstream stream(path);
  if (!stream) throw UserError(folder + " holds no run of mma-train: it has no " + path.filename().string());
  return stream;
}

FinishedRun read_run(const std::string& folder) {
  const RunFolder files{folder};
  FinishedRun run;
  run.folder = folder;
  std::ifstream config = opened(files.config(), folder);
  std::ifstream metrics = opened(files.metrics_jsonl(), folder);
  try {
    run.settings = settings_from_json(nlohmann::ordered_json::parse(config).at("settings"));
    for (std::string line; std::getline(metrics, line);) {
      run.history.push_back(epoch_metrics_from_json(nlohmann::ordered_json::parse(line)));
    }
  } catch (const nlohmann::json::exception&) {
    throw UserError("the config.json or metrics.jsonl in " + folder + " is not one that mma-train wrote");
  }
  if (run.history.empty()) throw UserError("the run in " + folder + " has not finished an epoch yet");
  return run;
}

std::string number(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
}

double median_seconds(const std::vector<EpochMetrics>& history) {
  std::vector<double> seconds;
  for (const EpochMetrics& metrics : history) seconds.push_back(metrics.seconds);
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

using Row = std::vector<std::string>;

const std::vector<Row>& head() {
  static const std::vector<Row> rows = {
      {"run", "model", "regularizer", "epochs", "top-1", "top-1 %", "top-5", "smallest", "mean", "pairs", "seconds"},
      {"", "", "", "", "last %", "mean of 5", "last %", "min. angle", "min. angle", "cos > 0.2", "an epoch"}};
  return rows;
}

Row row_of(const FinishedRun& run) {
  const EpochMetrics& last = run.history.back();
  const std::string done = std::to_string(last.epoch);
  const bool finished = last.epoch == run.settings.epochs;
  return {run.folder,
          run.settings.model,
          run.settings.regularizer == "none" ? "none" : "mma " + number(run.settings.coefficient, 3),
          finished ? done : done + "/" + std::to_string(run.settings.epochs),
          number(last.top1, 2),
          number(mean_top1_of_last_five(run.history), 2),
          number(last.top5, 2),
          number(last.angles.smallest_minimal_angle(), 1),
          number(last.angles.mean_minimal_angle(), 1),
          std::to_string(last.angles.pairs_above),
          number(median_seconds(run.history), 1)};
}

/// Columns as wide as their widest cell; text to the left, numbers to the right.
void print_table(const std::vector<Row>& rows, std::ostream& stream) {
  constexpr size_t text_columns = 3;
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blank(widths[i] - row[i].size(), ' ');
      line += (i == 0 ? "" : "  ") + (i < text_columns ? row[i] + blank : blank + row[i]);
    }
    stream << line << '\n';
  }
}

}  // namespace

void compare_runs(const std::vector<std::string>& folders, const std::optional<std::string>& picture,
                  std::ostream& stream) {
  std::vector<Row> rows = head();
  std::vector<NamedHistory> histories;
  for (const std::string& folder : folders) {
    const FinishedRun run = read_run(folder);
    rows.push_back(row_of(run));
    histories.push_back({folder, run.history});
  }
  print_table(rows, stream);
  stream << "Angles in degrees, over the layers of the network after the last epoch.\n";
  if (picture) {
    plot_comparison(histories, *picture);
    stream << "Picture: " << *picture << '\n';
  }
}

}  // namespace mma::examples
