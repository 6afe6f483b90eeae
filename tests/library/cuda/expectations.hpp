// Matrices for an engine, and what its contract (nearest/engine.hpp) promises for them, in plain loops in extended
// precision: shared by the tests on the emulator and on a GPU.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <mma/detail/nearest/engine.hpp>

#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "reference.hpp"

namespace expectations {

using mma::detail::nearest::Found;
using mma::detail::nearest::Objective;
using mma::detail::nearest::Plan;
using reference::Real;

inline constexpr at::ScalarType types[] = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};

inline constexpr Objective minus_angle{-1, 0, false, false};
inline constexpr Objective objectives[] = {
    minus_angle,           {-1, 0, true, false},  // between lines
    {0, 1, false, false},                         // cos theta
    {0, 1, false, true},                          // of the closest pair
    {0, 1, true, true},                           // of the closest pair of lines
    {-1, 0.5, true, false}                        // both
};

inline at::Tensor random_rows(int64_t rows, int64_t dimension, uint64_t seed, at::ScalarType type) {
  return at::randn({rows, dimension}, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble).to(type);
}

/// A layer each.
inline Plan plan_of(std::vector<at::Tensor> matrices, const Objective& objective = minus_angle) {
  Plan plan;
  plan.objective = objective;
  for (at::Tensor& rows : matrices) plan.matrices.push_back({std::move(rows), plan.matrices.size()});
  return plan;
}

inline std::vector<at::Tensor> zeros_like(const Plan& plan) {
  std::vector<at::Tensor> result;
  for (const auto& matrix : plan.matrices) result.push_back(at::zeros_like(matrix.rows));
  return result;
}

/// 1, 1.5, 2, ... for the layers.
inline at::Tensor factors_of(const Plan& plan) {
  return at::arange(static_cast<int64_t>(plan.layers()), at::kDouble).remainder(8).mul(0.5).add(1);
}

inline std::vector<at::Tensor> awkward_matrices(at::ScalarType type) {
  std::vector<at::Tensor> result;
  uint64_t seed = 10;
  for (const int64_t rows : {1, 2, 3, 7, 33, 101, 257}) {
    for (const int64_t dimension : {rows / 2 + 2, rows + 2, 2 * rows + 3}) {
      if (rows < 257 || dimension == 130) result.push_back(random_rows(rows, dimension, ++seed, type));
    }
  }
  return result;
}

/// Duplicates, clusters of them, antipodes, zero rows, tiny and huge ones, no tangent.
inline std::vector<at::Tensor> special_matrices(at::ScalarType type) {
  const auto random = [&](int64_t rows, int64_t dimension, uint64_t seed) {
    return random_rows(rows, dimension, seed, type);
  };
  at::Tensor pairs = random(70, 16, 1), cluster = random(90, 140, 2), antipodes = random(20, 3, 3),
             zeros = random(66, 12, 4), sizes = random(30, 10, 5), line = random(6, 1, 6), none = random(9, 4, 7);
  pairs[40].copy_(pairs[3]);
  pairs[69].copy_(pairs[0]).mul_(2);
  cluster.narrow(0, 5, 5).copy_(cluster[5].expand({5, 140}));
  cluster.narrow(0, 30, 40).copy_(cluster[30].expand({40, 140}));
  antipodes[9].copy_(-antipodes[2]);
  antipodes[10].copy_(-antipodes[2]);
  zeros[0].zero_();
  zeros[64].zero_();
  none.narrow(0, 1, 8).zero_();
  // Tiny and huge rows whose nearest are such too: their products leave the range of float32.
  sizes[7].mul_(0.1).add_(sizes[4]);
  sizes[8].mul_(0.1).add_(sizes[3]);
  const double large = type == at::kHalf ? 1e3 : 1e30;
  for (const int64_t r : {3, 8}) sizes[r].div_(large);
  for (const int64_t r : {4, 7}) sizes[r].mul_(large);
  return {pairs, cluster, antipodes, zeros, sizes, line, none};
}

