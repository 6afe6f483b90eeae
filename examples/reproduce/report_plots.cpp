#include "reproduce/report_plots.hpp"

#include <algorithm>

#include "reproduce/statistics.hpp"
#include "support/images/histograms.hpp"
#include "support/images/plot.hpp"

namespace mma::examples {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double or_nan(const std::optional<double>& value) { return value.value_or(not_a_number); }

/// A point more: a mean with its deviation.
void add_mean(Series& series, double x, const std::vector<double>& values) {
  series.x.push_back(x);
  series.y.push_back(mean(values));
  series.deviation.push_back(standard_deviation(values));
}

/// Names below the axis, cut in lines so that they do not run into each other.
std::string in_lines(std::string label) {
  for (size_t place = 0; (place = label.find_first_of("- ", place)) != std::string::npos; ++place) {
    if (place > 0 && place + 1 < label.size() && std::isalpha(label[place + 1])) label[place] = '\n';
  }
  return label;
}

/// Rows side by side in one panel.
struct RowGroup {
  std::string title;
  size_t first, count;
  size_t cut = 0;  ///< of each label, what the title says
};

/// All, or by baseline where a study of ours sets several networks beside each other: "network, regularizer".
std::vector<RowGroup> groups_of(const Experiment& experiment) {
  const RowGroup all = {experiment.title, 0, experiment.rows.size()};
  if (experiment.of_paper) return {all};
  std::vector<RowGroup> groups;
  for (size_t row = 0; row < experiment.rows.size(); ++row) {
    if (!experiment.rows[row].baseline) {
      const std::string& label = experiment.rows[row].label;
      const size_t end = label.find(", ");
      if (end == std::string::npos) return {all};
      groups.push_back({label.substr(0, end), row, 0, end + 2});
    }
    ++groups.back().count;
  }
  return groups;
}

/// Top-1 by row, the paper's beside ours.
Plot accuracy_by_row(const Experiment& experiment, const RowGroup& group, const std::vector<RowResults>& results) {
  Plot plot;
  plot.title = group.title;
  plot.y_label = "top-1, percent";
  Series ours = {.name = "ours", .x = {}, .y = {}, .joined = false};
  Series paper = {.name = "paper", .x = {}, .y = {}, .joined = false};
  for (size_t k = 0; k < group.count; ++k) {
    const ExperimentRow& row = experiment.rows[group.first + k];
    const auto x = static_cast<double>(k);
    plot.x_ticks.emplace_back(x, in_lines(row.label.substr(group.cut)) + "\n");
    add_mean(ours, x - 0.08, results[group.first + k].top1);
    paper.x.push_back(x + 0.08);
    paper.y.push_back(or_nan(row.paper.top1));
  }
  plot.x_range = {-0.5, static_cast<double>(group.count) - 0.5};
  plot.lines = {ours, paper};
  return plot;
}

Plot angles_by_layer(const Experiment& experiment, const std::vector<RowResults>& results) {
  Plot plot;
  plot.title = "Minimal angles";
  plot.y_label = "degrees";
  for (size_t layer = 0; layer < experiment.layers.size(); ++layer) {
    plot.x_ticks.emplace_back(static_cast<double>(layer), experiment.layers[layer].label);
  }
  plot.x_range = {-0.2, static_cast<double>(experiment.layers.size()) - 0.8};
  for (size_t row = 0; row < results.size(); ++row) {
    Series series = {.name = experiment.rows[row].label, .x = {}, .y = {}};
    for (size_t layer = 0; layer < experiment.layers.size(); ++layer) {
      add_mean(series, static_cast<double>(layer), results[row].angles[layer]);
    }
    plot.lines.push_back(std::move(series));
  }
  return plot;
}

/// Coefficients stand at equal distances: 0 has no place on a logarithmic axis.
Plot by_coefficient(const Experiment& experiment, const std::vector<RowResults>& results) {
  Plot plot;
  plot.title = experiment.title;
  plot.x_label = "coefficient";
  plot.y_label = "final top-1, percent";
  Series series = {.name = "", .x = {}, .y = {}};
  for (size_t row = 0; row < results.size(); ++row) {
    plot.x_ticks.emplace_back(static_cast<double>(row), experiment.rows[row].label);
    add_mean(series, static_cast<double>(row), results[row].final_top1);
  }
  plot.x_range = {-0.5, static_cast<double>(results.size()) - 0.5};
  plot.lines = {series};
  return plot;
}

/// The mean over the seeds after each epoch.
Plot by_epoch(const Experiment& experiment, const std::vector<RowResults>& results, const Standing& standing) {
  Plot plot;
  plot.title = experiment.title;
  plot.x_label = "epoch";
  plot.y_label = "top-1, percent";
  for (size_t row = 0; row < results.size(); ++row) {
    Series series = {.name = experiment.rows[row].label, .x = {}, .y = {}};
    const std::vector<size_t>& runs = results[row].runs;
    const size_t epochs = runs.empty() ? 0 : standing.states[runs[0]].history.size();
    for (size_t epoch = 0; epoch < epochs; ++epoch) {
      std::vector<double> values;
      for (const size_t run : runs) values.push_back(standing.states[run].history.at(epoch).top1);
      series.x.push_back(static_cast<double>(epoch + 1));
      series.y.push_back(mean(values));
    }
    plot.lines.push_back(std::move(series));
  }
  return plot;
}

void plot_cosines(const Experiment& experiment, const std::vector<RowResults>& results, const Standing& standing,
                  FirstLayers& first_layers, const std::filesystem::path& path) {
  mma::Report report;
  for (size_t row = 0; row < results.size(); ++row) {
    if (results[row].empty()) continue;
    const PlannedRun& run = standing.plan.runs[results[row].runs[0]];
    report.layers.push_back(first_layers.of(run.folder, experiment.layers[0].name));
    report.layers.back().name = experiment.rows[row].label;
  }
  plot_histograms(report, path);
}

}  // namespace

bool plot_experiment(const Experiment& experiment, const Standing& standing, FirstLayers& first_layers,
                     const std::filesystem::path& path) {
  std::vector<RowResults> results;
  for (size_t row = 0; row < experiment.rows.size(); ++row) results.push_back(results_of(experiment, row, standing));
  if (std::ranges::all_of(results, &RowResults::empty)) return false;
  switch (experiment.kind) {
    case ExperimentKind::Cosines:
      plot_cosines(experiment, results, standing, first_layers, path);
      break;
    case ExperimentKind::Coefficients:
      write_png(path, {by_coefficient(experiment, results)});
      break;
    case ExperimentKind::Curves:
      write_png(path, {by_epoch(experiment, results, standing)});
      break;
    default:
      std::vector<Plot> panels;
      for (const RowGroup& group : groups_of(experiment)) panels.push_back(accuracy_by_row(experiment, group, results));
      if (experiment.layers.size() > 1) panels.push_back(angles_by_layer(experiment, results));
      write_png(path, panels, 1);
  }
  return true;
}

}  // namespace mma::examples
