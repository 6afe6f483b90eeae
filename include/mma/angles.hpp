// What the angles of a layer look like: minimal and mean nearest angle, pairs above a cosine, a histogram of cosines
// (the paper's Figure 1), the simplex bound; and a report over layers, as a table or as JSON.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/ones_like.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <numbers>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "detail/nearest_rows.hpp"
#include "detail/pair_angles.hpp"
#include "detail/row_norms.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// Radians to degrees, for where a person reads.
inline double degrees(double radians) { return radians * 180 / std::numbers::pi; }

/// What to count in addition to the angles.
struct AngleOptions {
  double cosine_threshold = 0.2;  ///< pairs with a larger cosine are counted; the paper's Figure 1 uses 0.2
  int64_t histogram_bins = 0;     ///< bins over cosines from -1 to 1; 0: no histogram
};

/// The angles of one layer, in radians; NaN where there are none.
struct LayerAngles {
  std::string name;
  int64_t groups = 1;
  int64_t rows = 0;  ///< in each group
  int64_t dimension = 0;
  int64_t zero_rows = 0;  ///< rows without a direction, left out of everything below
  double minimal_angle = std::numeric_limits<double>::quiet_NaN();
  double mean_nearest_angle = std::numeric_limits<double>::quiet_NaN();  ///< minus Eq 6
  double simplex_bound = std::numeric_limits<double>::quiet_NaN();       ///< arccos(-1/(n-1)): no n rows can do better
  double cosine_threshold = 0.2;
  int64_t pairs_above = 0;                                        ///< unordered pairs with a cosine above the threshold
  std::vector<int64_t> cosine_histogram;                          ///< unordered pairs by cosine
  double coefficient = std::numeric_limits<double>::quiet_NaN();  ///< in the loss; NaN outside a Regularizer
  std::string note;  ///< why the layer is not in the loss, or what is wrong with it
};

namespace detail {

/// Counts cosines of all unordered pairs of one matrix of unit rows [n, d], a tile at a time.
inline void count_cosines(const at::Tensor& unit, const AngleOptions& options, LayerAngles& result) {
  const int64_t n = unit.size(0);
  const int64_t tile = std::max<int64_t>(1, tile_elements / std::max<int64_t>(n, 1));
  for (int64_t start = 0; start < n; start += tile) {
    const int64_t size = std::min(tile, n - start);
    const at::Tensor cosines = at::mm(unit.narrow(0, start, size), unit.t());
    const at::Tensor others = cosines.new_ones(cosines.sizes(), at::kBool).triu_(start + 1);
    const at::Tensor pairs = cosines.masked_select(others).clamp_(-1, 1);
    result.pairs_above += pairs.gt(options.cosine_threshold).sum().item<int64_t>();
    if (options.histogram_bins > 0) {
      const at::Tensor counts = at::histc(pairs.to(at::kCPU), options.histogram_bins, -1, 1);
      for (int64_t k = 0; k < options.histogram_bins; ++k) {
        result.cosine_histogram[static_cast<size_t>(k)] += std::llround(counts[k].item<double>());
      }
    }
  }
}

/// Adds one group's rows [n, d] to the layer's figures; returns the sum of its nearest angles and how many they are.
inline std::pair<double, int64_t> measure_group(const at::Tensor& rows, const AngleOptions& options,
                                                LayerAngles& result) {
  const at::Tensor kept = rows.index_select(0, at::nonzero(usable_rows(rows)).squeeze(1));
  const int64_t n = kept.size(0);
  result.zero_rows += rows.size(0) - n;
  if (n < 2) {
    return {0.0, 0};
  }
  const at::Tensor norms = row_norms(kept);
  const at::Tensor nearest =
      nearest_rows(kept.unsqueeze(0), norms.unsqueeze(0), at::ones_like(norms, at::kBool).unsqueeze(0)).squeeze(0);
  const at::Tensor angles = pair_angles(kept, norms, at::arange(n, nearest.options()), nearest);
  result.minimal_angle = std::fmin(result.minimal_angle, angles.min().item<double>());
  count_cosines(unit_rows(kept, norms), options, result);
  return {angles.sum().item<double>(), n};
}

}  // namespace detail

