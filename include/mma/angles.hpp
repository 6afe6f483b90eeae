// What the angles of a layer look like: minimal and mean nearest angle, pairs above a cosine, a histogram of cosines
// (the paper's Figure 1), the simplex bound. A table or JSON over layers is report.hpp's.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/nonzero.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <mutex>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "detail/nearest/factory.hpp"
#include "detail/pairs/math.hpp"
#include "detail/rows/norms.hpp"
#include "detail/rows/precision.hpp"
#include "detail/threads.hpp"
#include "weight_matrix.hpp"

namespace mma {

/// Radians to degrees, for where a person reads.
inline double degrees(double radians) { return radians * 180 / std::numbers::pi; }

/// What to count in addition to the angles.
struct AngleOptions {
  double cosine_threshold = 0.2;              ///< pairs with a larger cosine are counted; the paper's Figure 1 uses 0.2
  int64_t histogram_bins = 0;                 ///< bins over cosines from -1 to 1; 0: no histogram
  std::function<void(double)> progress = {};  ///< called now and then with the share of the layer that is done
};

/// The angles of one layer, in radians; NaN where there are none.
struct LayerAngles {
  std::string name;                                      ///< the layer's, dotted, such as "layer1.0.conv1"
  int64_t groups = 1;                                    ///< of a grouped convolution, compared within each alone
  int64_t rows = 0;                                      ///< in each group
  int64_t dimension = 0;                                 ///< of a row
  int64_t zero_rows = 0;                                 ///< rows without a direction, left out of everything below
  double minimal_angle = detail::pairs::not_a_number();  ///< of the closest pair
  double mean_nearest_angle = detail::pairs::not_a_number();  ///< minus Eq 6
  double simplex_bound = detail::pairs::not_a_number();       ///< arccos(-1/(n-1)): no n rows can do better
  double cosine_threshold = 0.2;                              ///< of pairs_above
  int64_t pairs_above = 0;                                    ///< unordered pairs with a cosine above the threshold
  std::vector<int64_t> cosine_histogram;                      ///< unordered pairs by cosine, equal bins from -1 to 1
  double coefficient = detail::pairs::not_a_number();         ///< in the loss; NaN outside a Regularizer
  std::string note;  ///< why the layer is not in the loss, or what is wrong with it
};

namespace detail {

inline constexpr int64_t cosine_block = 1024;  ///< rows whose cosines with as many others are held at a time

/// Counts the cosines of a block [rows, columns], on its diagonal those above it alone.
template <typename T>
void count_block(const at::Tensor& block, bool on_diagonal, const AngleOptions& options, LayerAngles& result) {
  const T* const cosines = block.const_data_ptr<T>();
  const int64_t columns = block.size(1);
  const int64_t bins = options.histogram_bins;
  const T threshold = static_cast<T>(options.cosine_threshold);
  const T half = static_cast<T>(bins) / 2;
  std::mutex adding;
  for_each_range(block.size(0), 16, [&](int64_t begin, int64_t end) {
    int64_t above = 0;
    std::vector<int64_t> histogram(static_cast<size_t>(bins), 0);
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = on_diagonal ? i + 1 : 0; j < columns; ++j) {
        const T cosine = std::clamp<T>(cosines[i * columns + j], -1, 1);
        above += cosine > threshold ? 1 : 0;
        if (bins > 0) {
          ++histogram[static_cast<size_t>(std::min(bins - 1, static_cast<int64_t>((cosine + 1) * half)))];
        }
      }
    }
    const std::lock_guard<std::mutex> lock(adding);
    result.pairs_above += above;
    for (size_t k = 0; k < histogram.size(); ++k) {
      result.cosine_histogram[k] += histogram[k];
    }
  });
}

/// Counts cosines of all unordered pairs of one matrix of unit rows [n, d], a block at a time.
inline void count_cosines(const at::Tensor& unit, const AngleOptions& options, LayerAngles& result) {
  const int64_t n = unit.size(0);
  for (int64_t first = 0; first < n; first += cosine_block) {
    const at::Tensor rows = unit.narrow(0, first, std::min(cosine_block, n - first));
    for (int64_t second = first; second < n; second += cosine_block) {
      const at::Tensor others = unit.narrow(0, second, std::min(cosine_block, n - second));
      const at::Tensor block = at::mm(rows, others.t()).to(at::kCPU).contiguous();
      if (block.scalar_type() == at::kDouble) {
        count_block<double>(block, first == second, options, result);
      } else {
        count_block<float>(block, first == second, options, result);
      }
    }
    if (options.progress) {
      const double left = 1 - static_cast<double>(std::min(first + cosine_block, n)) / static_cast<double>(n);
      options.progress(1 - left * left / 2);  // the search of the nearest rows was the first half
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
  if (options.progress) {
    options.progress(0.5);
  }
  const auto smallest = angles.min().item<double>();
  // The first group's as it is: with -Ofast a comparison with the NaN that stands for none says anything.
  result.minimal_angle = pairs::is_nan(result.minimal_angle) ? smallest : std::min(result.minimal_angle, smallest);
  count_cosines(rows::unit_rows(kept, rows::row_norms(kept)), options, result);
  return {angles.sum().item<double>(), n};
}

}  // namespace detail

/// Measures rows [groups, rows, dimension] (float16 to float64, any device). A layer with NaN or Inf, or with fewer
/// than two rows that are not zero, has no angles; its note says so. Throws c10::Error for rows of another shape.
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
