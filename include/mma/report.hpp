// The angles of several layers, and the matrices that were left out, as a table for a person and as JSON for a program.
// Angles are measured by angles.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "angles.hpp"
#include "detail/pairs/math.hpp"
#include "layer.hpp"

namespace mma {

/// The angles of several layers: print it for a table, json() for programs.
struct Report {
  std::vector<LayerAngles> layers;  ///< in the module's order, then those added by hand
  /// The module's matrices that no rule takes; Regularizer::add() does.
  std::vector<LeftOut> left_out;

  /// {"layers": [...], "left_out": [...]}; angles in degrees (the keys say so), null where there is none.
  std::string json() const;
};

namespace detail {

/// With so many digits after the point.
inline std::string fixed_digits(double value, int digits) {
  char text[512];  // the largest double has 309 before the point
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// With so many digits that count; 17 give the same double back.
inline std::string significant_digits(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*g", digits, value);
  return text;
}

/// Columns padded to their widest cell, the first and the last to the left, the others to the right.
inline void print_columns(std::ostream& stream, const std::vector<std::vector<std::string>>& lines) {
  std::vector<size_t> widths(lines.front().size(), 0);
  for (const auto& line : lines) {
    for (size_t k = 0; k < line.size(); ++k) {
      widths[k] = std::max(widths[k], line[k].size());
    }
  }
  for (const auto& line : lines) {
    std::string text;
    for (size_t k = 0; k < line.size(); ++k) {
      const std::string padding(widths[k] - line[k].size(), ' ');
      const bool left = k == 0 || k + 1 == line.size();
      text += (k == 0 ? "" : "  ") + (left ? line[k] + padding : padding + line[k]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    stream << text << '\n';
  }
}

inline std::string json_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      result += escape;
    } else {
      result += c;
    }
  }
  return result + '"';
}

inline std::string json_number(double value) {
  return pairs::is_finite(value) ? significant_digits(value, 17) : "null";
}

/// Looked at before it is converted: with -Ofast NaN times anything is anything.
inline std::string json_degrees(double radians) {
  return pairs::is_finite(radians) ? json_number(degrees(radians)) : "null";
}

inline std::string degrees_cell(double radians) {
  return pairs::is_nan(radians) ? "-" : fixed_digits(degrees(radians), 3);
}

template <typename Integer>
std::string joined(const std::vector<Integer>& numbers) {
  std::string result;
  for (const Integer number : numbers) {
    result += (result.empty() ? "" : ", ") + std::to_string(number);
  }
  return '[' + result + ']';
}

inline void print_angles(std::ostream& stream, const std::vector<LayerAngles>& layers) {
  const std::string above = "pairs > " + significant_digits(layers.front().cosine_threshold, 6);
  std::vector<std::vector<std::string>> lines{
      {"layer", "rows", "dimension", "minimal angle", "mean nearest", "simplex bound", above, "zero rows", "note"}};
  for (const LayerAngles& layer : layers) {
    const std::string groups = layer.groups > 1 ? std::to_string(layer.groups) + " x " : "";
    lines.push_back({layer.name, groups + std::to_string(layer.rows), std::to_string(layer.dimension),
                     degrees_cell(layer.minimal_angle), degrees_cell(layer.mean_nearest_angle),
                     degrees_cell(layer.simplex_bound), std::to_string(layer.pairs_above),
                     std::to_string(layer.zero_rows), layer.note});
  }
  print_columns(stream, lines);
  stream << "angles in degrees\n";
}

inline void print_left_out(std::ostream& stream, const std::vector<LeftOut>& left_out) {
  stream << "left out, Regularizer::add() takes them:\n";
  for (const LeftOut& matrix : left_out) {
    stream << "  " << matrix.name << ' ' << joined(matrix.sizes) << " of " << matrix.module << '\n';
  }
}

inline std::string json_of(const LayerAngles& layer) {
  std::ostringstream out;
  out << "{\"name\": " << json_string(layer.name) << ", \"groups\": " << layer.groups << ", \"rows\": " << layer.rows
      << ", \"dimension\": " << layer.dimension << ", \"zero_rows\": " << layer.zero_rows
      << ", \"minimal_angle_degrees\": " << json_degrees(layer.minimal_angle)
      << ", \"mean_nearest_angle_degrees\": " << json_degrees(layer.mean_nearest_angle)
      << ", \"simplex_bound_degrees\": " << json_degrees(layer.simplex_bound)
      << ", \"cosine_threshold\": " << json_number(layer.cosine_threshold) << ", \"pairs_above\": " << layer.pairs_above
      << ", \"coefficient\": " << json_number(layer.coefficient) << ", \"note\": " << json_string(layer.note);
  if (!layer.cosine_histogram.empty()) {
    out << ", \"cosine_histogram\": " << joined(layer.cosine_histogram);
  }
  out << '}';
  return out.str();
}

inline std::string json_of(const LeftOut& matrix) {
  return "{\"name\": " + json_string(matrix.name) + ", \"sizes\": " + joined(matrix.sizes) +
         ", \"module\": " + json_string(matrix.module) + '}';
}

/// A list with one entry a line.
template <typename Entry>
std::string json_list(const std::vector<Entry>& entries) {
  if (entries.empty()) {
    return "[]";
  }
  std::string result = "[";
  for (const Entry& entry : entries) {
    result += (result.size() > 1 ? ",\n  " : "\n  ") + json_of(entry);
  }
  return result + "\n]";
}

}  // namespace detail

/// A table of the layers, then a line for each matrix that was left out.
inline std::ostream& operator<<(std::ostream& stream, const Report& report) {
  if (report.layers.empty()) {
    stream << "no layers\n";
  } else {
    detail::print_angles(stream, report.layers);
  }
  if (!report.left_out.empty()) {
    detail::print_left_out(stream, report.left_out);
  }
  return stream;
}

inline std::string Report::json() const {
  return "{\"layers\": " + detail::json_list(layers) + ",\n\"left_out\": " + detail::json_list(left_out) + "}\n";
}

}  // namespace mma
