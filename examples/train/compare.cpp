#include "train/compare.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iomanip>
#include <limits>
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

/// The median over the epochs; NaN for what an older version did not measure.
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

/// The minimal angle of a layer after the last epoch.
double angle_of(const std::string& layer, const FinishedRun& run) {
  std::string known;
  for (const auto& [name, angle] : run.history.back().angles.minimal_angles) {
    if (name == layer) return angle;
    known += (known.empty() ? "" : ", ") + name;
  }
  throw UserError("--layers: the run in " + run.folder + " has no layer " + layer + ", only " + known);
}

using Row = std::vector<std::string>;

constexpr size_t text_columns = 3;  // before the numbers

std::vector<Row> head(const std::vector<std::string>& layers) {
  std::vector<Row> rows = {{"run", "model", "regularizer", "epochs", "top-1", "top-1 %", "top-5", "smallest", "mean",
                            "pairs", "seconds", "seconds", "peak"},
                           {"", "", "", "", "last %", "mean of 5", "last %", "min. angle", "min. angle", "cos > 0.2",
                            "an epoch", "a step", "MiB"}};
  for (const std::string& layer : layers) {
    rows[0].push_back("min. angle");
    rows[1].push_back(layer);
  }
  return rows;
}

std::string number_or_dash(double value, int digits) { return std::isnan(value) ? "-" : number(value, digits); }

Row row_of(const FinishedRun& run, const std::vector<std::string>& layers) {
  const EpochMetrics& last = run.history.back();
  const std::string done = std::to_string(last.epoch);
  const bool finished = last.epoch == run.settings.epochs;
  Row row = {
      run.folder,
      run.settings.model,
      run.settings.regularizer == "none" ? "none" : c10::str(run.settings.regularizer, " ", run.settings.coefficient),
      finished ? done : done + "/" + std::to_string(run.settings.epochs),
      number_or_dash(last.top1, 2),
      number_or_dash(mean_top1_of_last_five(run.history), 2),
      number_or_dash(last.top5, 2),
      number(last.angles.smallest_minimal_angle(), 1),
      number(last.angles.mean_minimal_angle(), 1),
      std::to_string(last.angles.pairs_above),
      number(median(run.history, &EpochMetrics::seconds), 1),
      number_or_dash(median(run.history, &EpochMetrics::seconds_per_step), 3),
      number_or_dash(last.peak_memory_mib, 0)};
  for (const std::string& layer : layers) row.push_back(number_or_dash(angle_of(layer, run), 1));
  return row;
}

/// Columns as wide as their widest cell; text to the left, numbers to the right.
void print_table(const std::vector<Row>& rows, std::ostream& stream) {
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

/// The two lines of the head become one.
void print_markdown(const std::vector<Row>& rows, std::ostream& stream) {
  const auto print = [&](const Row& row) {
    for (const std::string& cell : row) stream << "| " << cell << ' ';
    stream << "|\n";
  };
  Row names = rows[0];
  for (size_t i = 0; i < names.size(); ++i) names[i] += (rows[1][i].empty() ? "" : " ") + rows[1][i];
  print(names);
  for (size_t i = 0; i < names.size(); ++i) stream << (i < text_columns ? "|---" : "|---:");
  stream << "|\n";
  for (size_t i = 2; i < rows.size(); ++i) print(rows[i]);
  stream << '\n';
}

}  // namespace

void compare_runs(const std::vector<std::string>& folders, const Comparison& wanted, std::ostream& stream) {
  std::vector<Row> rows = head(wanted.layers);
  std::vector<NamedHistory> histories;
  for (const std::string& folder : folders) {
    const FinishedRun run = read_run(folder);
    rows.push_back(row_of(run, wanted.layers));
    histories.push_back({folder, run.history});
  }
  (wanted.markdown ? print_markdown : print_table)(rows, stream);
  stream
      << "Angles in degrees, over the layers of the network after the last epoch; seconds: medians over the epochs.\n";
  if (wanted.picture) {
    plot_comparison(histories, *wanted.picture);
    stream << "Picture: " << *wanted.picture << '\n';
  }
}

}  // namespace mma::examples
