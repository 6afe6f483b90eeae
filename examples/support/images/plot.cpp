#include "support/images/plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>
#include <sstream>
#include <utility>

#include "support/files/atomic_file.hpp"
#include "support/process/child.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr std::array<const char*, 8> colours = {"#2166ac", "#d6604d", "#4d9221", "#7b3294",
                                                "#e08214", "#1b7837", "#c51b7d", "#666666"};

/// Few series are told apart by hue; many (the layers of a network) go from dark blue over green to yellow in their
/// order.
std::string colour(size_t index, size_t count) {
  if (count <= colours.size()) return colours[index];
  const double place = static_cast<double>(index) / static_cast<double>(count - 1);
  std::array<char, 8> text;
  const auto mix = [place](double first, double middle, double last) {
    return static_cast<int>(
        std::lround(place < 0.5 ? first + (middle - first) * 2 * place : middle + (last - middle) * (2 * place - 1)));
  };
  std::snprintf(text.data(), text.size(), "#%02x%02x%02x", mix(68, 33, 240), mix(1, 145, 200), mix(100, 140, 30));
  return text.data();
}

std::string last_line(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text.substr(text.find_last_of('\n') + 1);
}

/// std::nullopt where there is no gnuplot.
std::optional<FinishedProgram> run_gnuplot(const std::string& script) {
  try {
    return run_to_end({"gnuplot"}, script);
  } catch (const CannotStart&) {
    return std::nullopt;
  }
}

/// A single-quoted string of gnuplot, in which nothing is special; what it cannot hold is joined on in double quotes.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char character : text) {
    if (character == '\'') {
      result += "'.\"'\".'";
    } else if (character == '\n') {
      result += "'.\"\\n\".'";
    } else {
      result += character;
    }
  }
  return result + "'";
}

/// The label of a tick, which gnuplot takes for the format of its place.
std::string as_label(const std::string& text) {
  std::string label;
  for (const char character : text) label.append(character == '%' ? 2 : 1, character);
  return quoted(std::as_const(label));
}

void write_series(std::ostream& script, const std::string& name, const Series& series) {
  script << name << " << END_OF_DATA\n";
  for (size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    const double deviation =
        i < series.deviation.size() && std::isfinite(series.deviation[i]) ? series.deviation[i] : 0;
    script << series.x[i] << ' ';
    if (std::isfinite(series.y[i])) {
      script << series.y[i] << ' ' << deviation << '\n';
    } else {
      script << "NaN NaN\n";
    }
  }
  script << "END_OF_DATA\n";
}

/// How a line is drawn: the columns of its data, and gnuplot's style.
std::string line_style(const Series& line) {
  const std::string points = " pointtype 7 linewidth 2";
  if (!line.deviation.empty()) return (line.joined ? "1:2:3 with yerrorlines" : "1:2:3 with yerrorbars") + points;
  if (!line.joined || line.x.size() == 1) return "1:2 with points" + points;
  return "1:2 with lines linewidth 2";
}

bool has_legend(const Plot& plot) {
  const auto is_named = [](const Series& series) { return !series.name.empty(); };
  return std::ranges::any_of(plot.lines, is_named) || std::ranges::any_of(plot.bars, is_named);
}

std::string legend_entry(const Series& series) {
  return series.name.empty() ? "notitle" : "title " + quoted(series.name);
}

void write_axes(std::ostream& script, const Plot& plot) {
  script << "set title " << quoted(plot.title) << "\nset xlabel " << quoted(plot.x_label) << "\nset ylabel "
         << quoted(plot.y_label) << "\nunset logscale\nset xrange [*:*]\nset yrange [*:*]\nunset arrow\n";
  if (plot.x_is_logarithmic) script << "set logscale x\n";
  script << "set boxwidth " << plot.bar_width << " absolute\n";
  if (plot.x_range) script << "set xrange [" << plot.x_range->first << ':' << plot.x_range->second << "]\n";
  if (!plot.bars.empty()) script << "set yrange [0:*]\n";
  if (plot.y_range) script << "set yrange [" << plot.y_range->first << ':' << plot.y_range->second << "]\n";
  script << "set xtics autofreq\n";
  for (size_t i = 0; i < plot.x_ticks.size(); ++i) {
    script << (i == 0 ? "set xtics (" : "set xtics add (") << as_label(plot.x_ticks[i].second) << ' '
           << plot.x_ticks[i].first << ")\n";
  }
  for (const double x : plot.vertical_lines) {
    script << "set arrow from first " << x << ", graph 0 to first " << x
           << ", graph 1 nohead front dashtype 2 linewidth 1.5 linecolor '#444444'\n";
  }
  script << (has_legend(plot) ? "set key\n" : "unset key\n");
}