/// Turned at random, rows scaled, with 1e-7 of noise: as MMA leaves weights.
inline at::Tensor at_the_optimum(const at::Tensor& directions, int64_t dimension, uint64_t seed, at::ScalarType type) {
  const auto turn = std::get<0>(at::linalg_qr(random_rows(dimension, directions.size(1), seed, at::kDouble)));
  const at::Tensor sizes = random_rows(directions.size(0), 1, seed + 1, at::kDouble).abs() + 0.5;
  const at::Tensor noise = random_rows(directions.size(0), dimension, seed + 2, at::kDouble) * 1e-7;
  return ((directions.mm(turn.t()) + noise) * sizes).to(type);
}

/// All rows at a right angle to each other.
inline at::Tensor orthogonal_frame(int64_t rows, int64_t dimension, uint64_t seed, at::ScalarType type) {
  return at_the_optimum(at::eye(rows, at::kDouble), dimension, seed, type);
}

/// All cosines -1/(rows - 1).
inline at::Tensor simplex(int64_t rows, int64_t dimension, uint64_t seed, at::ScalarType type) {
  const at::Tensor corners = at::eye(rows, at::kDouble) - 1.0 / static_cast<double>(rows);
  return at_the_optimum(corners / corners.norm(2, {1}, true), dimension, seed, type);
}

inline std::vector<at::Tensor> optimal_matrices(at::ScalarType type) {
  return {orthogonal_frame(70, 70, 40, type), orthogonal_frame(130, 200, 43, type), simplex(70, 70, 46, type),
          simplex(130, 147, 49, type), simplex(5, 9, 52, type)};
}

/// Groups of rows around four centres, each row so far from its centre.
inline at::Tensor clustered(int64_t rows, int64_t dimension, double radius, at::ScalarType type) {
  const at::Tensor centres = random_rows(4, dimension, 5, at::kDouble);
  return (centres.repeat({(rows + 3) / 4, 1}).narrow(0, 0, rows) +
          random_rows(rows, dimension, 6, at::kDouble) * radius)
      .to(type);
}

/// All rows around one, each about `radius` rad from it.
inline at::Tensor cone(int64_t rows, int64_t dimension, double radius, at::ScalarType type) {
  return (random_rows(1, dimension, 7, at::kDouble) + random_rows(rows, dimension, 8, at::kDouble) * radius).to(type);
}

/// Rows that rounded products cannot tell apart, and more.
inline std::vector<at::Tensor> close_matrices(at::ScalarType type) {
  return {clustered(90, 40, 0.02, type), clustered(75, 600, 0.15, type), cone(80, 45, 0.03, type),
          cone(60, 50, 1e-4, type), cone(70, 2304, 0.2, type).abs()};
}

inline std::vector<at::Tensor> all_matrices(at::ScalarType type) {
  std::vector<at::Tensor> result = awkward_matrices(type);
  for (const auto& more : {special_matrices(type), optimal_matrices(type), close_matrices(type)}) {
    result.insert(result.end(), more.begin(), more.end());
  }
  return result;
}

/// A matrix, its unit vectors, and what one row is to another.
struct PlainMatrix {
  reference::Rows rows, unit;
  std::vector<Real> norms;
  Real duplicate;
  bool half_space;

  PlainMatrix(const at::Tensor& matrix, bool lines)
      : rows(reference::rows_of(matrix)),
        unit(rows),
        duplicate(8 * (matrix.scalar_type() == at::kDouble ? Real{std::numeric_limits<double>::epsilon()}
                                                           : Real{std::numeric_limits<float>::epsilon()})),
        half_space(lines) {
    for (auto& row : unit) {
      norms.push_back(reference::norm(row));
      for (Real& value : row) value /= norms.back();
    }
  }

  size_t count() const { return rows.size(); }
  bool is_zero(size_t i) const { return norms[i] < Real{std::numeric_limits<float>::min()}; }
  bool takes_part(size_t i) const { return std::isfinite(norms[i]) && !is_zero(i); }

  /// |a - b| with sign -1, |a + b| with 1.
  Real length(size_t i, size_t j, Real sign) const {
    Real sum = 0;
    for (size_t k = 0; k < unit[i].size(); ++k) {
      sum += (unit[i][k] + sign * unit[j][k]) * (unit[i][k] + sign * unit[j][k]);
    }
    return std::sqrt(sum);
  }

  /// To row j with sign 1, to its antipode with -1.
  Real angle(size_t i, size_t j, Real sign = 1) const {
    const Real difference = length(i, j, -sign), sum = length(i, j, sign);
    if (difference <= duplicate) return 0;
    return sum <= duplicate ? std::numbers::pi_v<Real> : 2 * std::atan2(difference, sum);
  }

