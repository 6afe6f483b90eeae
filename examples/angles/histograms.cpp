#include "angles/histograms.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "support/images/plot.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

bool has_pairs(const LayerAngles& layer) {
  return std::ranges::any_of(layer.cosine_histogram, [](int64_t count) { return count > 0; });
}

std::string title_of(const LayerAngles& layer) {
  char figures[128];
  std::snprintf(figures, sizeof figures, "\nminimal angle %.1f°, mean nearest %.1f°, pairs > %g: %lld",
                degrees(layer.minimal_angle), degrees(layer.mean_nearest_angle), layer.cosine_threshold,
                static_cast<long long>(layer.pairs_above));
  const std::string groups = layer.groups > 1 ? std::to_string(layer.groups) + " x " : "";
  return layer.name + "  [" + groups + std::to_string(layer.rows) + " x " + std::to_string(layer.dimension) + "]" +
         figures;
}

/// Bins above the threshold stand out as a series, and colour, of their own.
Plot panel_of(const LayerAngles& layer) {
  Plot plot;
  plot.title = title_of(layer);
  plot.x_label = "cosine";
  plot.y_label = "pairs";
  plot.vertical_lines = {layer.cosine_threshold};
  plot.bars.resize(2);
  plot.bar_width = 2.0 / static_cast<double>(layer.cosine_histogram.size());
  double middle = -1 + plot.bar_width / 2;
  for (const int64_t count : layer.cosine_histogram) {
    Series& bars = plot.bars[middle > layer.cosine_threshold ? 1 : 0];
    bars.x.push_back(middle);
    bars.y.push_back(static_cast<double>(count));
    middle += plot.bar_width;
  }
  return plot;
}

/// The largest absolute cosine of any layer or threshold, a little more than that, at most 1.
double common_range(const std::vector<Plot>& panels) {
  double range = 0;
  for (const Plot& panel : panels) {
    range = std::max(range, std::abs(panel.vertical_lines[0]));
    for (const Series& bars : panel.bars) {
      for (size_t i = 0; i < bars.x.size(); ++i) {
        if (bars.y[i] > 0) range = std::max(range, std::abs(bars.x[i]));
      }
    }
  }
  return std::min(1.0, std::ceil(range * 10 + 0.2) / 10);
}

}  // namespace

void plot_histograms(const Report& report, const std::filesystem::path& path) {
  std::vector<Plot> panels;
  for (const LayerAngles& layer : report.layers) {
    if (has_pairs(layer)) panels.push_back(panel_of(layer));
  }
  if (panels.empty()) throw UserError("cannot draw " + path.string() + ": no layer has two weight vectors");
  const double range = common_range(panels);
  for (Plot& panel : panels) panel.x_range = {-range, range};
  const int columns = panels.size() <= 3 ? 3 : static_cast<int>(std::ceil(std::sqrt(panels.size())));
  write_png(path, panels, columns);
}

}  // namespace mma::examples
