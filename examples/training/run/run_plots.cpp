#include "training/run/run_plots.hpp"

#include <algorithm>
#include <cmath>

#include "support/images/plot.hpp"

namespace mma::examples {
namespace {

Series by_epoch(const std::string& name, const std::vector<EpochMetrics>& history, double EpochMetrics::*member) {
  Series series;
  series.name = name;
  for (const EpochMetrics& metrics : history) {
    series.x.push_back(static_cast<double>(metrics.epoch));
    series.y.push_back(metrics.*member);
  }
  return series;
}

Series by_layer(const std::string& name, const AngleSummary& angles) {
  Series series;
  series.name = name;
  for (const auto& [layer, angle] : angles.minimal_angles) {
    series.x.push_back(static_cast<double>(series.x.size() + 1));
    series.y.push_back(angle);
  }
  return series;
}

Plot accuracy_panel(std::vector<Series> lines) {
  Plot plot;
  plot.title = "Test accuracy";
  plot.x_label = "epoch";
  plot.y_label = "percent";
  plot.lines = std::move(lines);
  return plot;
}

Plot angle_panel(std::vector<Series> lines) {
  Plot plot;
  plot.title = "Minimal angle between the weight vectors of a layer";
  plot.x_label = "layer, from input to output";
  plot.y_label = "degrees";
  plot.lines = std::move(lines);
  return plot;
}

/// The first and the last of a history, and some between at equal distances.
std::vector<size_t> spread_over(size_t count) {
  constexpr size_t most = 6;
  std::vector<size_t> chosen;
  const size_t lines = std::min(most, count);
  for (size_t k = 0; k < lines; ++k) chosen.push_back(lines == 1 ? 0 : k * (count - 1) / (lines - 1));
  return chosen;
}

std::vector<Series> angles_over_training(const std::vector<EpochMetrics>& history) {
  std::vector<Series> lines;
  for (const size_t k : spread_over(history.size())) {
    lines.push_back(by_layer("after epoch " + std::to_string(history[k].epoch), history[k].angles));
  }
  return lines;
}

constexpr size_t most_runs_over_training = 4;  // each has a panel of its own

/// Tens of degrees around all angles of all panels but the first.
std::pair<double, double> angle_range(const std::vector<Plot>& panels) {
  double lowest = 90, highest = 0;
  for (size_t k = 1; k < panels.size(); ++k) {
    for (const Series& line : panels[k].lines) {
      for (const double angle : line.y) {
        lowest = std::fmin(lowest, angle);
        highest = std::fmax(highest, angle);
      }
    }
  }
  return {10 * std::floor(lowest / 10), 10 * std::ceil(highest / 10)};
}

}  // namespace

void plot_accuracy(const std::vector<EpochMetrics>& history, const std::filesystem::path& path) {
  write_png(path, {accuracy_panel({by_epoch("top-1", history, &EpochMetrics::top1),
                                   by_epoch("top-5", history, &EpochMetrics::top5)})});
}

void plot_angles(const std::vector<EpochMetrics>& history, const std::filesystem::path& path) {
  write_png(path, {angle_panel(angles_over_training(history))});
}

void plot_comparison(const std::vector<NamedHistory>& runs, const std::filesystem::path& path) {
  std::vector<Series> accuracies;
  std::vector<Series> angles;
  for (const auto& [name, history] : runs) {
    accuracies.push_back(by_epoch(name, history, &EpochMetrics::top1));
    angles.push_back(by_layer(name, history.back().angles));
  }
  std::vector<Plot> panels = {accuracy_panel(std::move(accuracies)), angle_panel(std::move(angles))};
  panels[0].title = "Test accuracy, top-1";
  if (runs.size() <= most_runs_over_training) {
    for (const auto& [name, history] : runs) {
      panels.push_back(angle_panel(angles_over_training(history)));
      panels.back().title = name + ": minimal angle of a layer over the training";
    }
  }
  const auto [lowest, highest] = angle_range(panels);
  for (size_t k = 1; k < panels.size(); ++k) panels[k].y_range = {lowest, highest};
  write_png(path, panels, 2);
}

}  // namespace mma::examples