  Real deciding(size_t i, size_t j) const { return half_space ? std::min(angle(i, j), angle(i, j, -1)) : angle(i, j); }

  /// The axis along which exact duplicates part, less its part along row i; empty where there is none.
  std::vector<Real> parting_direction(size_t i, size_t j) const {
    const size_t dimension = unit[i].size();
    size_t axis = (std::min(i, j) * 73856093 + std::max(i, j) * 19349663) % dimension;
    if (std::abs(unit[i][axis]) > Real{0.9}) axis = (axis + 1) % dimension;
    std::vector<Real> direction = unit[i];
    for (Real& value : direction) value *= -unit[i][axis];
    direction[axis] += 1;
    const Real size = reference::norm(direction);
    if (size * size < Real{1e-12}) return {};
    for (Real& value : direction) value /= size;
    return direction;
  }

  /// Adds slope * d angle(i, j) / d rows.
  void add_angle_gradient(size_t i, size_t j, Real slope, reference::Rows& gradient) const {
    const bool duplicates = length(i, j, -1) <= duplicate, antipodes = length(i, j, 1) <= duplicate;
    const auto add = [&](size_t row, const std::vector<Real>& direction, Real size) {
      for (size_t k = 0; k < direction.size(); ++k) gradient[row][k] += direction[k] * size / norms[row];
    };
    if (!duplicates && !antipodes) {
      add(i, tangent(i, j), -slope);
      add(j, tangent(j, i), -slope);
    } else if (duplicates ? slope < 0 : slope > 0) {
      const auto direction = parting_direction(i, j);
      const Real size = std::abs(slope) * (i < j || antipodes ? 1 : -1);
      add(i, direction, size);
      add(j, direction, antipodes ? size : -size);
    }
  }

  /// The unit vector at row i towards row j.
  std::vector<Real> tangent(size_t i, size_t j) const {
    const Real cosine = reference::dot(unit[i], unit[j]);
    std::vector<Real> direction = unit[j];
    for (size_t k = 0; k < direction.size(); ++k) direction[k] -= cosine * unit[i][k];
    return reference::unit(direction);
  }
};

/// Of one matrix, rows and vectors of its own.
struct PlainFound {
  std::vector<int32_t> nearest;
  std::vector<double> angles;
};

/// The angle given is that to the row given, and it is the smallest, but for what a search in the rows' type may miss.
inline void expect_nearest(const PlainMatrix& matrix, const PlainFound& found, bool wide) {
  for (size_t i = 0; i < matrix.count(); ++i) {
    SCOPED_TRACE("row " + std::to_string(i));
    size_t first = i;
    Real smallest = std::numeric_limits<Real>::infinity();
    for (size_t j = 0; matrix.takes_part(i) && j < matrix.count(); ++j) {
      if (i == j || !matrix.takes_part(j)) continue;
      if (const Real angle = matrix.deciding(i, j); angle < smallest) {
        smallest = angle;
        first = j;
      }
    }
    const auto j = static_cast<size_t>(found.nearest[i]);
    if (first == i) {
      EXPECT_EQ(j, i);
      EXPECT_EQ(found.angles[i], 0);
      continue;
    }
    ASSERT_TRUE(j < matrix.count() && j != i && matrix.takes_part(j));
    EXPECT_NEAR(found.angles[i], static_cast<double>(matrix.angle(i, j)), 1e-14);
    const Real given = matrix.deciding(i, j);
    if (given < Real{0.1}) {
      EXPECT_LE(given, smallest * (1 + Real{1e-5}));
      EXPECT_LE(given, smallest + Real{1e-14});
    } else {
      EXPECT_LE(given, smallest + (wide ? Real{1e-9} : Real{1e-4}));
    }
    if (smallest == 0) {
      EXPECT_EQ(j, first) << "the first exact duplicate";
    }
  }
}

inline Real folded(const Objective& f, Real angle) {
  return f.half_space ? std::min(angle, std::numbers::pi_v<Real> - angle) : angle;
}
inline Real value_at(const Objective& f, Real angle) {
  return f.of_angle * folded(f, angle) + f.of_cosine * std::cos(folded(f, angle));
}
inline Real slope_at(const Objective& f, Real angle) {
  const Real slope = f.of_angle - f.of_cosine * std::sin(folded(f, angle));
  return f.half_space && angle > std::numbers::pi_v<Real> / 2 ? -slope : slope;
}

