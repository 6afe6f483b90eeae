// Pictures as PNG files, drawn by gnuplot: lines over a common axis, histograms, several panels in one picture.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

struct Series {
  std::string name;  ///< in the legend; empty: not listed
  std::vector<double> x;
  std::vector<double> y;               ///< as many as x; NaN leaves a gap
  std::vector<double> deviation = {};  ///< of each y, a bar up and down, NaN: none; or empty
  bool joined = true;                  ///< by lines; otherwise points alone
};

/// One panel: axes with lines, bars or both.
struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<Series> lines;
  std::vector<Series> bars;  ///< histograms: x are the middles of bins
  double bar_width = 1;
  std::vector<double> vertical_lines = {};
  std::optional<std::pair<double, double>> x_range = {};
  std::optional<std::pair<double, double>> y_range = {};     ///< lines beyond it are cut off
  std::vector<std::pair<double, std::string>> x_ticks = {};  ///< empty: gnuplot's own
  bool x_is_logarithmic = false;                             ///< then every x is above 0
};

/// Points on the unit sphere in three dimensions, some of them joined.
struct Sphere {
  std::string title;
  std::vector<std::array<double, 3>> points;
  std::vector<std::pair<size_t, size_t>> edges;  ///< drawn as arcs of great circles
};

/// True when gnuplot can be run.
bool plotting_available();

/// Draws the panels, in rows of at most `columns`, into one PNG file, written atomically.
/// Throws UserError when gnuplot is missing or fails, or when the file cannot be written.
void write_png(const std::filesystem::path& path, const std::vector<Plot>& panels, int columns = 3);

/// Draws the sphere as seen from far away: what lies in front in strong colours, what lies behind in pale ones.
void write_sphere_png(const std::filesystem::path& path, const Sphere& sphere);

}  // namespace mma::examples
