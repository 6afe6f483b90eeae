// The paper's Eq 6 and its gradient written out plainly, a loop over i and j in extended precision: what the tests
// hold the library against.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

namespace reference {

using Real = long double;
using Rows = std::vector<std::vector<Real>>;

inline Rows rows_of(const at::Tensor& matrix) {
  const at::Tensor values = matrix.detach().to(at::kCPU).to(at::kDouble).contiguous();
  const double* data = values.const_data_ptr<double>();
  Rows rows(static_cast<size_t>(values.size(0)), std::vector<Real>(static_cast<size_t>(values.size(1))));
  for (auto& row : rows) {
    for (Real& value : row) {
      value = static_cast<Real>(*data++);
    }
  }
  return rows;
}

inline Real dot(const std::vector<Real>& a, const std::vector<Real>& b) {
  Real sum = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    sum += a[k] * b[k];
  }
  return sum;
}

inline Real norm(const std::vector<Real>& a) { return std::sqrt(dot(a, a)); }

/// w^ = w / |w|
inline std::vector<Real> unit(std::vector<Real> a) {
  const Real length = norm(a);
  for (Real& value : a) {
    value /= length;
  }
  return a;
}

inline Rows units(Rows rows) {
  for (auto& row : rows) {
    row = unit(row);
  }
  return rows;
}

/// Of unit vectors.
inline Real cosine(const std::vector<Real>& a, const std::vector<Real>& b) {
  return std::fmin(Real{1}, std::fmax(Real{-1}, dot(a, b)));
}

inline Real length_of_sum(const std::vector<Real>& a, const std::vector<Real>& b, Real sign) {
  Real sum = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    sum += (a[k] + sign * b[k]) * (a[k] + sign * b[k]);
  }
  return std::sqrt(sum);
}

/// Of unit vectors, accurate at small angles too.
inline Real angle(const std::vector<Real>& a, const std::vector<Real>& b) {
  return 2 * std::atan2(length_of_sum(a, b, -1), length_of_sum(a, b, 1));
}

struct Nearest {
  std::vector<size_t> index;
  std::vector<Real> angle;
};

/// min_{j != i} theta_ij and where it is, the lowest j on a tie.
inline Nearest nearest(const Rows& weights) {
  const Rows rows = units(weights);
  Nearest result;
  for (size_t i = 0; i < rows.size(); ++i) {
    size_t best = i;
    Real smallest = std::numeric_limits<Real>::infinity();
    for (size_t j = 0; j < rows.size(); ++j) {
      if (const Real angle = j == i ? smallest : std::acos(cosine(rows[i], rows[j])); angle < smallest) {
        smallest = angle;
        best = j;
      }
    }
    result.index.push_back(best);
    result.angle.push_back(smallest);
  }
  return result;
}

/// Eq 6.
inline double minimal_angle_loss(const at::Tensor& matrix) {
  Real sum = 0;
  for (const Real angle : nearest(rows_of(matrix)).angle) {
    sum += angle;
  }
  return static_cast<double>(-sum / static_cast<Real>(matrix.size(0)));
}

/// Adds strength * d theta(w, v) / d w to gradient: -(v^ - w^ cos) / (|w| sin), the derivation of Eq 8. By v^ - w^, of
/// which no digits are lost where the two are near: v^ - w^ cos = (v^ - w^) + w^ (1 - cos), 1 - cos = |v^ - w^|^2 / 2.
inline void add_angle_gradient(const std::vector<Real>& w, const std::vector<Real>& v, Real strength,
                               std::vector<Real>& gradient) {
  const std::vector<Real> a = unit(w), b = unit(v);
  const Real apart = length_of_sum(a, b, -1), sine = apart * length_of_sum(a, b, 1) / 2, length = norm(w);
  for (size_t k = 0; k < w.size(); ++k) {
    gradient[k] -= strength * (b[k] - a[k] + a[k] * apart * apart / 2) / (length * sine);
  }
}

/// d(Eq 6)/d(matrix) as float64.
inline at::Tensor minimal_angle_gradient(const at::Tensor& matrix) {
  const Rows rows = rows_of(matrix);
  const Nearest found = nearest(rows);
  const Real strength = Real{-1} / static_cast<Real>(rows.size());
  Rows gradient(rows.size(), std::vector<Real>(rows.front().size(), 0));
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t j = found.index[i];
    add_angle_gradient(rows[i], rows[j], strength, gradient[i]);
    add_angle_gradient(rows[j], rows[i], strength, gradient[j]);
  }
  at::Tensor result = at::empty(matrix.sizes(), at::kDouble);
  double* data = result.mutable_data_ptr<double>();
  for (const auto& row : gradient) {
    for (const Real value : row) {
      *data++ = static_cast<double>(value);
    }
  }
  return result;
}

}  // namespace reference