/// Measures rows [groups, rows, dimension] (float16 to float64, any device). A layer with NaN or Inf, or with fewer
/// than two rows that are not zero, has no angles; its note says so.
inline LayerAngles measure_angles(const std::string& name, const at::Tensor& rows, const AngleOptions& options = {}) {
  TORCH_CHECK(rows.dim() == 3, "mma: measure_angles got rows of shape ", rows.sizes(),
              "; expected [groups, rows, dimension], see mma::weight_rows.");
  const detail::FullPrecisionGuard guard;
  const at::NoGradGuard no_grad;
  LayerAngles result;
  result.name = name;
  result.groups = rows.size(0);
  result.rows = rows.size(1);
  result.dimension = rows.size(2);
  result.cosine_threshold = options.cosine_threshold;
  result.cosine_histogram.assign(static_cast<size_t>(options.histogram_bins), 0);
  if (result.rows >= 2) {
    result.simplex_bound = std::acos(-1.0 / static_cast<double>(result.rows - 1));
  }
  const at::Tensor computed = detail::in_computing_type(rows.detach());
  if (rows.numel() > 0 && !computed.isfinite().all().item<bool>()) {
    result.note = "has NaN or Inf";
    return result;
  }
  double sum = 0;
  int64_t count = 0;
  for (int64_t group = 0; group < result.groups && result.dimension > 0; ++group) {
    const auto [group_sum, group_count] = detail::measure_group(computed[group], options, result);
    sum += group_sum;
    count += group_count;
  }
  if (count > 0) {
    result.mean_nearest_angle = sum / static_cast<double>(count);
  } else {
    result.note = result.zero_rows > 0 ? "fewer than 2 rows that are not zero" : "fewer than 2 rows";
  }
  return result;
}

/// The angles of several layers: print it for a table, json() for programs.
struct Report {
  std::vector<LayerAngles> layers;

  std::string json() const;
};

namespace detail {

inline std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
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

inline std::string json_number(double value) { return std::isfinite(value) ? formatted("%.17g", value) : "null"; }

inline std::string degrees_cell(double radians) {
  return std::isnan(radians) ? "-" : formatted("%.3f", degrees(radians));
}

}  // namespace detail

inline std::ostream& operator<<(std::ostream& stream, const Report& report) {
  if (report.layers.empty()) {
    return stream << "no layers\n";
  }
  const std::string above = "pairs > " + detail::formatted("%g", report.layers.front().cosine_threshold);
  std::vector<std::vector<std::string>> lines{
      {"layer", "rows", "dimension", "minimal angle", "mean nearest", "simplex bound", above, "zero rows", "note"}};
  for (const auto& layer : report.layers) {
    const std::string rows =
        (layer.groups > 1 ? std::to_string(layer.groups) + " x " : "") + std::to_string(layer.rows);
    lines.push_back({layer.name, rows, std::to_string(layer.dimension), detail::degrees_cell(layer.minimal_angle),
                     detail::degrees_cell(layer.mean_nearest_angle), detail::degrees_cell(layer.simplex_bound),
                     std::to_string(layer.pairs_above), std::to_string(layer.zero_rows), layer.note});
  }
  detail::print_columns(stream, lines);
  return stream << "angles in degrees\n";
}

/// {"layers": [...]}; angles in degrees (the keys say so), null where there is none.
inline std::string Report::json() const {
  std::ostringstream out;
  out << "{\"layers\": [";
  for (size_t k = 0; k < layers.size(); ++k) {
    const LayerAngles& layer = layers[k];
    out << (k == 0 ? "\n" : ",\n") << "  {\"name\": " << detail::json_string(layer.name)
        << ", \"groups\": " << layer.groups << ", \"rows\": " << layer.rows << ", \"dimension\": " << layer.dimension
        << ", \"zero_rows\": " << layer.zero_rows
        << ", \"minimal_angle_degrees\": " << detail::json_number(degrees(layer.minimal_angle))
        << ", \"mean_nearest_angle_degrees\": " << detail::json_number(degrees(layer.mean_nearest_angle))
        << ", \"simplex_bound_degrees\": " << detail::json_number(degrees(layer.simplex_bound))
        << ", \"cosine_threshold\": " << detail::json_number(layer.cosine_threshold)
        << ", \"pairs_above\": " << layer.pairs_above << ", \"coefficient\": " << detail::json_number(layer.coefficient)
        << ", \"note\": " << detail::json_string(layer.note);
    if (!layer.cosine_histogram.empty()) {
      out << ", \"cosine_histogram\": [";
      for (size_t bin = 0; bin < layer.cosine_histogram.size(); ++bin) {
        out << (bin == 0 ? "" : ", ") << layer.cosine_histogram[bin];
      }
      out << ']';
    }
    out << '}';
  }
  out << "\n]}\n";
  return out.str();
}

}  // namespace mma
