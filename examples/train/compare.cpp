#include "train/compare.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "support/process/error.hpp"
#include "support/terminal/table.hpp"
#include "training/run/recorded_run.hpp"
#include "training/run/run_plots.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {
namespace {

struct FinishedRun {
  std::string folder;
  Settings settings;
  std::vector<EpochMetrics> history;
};

FinishedRun read_run(const std::string& folder) {
  FinishedRun run;
  run.folder = folder;
  run.settings = read_settings(folder);
  run.history = read_history(folder);
  if (run.history.empty()) throw UserError("the run in " + folder + " has not finished an epoch yet");
  return run;
}

std::string number(double value, int digits) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << value;
  return text.str();
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
  TableLines lines(rows.begin() + 1, rows.end());
  for (size_t i = 0; i < lines[0].size(); ++i) lines[0][i] = rows[0][i] + (rows[1][i].empty() ? "" : " ") + rows[1][i];
  stream << as_markdown(lines, text_columns) << '\n';
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
