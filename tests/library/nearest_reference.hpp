// What "nearest" means, as loops over all pairs in extended precision: what every backend of the search is held
// against.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <vector>

#include "reference.hpp"

namespace reference {

inline constexpr Real pi = std::numbers::pi_v<Real>;

inline bool is_zero(const std::vector<Real>& row) { return norm(row) < 1.1754943508222875e-38L; }

inline Real angle_between(const std::vector<Real>& w, const std::vector<Real>& v) {
  const std::vector<Real> a = unit(w), b = unit(v);
  Real difference = 0, sum = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    difference += (a[k] - b[k]) * (a[k] - b[k]);
    sum += (a[k] + b[k]) * (a[k] + b[k]);
  }
  return 2 * std::atan2(std::sqrt(difference), std::sqrt(sum));
}

inline Real folded(Real angle, bool half_space) { return half_space && angle > pi / 2 ? pi - angle : angle; }

/// The smallest folded angle of rows [begin, end), negative for a row without another: in extended precision among all
/// whose cosine float64 cannot tell from the highest.
inline std::vector<Real> smallest_angles(const Rows& rows, bool half_space, size_t begin, size_t end) {
  const Rows units = reference::units(rows);
  std::vector<std::vector<double>> rounded;
  for (const auto& unit : units) rounded.emplace_back(unit.begin(), unit.end());
  std::vector<Real> result(end - begin, -1);
  for (size_t i = begin; i < end; ++i) {
    std::vector<double> cosines(rows.size(), -2);
    for (size_t j = 0; j < rows.size(); ++j) {
      if (j == i || is_zero(rows[i]) || is_zero(rows[j])) continue;
      const double dot = std::inner_product(rounded[i].begin(), rounded[i].end(), rounded[j].begin(), 0.0);
      cosines[j] = half_space ? std::fabs(dot) : dot;
    }
    const double highest = *std::max_element(cosines.begin(), cosines.end());
    for (size_t j = 0; j < rows.size(); ++j) {
      if (cosines[j] == -2 || cosines[j] < highest - 1e-12) continue;
      const Real angle = folded(angle_between(rows[i], rows[j]), half_space);
      Real& smallest = result[i - begin];
      smallest = smallest < 0 ? angle : std::min(smallest, angle);
    }
  }
  return result;
}

inline std::vector<Real> smallest_angles(const Rows& rows, bool half_space) {
  return smallest_angles(rows, half_space, 0, rows.size());
}

}  // namespace reference