/// What one panel draws; without anything to draw, empty axes.
void write_panel(std::ostream& script, const Plot& plot) {
  std::ostringstream command;
  size_t index = 0;
  const auto add = [&](const Series& series, const std::string& style) {
    const std::string name = "$series" + std::to_string(index);
    const std::string own_colour = colour(index++, plot.bars.size() + plot.lines.size());
    if (std::ranges::none_of(series.y, [](double y) { return std::isfinite(y); })) return;
    write_series(script, name, series);
    command << (command.str().empty() ? "plot " : ", ") << name << " using " << style << " linecolor '" << own_colour
            << "' " << legend_entry(series);
  };
  for (const Series& bars : plot.bars) add(bars, "1:2 with boxes fill solid 0.8 noborder");
  for (const Series& line : plot.lines) add(line, line_style(line));
  write_axes(script, plot);
  if (command.str().empty()) {
    script << "set xrange [0:1]\nset yrange [0:1]\nplot NaN notitle\n";
  } else {
    script << command.str() << '\n';
  }
}

std::string script_of(const std::vector<Plot>& panels, int columns) {
  const int count = std::max(1, static_cast<int>(panels.size()));
  const int across = std::min(columns, count);
  const int down = (count + across - 1) / across;
  const int width = across == 1 ? 800 : 480 * across;
  const int height = across == 1 ? 500 * down : 340 * down;
  std::ostringstream script;
  script.precision(9);
  script << "set encoding utf8\nset terminal pngcairo noenhanced background '#ffffff' font 'Sans,10' size " << width
         << ',' << height
         << "\nset border 3 linecolor '#444444'\nset tics nomirror out scale 0.5\n"
            "set grid ytics linecolor '#dddddd' linetype 1\nset key outside right center samplen 2 spacing 1.1\n"
            "set multiplot layout "
         << down << ',' << across << "\n";
  for (const Plot& panel : panels) write_panel(script, panel);
  script << "unset multiplot\n";
  return script.str();
}

using Point = std::array<double, 3>;

/// Seen along the third axis, after a turn that brings no symmetry of a sphere's points into the line of sight.
Point turned(const Point& p) {
  constexpr double about_x = 1.15, about_z = 0.35;
  const double x = std::cos(about_z) * p[0] - std::sin(about_z) * p[1];
  const double y = std::sin(about_z) * p[0] + std::cos(about_z) * p[1];
  return {x, std::sin(about_x) * p[2] + std::cos(about_x) * y, std::cos(about_x) * p[2] - std::sin(about_x) * y};
}

/// The share `part` of the way from a to b on their great circle.
Point on_arc(const Point& a, const Point& b, double part) {
  Point p;
  double norm = 0;
  for (size_t k = 0; k < 3; ++k) {
    p[k] = (1 - part) * a[k] + part * b[k];
    norm += p[k] * p[k];
  }
  for (double& entry : p) entry /= std::max(std::sqrt(norm), 1e-9);
  return p;
}

/// From a far point's colour to a near one's.
std::string depth_colour(double z, const Point& far, const Point& near) {
  std::array<char, 10> text;
  const auto mix = [&](size_t k) { return static_cast<int>(std::lround(far[k] + (near[k] - far[k]) * (z + 1) / 2)); };
  std::snprintf(text.data(), text.size(), "0x%02x%02x%02x", mix(0), mix(1), mix(2));
  return text.data();
}

constexpr Point pale_blue = {205, 216, 230}, dark_blue = {20, 70, 140}, pale_red = {238, 208, 200},
                strong_red = {190, 45, 30};

