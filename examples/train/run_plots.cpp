#include "train/run_plots.hpp"

#include <algorithm>

#include "common/plot.hpp"

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

}  // namespace

void plot_run(const std::vector<EpochMetrics>& history, const std::filesystem::path& accuracy,
              const std::filesystem::path& angles) {
  write_png(accuracy, {accuracy_panel({by_epoch("top-1", history, &EpochMetrics::top1),
                                       by_epoch("top-5", history, &EpochMetrics::top5)})});
  std::vector<Series> lines;
  for (const size_t k : spread_over(history.size())) {
    lines.push_back(by_layer("after epoch " + std::to_string(history[k].epoch), history[k].angles));
  }
  write_png(angles, {angle_panel(std::move(lines))});
}

void plot_comparison(const std::vector<NamedHistory>& runs, const std::filesystem::path& path) {
  std::vector<Series> accuracies;
  std::vector<Series> angles;
  for (const auto& [name, history] : runs) {
    accuracies.push_back(by_epoch(name, history, &EpochMetrics::top1));
    angles.push_back(by_layer(name, history.back().angles));
  }
  Plot accuracy = accuracy_panel(std::move(accuracies));
  accuracy.title = "Test accuracy, top-1";
  write_png(path, {accuracy, angle_panel(std::move(angles))});
}

}  // namespace mma::examples
