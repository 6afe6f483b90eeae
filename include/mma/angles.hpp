// What the angles of a layer look like: minimal and mean nearest angle, pairs above a cosine, a histogram of cosines
// (the paper's Figure 1), the simplex bound. A table or JSON over layers is report.hpp's.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "detail/nearest/factory.hpp"
#include "detail/pairs/math.hpp"
#include "detail/rows/norms.hpp"
#include "detail/rows/precision.hpp"
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
  double minimal_angle = detail::pairs::not_a_number();
  double mean_nearest_angle = detail::pairs::not_a_number();  ///< minus Eq 6
  double simplex_bound = detail::pairs::not_a_number();       ///< arccos(-1/(n-1)): no n rows can do better
  double cosine_threshold = 0.2;
  int64_t pairs_above = 0;                             ///< unordered pairs with a cosine above the threshold
  std::vector<int64_t> cosine_histogram;               ///< unordered pairs by cosine
  double coefficient = detail::pairs::not_a_number();  ///< in the loss; NaN outside a Regularizer
  std::string note;                                    ///< why the layer is not in the loss, or what is wrong with it
};

namespace detail {

inline constexpr int64_t most_cosines = int64_t{1} << 20;  ///< held at a time

/// Counts cosines of all unordered pairs of one matrix of unit rows [n, d], a tile at a time.
inline void count_cosines(const at::Tensor& unit, const AngleOptions& options, LayerAngles& result) {
  const int64_t n = unit.size(0);
  const int64_t tile = std::max<int64_t>(1, most_cosines / std::max<int64_t>(n, 1));
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
  const at::Tensor kept = rows.index_select(0, at::nonzero(rows::usable_rows(rows)).squeeze(1));
  const int64_t n = kept.size(0);
  result.zero_rows += rows.size(0) - n;
  if (n < 2) {
    return {0.0, 0};
  }
  const nearest::Objective minus_angle{.of_angle = -1, .of_cosine = 0, .half_space = false, .closest_only = false};
  const at::Tensor angles = nearest::find_nearest(kept.unsqueeze(0), minus_angle).angles;
  const double smallest = angles.min().item<double>();
  // The first group's as it is: with -Ofast a comparison with the NaN that stands for none says anything.
  result.minimal_angle = pairs::is_nan(result.minimal_angle) ? smallest : std::min(result.minimal_angle, smallest);
  count_cosines(rows::unit_rows(kept, rows::row_norms(kept)), options, result);
  return {angles.sum().item<double>(), n};
}

}  // namespace detail

/// Measures rows [groups, rows, dimension] (float16 to float64, any device). A layer with NaN or Inf, or with fewer
/// than two rows that are not zero, has no angles; its note says so.
inline LayerAngles measure_angles(const std::string& name, const at::Tensor& rows, const AngleOptions& options = {}) {
  TORCH_CHECK(rows.dim() == 3, "mma: measure_angles got rows of shape ", rows.sizes(),
              "; expected [groups, rows, dimension], see mma::weight_rows.");
  const detail::rows::FullPrecisionGuard guard;
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

}  // namespace mma