/// "x y dx dy colour" for each piece of each arc, and "x y size colour" for each point: far ones first.
std::string sphere_script(const Sphere& sphere) {
  constexpr int pieces = 16;
  std::vector<std::pair<double, std::string>> lines, dots;
  const auto text = [](auto... words) {
    std::ostringstream line;
    line.precision(6);
    ((line << words << ' '), ...);
    return line.str() + '\n';
  };
  std::vector<Point> points;
  for (const Point& point : sphere.points) points.push_back(turned(point));
  for (const auto& [first, second] : sphere.edges) {
    for (int piece = 0; piece < pieces; ++piece) {
      const Point a = on_arc(points[first], points[second], static_cast<double>(piece) / pieces);
      const Point b = on_arc(points[first], points[second], static_cast<double>(piece + 1) / pieces);
      lines.emplace_back(a[2], text(a[0], a[1], b[0] - a[0], b[1] - a[1], depth_colour(a[2], pale_blue, dark_blue)));
    }
  }
  const double size = std::clamp(14 / std::sqrt(static_cast<double>(points.size())), 0.35, 2.6);
  for (const Point& p : points) {
    dots.emplace_back(p[2], text(p[0], p[1], size * (0.75 + 0.25 * p[2]), depth_colour(p[2], pale_red, strong_red)));
  }
  std::ranges::sort(lines);
  std::ranges::sort(dots);
  std::ostringstream script;
  script << "set encoding utf8\nset terminal pngcairo noenhanced background '#ffffff' font 'Sans,12' size 720,760\n"
            "set size ratio -1\nunset border\nunset tics\nunset key\nset xrange [-1.08:1.08]\nset yrange [-1.08:1.08]\n"
            "set style fill solid noborder\nset title "
         << quoted(sphere.title) << "\n";
  const auto block = [&script](const char* name, const auto& items, const auto& which) {
    script << name << " << END_OF_DATA\n";
    for (const auto& item : items) {
      if (which(item.first)) script << item.second;
    }
    script << "9 9 0 0 0\nEND_OF_DATA\n";  // beyond the picture: an empty block is an error
  };
  const auto behind = [](double z) { return z < 0; };
  const auto before = [](double z) { return z >= 0; };
  block("$far_lines", lines, behind);
  block("$far_dots", dots, behind);
  block("$near_lines", lines, before);
  block("$near_dots", dots, before);
  const std::string draw_lines = " using 1:2:3:4:5 with vectors nohead linecolor rgbcolor variable linewidth ";
  const std::string draw_dots = " using 1:2:3:4 with points pointtype 7 pointsize variable linecolor rgbcolor variable";
  script << "set object 1 circle at 0,0 size 1 fillcolor '#f4f7fb' fillstyle solid border linecolor '#9aa7b8' behind\n"
         << "plot $far_lines" << draw_lines << "1, $far_dots" << draw_dots << ", $near_lines" << draw_lines
         << "2, $near_dots" << draw_dots << "\n";
  return script.str();
}

void write_drawing(const std::filesystem::path& path, const std::string& script) {
  const std::optional<FinishedProgram> result = run_gnuplot(script);
  if (!result) {
    throw UserError("cannot draw " + path.string() + ": the program gnuplot is not installed (package gnuplot-nox)");
  }
  if (!result->status.succeeded() || !result->output.starts_with("\x89PNG")) {
    throw UserError("cannot draw " + path.string() + ": gnuplot failed: " + last_line(result->errors));
  }
  write_atomically(path, [&](std::ostream& stream) { stream << result->output; });
}

}  // namespace

bool plotting_available() {
  const std::optional<FinishedProgram> result = run_gnuplot("set terminal pngcairo\n");
  return result && result->status.succeeded();
}

void write_png(const std::filesystem::path& path, const std::vector<Plot>& panels, int columns) {
  write_drawing(path, script_of(panels, columns));
}

void write_sphere_png(const std::filesystem::path& path, const Sphere& sphere) {
  write_drawing(path, sphere_script(sphere));
}

}  // namespace mma::examples