/// What each row weighs in its matrix's value.
inline std::vector<Real> weights_of(const PlainMatrix& matrix, const Objective& f, const PlainFound& found) {
  size_t usable = 0, closest = matrix.count();
  for (size_t i = 0; i < matrix.count(); ++i) {
    if (matrix.is_zero(i)) continue;
    ++usable;
    if (closest == matrix.count() || folded(f, found.angles[i]) < folded(f, found.angles[closest])) closest = i;
  }
  std::vector<Real> weights(matrix.count(), 0);
  for (size_t i = 0; usable >= 2 && i < matrix.count(); ++i) {
    if (!matrix.is_zero(i)) {
      weights[i] = f.closest_only ? Real(i == closest ? 1 : 0) : 1 / static_cast<Real>(usable);
    }
  }
  return weights;
}

inline at::Tensor tensor_of(const reference::Rows& rows, at::IntArrayRef sizes) {
  at::Tensor result = at::empty(sizes, at::kDouble);
  double* data = result.mutable_data_ptr<double>();
  for (const auto& row : rows) {
    for (const Real value : row) *data++ = static_cast<double>(value);
  }
  return result;
}

/// Row by row, because tiny rows have huge gradients.
inline void expect_gradient(const at::Tensor& gradient, const at::Tensor& expected) {
  const auto type = gradient.scalar_type();
  const at::Tensor off = gradient.to(at::kCPU).to(at::kDouble) - expected.to(type).to(at::kDouble);
  const at::Tensor sizes = expected.norm(2, {1});
  const at::Tensor relative = off.norm(2, {1}) / (sizes + sizes.median() + 1e-30);
  EXPECT_LT(relative.nan_to_num(0.0, 0.0, 0.0).max().item<double>(), type == at::kDouble  ? 1e-10
                                                                     : type == at::kFloat ? 1e-5
                                                                                          : 1e-2);
}

/// Everything that the contract promises of layers of one matrix each without NaN or Inf; gradients began with zeros
/// and were multiplied by `factors`, on the CPU.
inline void expect_keeps_the_contract(const Plan& plan, const Found& found, const std::vector<at::Tensor>& gradients,
                                      const at::Tensor& factors) {
  const at::Tensor values = found.values.cpu(), nearest = found.nearest.cpu(), angles = found.angles.cpu();
  size_t offset = 0;
  for (size_t m = 0; m < plan.matrices.size(); ++m) {
    SCOPED_TRACE("matrix " + std::to_string(m) + ", " + c10::toString(plan.matrices[m].rows.scalar_type()));
    const at::Tensor& rows = plan.matrices[m].rows;
    const PlainMatrix matrix(rows, plan.objective.half_space);
    const std::span all_nearest(nearest.const_data_ptr<int32_t>() + offset, matrix.count());
    const std::span all_angles(angles.const_data_ptr<double>() + offset, matrix.count());
    const PlainFound own{{all_nearest.begin(), all_nearest.end()}, {all_angles.begin(), all_angles.end()}};
    expect_nearest(matrix, own, rows.scalar_type() == at::kDouble);
    const std::vector<Real> weights = weights_of(matrix, plan.objective, own);
    Real value = 0;
    reference::Rows gradient(matrix.count(), std::vector<Real>(static_cast<size_t>(rows.size(1)), 0));
    for (size_t i = 0; i < matrix.count(); ++i) {
      if (weights[i] == 0) continue;
      const auto j = static_cast<size_t>(own.nearest[i]);
      const Real angle = i == j ? 0 : matrix.angle(i, j);
      value += weights[i] * value_at(plan.objective, angle);
      if (i != j) matrix.add_angle_gradient(i, j, weights[i] * slope_at(plan.objective, angle), gradient);
    }
    const auto layer = static_cast<int64_t>(m);
    EXPECT_NEAR(values[layer].item<double>(), static_cast<double>(value), 1e-13);
    expect_gradient(gradients[m], tensor_of(gradient, rows.sizes()) * factors[layer].item<double>());
    offset += matrix.count();
  }
}

}  // namespace expectations
