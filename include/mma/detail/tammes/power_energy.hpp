// What the annealed Tammes solver minimises: the p-norm of the inverse distances 1 / (1 - cosine) over all pairs,
//   f = log(sum_{i<j} (1 - c_ij)^-p) / p
// which tends to -log(1 - largest cosine) as p grows. With p = 2^k a power is k squarings: no exp, no overflow.
// Plain loops, memory O(n d): for some hundred points one ATen call costs more than all the work in it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../../in_threads.hpp"

namespace mma::detail::tammes {

/// The largest of one number or more, in four interleaved maxima, which need not wait for each other.
inline double largest_of(const double* begin, const double* end) {
  std::array<double, 4> lanes{*begin, *begin, *begin, *begin};
  for (; end - begin >= 4; begin += 4) {
    for (size_t lane = 0; lane < 4; ++lane) {
      lanes[lane] = begin[lane] > lanes[lane] ? begin[lane] : lanes[lane];
    }
  }
  for (; begin != end; ++begin) {
    lanes[0] = std::max(lanes[0], *begin);
  }
  return *std::max_element(lanes.begin(), lanes.end());
}

/// Unit vectors of rows w [n, d], by rows and by coordinates.
class UnitRows {
 public:
  UnitRows(int64_t points, int64_t dimension)
      : n(points),
        d(dimension),
        rows_(static_cast<size_t>(n * d)),
        coordinates_(static_cast<size_t>(n * d)),
        inverse_norms_(static_cast<size_t>(n)) {}

  const int64_t n, d;

  const double* row(int64_t i) const { return rows_.data() + i * d; }

  void assign(const double* w) {
    for (int64_t i = 0; i < n; ++i) {
      double square = 0;
      for (int64_t k = 0; k < d; ++k) {
        square += w[i * d + k] * w[i * d + k];
      }
      const double inverse = 1 / std::sqrt(square);
      inverse_norms_[static_cast<size_t>(i)] = inverse;
      for (int64_t k = 0; k < d; ++k) {
        rows_[static_cast<size_t>(i * d + k)] = w[i * d + k] * inverse;
        coordinates_[static_cast<size_t>(k * n + i)] = w[i * d + k] * inverse;
      }
    }
  }

  /// The cosines [count, n] of rows [first, first + count) with all later rows; what lies before is left as it is.
  /// A block of columns at a time, which stays in the cache for all the rows.
  void cosines(int64_t first, int64_t count, double* out) const {
    for (int64_t begin = first; begin < n; begin += column_block) {
      const int64_t end = std::min(begin + column_block, n);
      for (int64_t i = first; i < first + count; ++i) {
        double* cosine = out + (i - first) * n;
        std::fill(cosine + begin, cosine + end, 0.0);
        for (int64_t k = 0; k < d; ++k) {
          const double own = row(i)[k];
          const double* others = coordinates_.data() + k * n;
          for (int64_t j = begin; j < end; ++j) {
            cosine[j] += own * others[j];
          }
        }
      }
    }
  }

  /// From the derivative by unit row i, in place, to that by row i of w: the part along the row falls away.
  void to_row_gradient(int64_t i, double factor, double* gradient) const {
    double along = 0;
    for (int64_t k = 0; k < d; ++k) {
      along += gradient[k] * row(i)[k];
    }
    const double scale = factor * inverse_norms_[static_cast<size_t>(i)];
    for (int64_t k = 0; k < d; ++k) {
      gradient[k] = scale * (gradient[k] - along * row(i)[k]);
    }
  }

 private:
  static constexpr int64_t column_block = 512;

  std::vector<double> rows_;         ///< [n, d]
  std::vector<double> coordinates_;  ///< [d, n]
  std::vector<double> inverse_norms_;
};

/// The part of the sum, and of its gradient by the unit rows, of all pairs (i, j > i) with i in some blocks of rows:
///   sum of (distance / (1 - c_ij))^p, with the smallest 1 - c_ij so far as the distance: no term exceeds 1.
class PartialPowerSum {
 public:
  static constexpr int64_t row_block = 8;

  explicit PartialPowerSum(const UnitRows& unit)
      : unit_(unit),
        gradient_(static_cast<size_t>(unit.n * unit.d)),
        cosines_(static_cast<size_t>(row_block * unit.n)),
        columns_(static_cast<size_t>(unit.n)),
        powers_(static_cast<size_t>(unit.n)),
        weights_(static_cast<size_t>(unit.n)) {}

  double sum() const { return sum_; }
  double distance() const { return distance_; }
  const std::vector<double>& gradient() const { return gradient_; }

  /// Begins a sum with p = 2^doublings.
  void begin(int doublings) {
    doublings_ = doublings;
    sum_ = 0;
    distance_ = 4;  // no two unit vectors have 1 - cosine above 2
    std::fill(gradient_.begin(), gradient_.end(), 0.0);
  }

  void add_block(int64_t first) {
    const int64_t count = std::min(row_block, unit_.n - first);
    unit_.cosines(first, count, cosines_.data());
    for (int64_t i = first; i < std::min(first + count, unit_.n - 1); ++i) {
      add_row(i, cosines_.data() + (i - first) * unit_.n);
    }
  }

  /// What a sum of this exponent is multiplied by when its distance shrinks from `old` to `now`.
  static double rescaling(double old, double now, int doublings) {
    return std::pow(now / old, std::ldexp(1.0, doublings));
  }

 private:
  static constexpr double negligible = 1e-17;         ///< a term so much smaller than the largest is left out
  static constexpr double smallest_distance = 1e-15;  ///< of two equal rows, within rounding

  void add_row(int64_t i, const double* cosines) {
    const double nearest = std::max(1 - largest_of(cosines + i + 1, cosines + unit_.n), smallest_distance);
    if (nearest < distance_) {
      const double factor = rescaling(distance_, nearest, doublings_);
      distance_ = nearest;
      sum_ *= factor;
      for (double& value : gradient_) {
        value *= factor;
      }
    }
    add_pairs(i, collect(cosines, i + 1));
  }

  /// Lists the columns from `begin` on that count, with (distance / (1 - c))^p and that over 1 - c; returns how many.
  size_t collect(const double* cosines, int64_t begin) {
    const double far = distance_ * std::pow(negligible, -std::ldexp(1.0, -doublings_));
    size_t count = 0;
    for (int64_t j = begin; j < unit_.n; ++j) {
      columns_[count] = j;
      weights_[count] = 1 - cosines[j];
      count += static_cast<size_t>(1 - cosines[j] <= far);
    }
    for (size_t k = 0; k < count; ++k) {
      weights_[k] = 1 / std::max(weights_[k], smallest_distance);
      powers_[k] = distance_ * weights_[k];
    }
    for (int doubling = 0; doubling < doublings_; ++doubling) {
      for (size_t k = 0; k < count; ++k) {
        powers_[k] *= powers_[k];
      }
    }
    for (size_t k = 0; k < count; ++k) {
      weights_[k] *= powers_[k];
    }
    return count;
  }

  void add_pairs(int64_t i, size_t count) {
    const int64_t d = unit_.d;
    const double* own_row = unit_.row(i);
    double* own = gradient_.data() + i * d;
    for (size_t k = 0; k < count; ++k) {
      sum_ += powers_[k];
      const double weight = weights_[k];
      const double* other_row = unit_.row(columns_[k]);
      double* other = gradient_.data() + columns_[k] * d;
      for (int64_t a = 0; a < d; ++a) {
        own[a] += weight * other_row[a];
        other[a] += weight * own_row[a];
      }
    }
  }

  const UnitRows& unit_;
  int doublings_ = 0;
  double sum_ = 0;
  double distance_ = 4;
  std::vector<double> gradient_;
  std::vector<double> cosines_;  ///< [row_block, n]
  std::vector<int64_t> columns_;
  std::vector<double> powers_;
  std::vector<double> weights_;
};

/// f and its gradient. Many points are summed in several parts, which threads may share; the parts do not depend on the
/// threads, so neither do the bits.
class PowerEnergy {
 public:
  PowerEnergy(int64_t n, int64_t d, int64_t threads) : unit_(n, d), threads_(threads) {
    const int64_t parts = n < many_points ? 1 : parts_of_many;
    for (int64_t part = 0; part < parts; ++part) {
      parts_.emplace_back(unit_);
    }
  }
  ~PowerEnergy() = default;
  PowerEnergy(const PowerEnergy&) = delete;
  PowerEnergy& operator=(const PowerEnergy&) = delete;

  static constexpr int64_t many_points = 1500;

  /// f at rows w [n, d] (of any lengths but 0) with p = 2^doublings; writes the gradient [n, d].
  double operator()(const double* w, double* gradient, int doublings) {
    unit_.assign(w);
    const auto parts = static_cast<int64_t>(parts_.size());
    in_threads(parts, threads_, [&](int64_t part) {
      PartialPowerSum& partial = parts_[static_cast<size_t>(part)];
      partial.begin(doublings);
      for (int64_t first = part * PartialPowerSum::row_block; first < unit_.n;
           first += parts * PartialPowerSum::row_block) {
        partial.add_block(first);
      }
    });
    return combine(gradient, doublings);
  }

 private:
  static constexpr int64_t parts_of_many = 8;

  double combine(double* gradient, int doublings) const {
    double distance = 4, sum = 0;
    for (const PartialPowerSum& part : parts_) {
      distance = std::min(distance, part.distance());
    }
    std::fill(gradient, gradient + unit_.n * unit_.d, 0.0);
    for (const PartialPowerSum& part : parts_) {
      const double factor = PartialPowerSum::rescaling(part.distance(), distance, doublings);
      sum += factor * part.sum();
      for (size_t k = 0; k < part.gradient().size(); ++k) {
        gradient[k] += factor * part.gradient()[k];
      }
    }
    for (int64_t i = 0; i < unit_.n; ++i) {
      unit_.to_row_gradient(i, 1 / sum, gradient + i * unit_.d);
    }
    return std::ldexp(std::log(sum), -doublings) - std::log(distance);
  }

  UnitRows unit_;
  int64_t threads_;
  std::vector<PartialPowerSum> parts_;
};

}  // namespace mma::detail::tammes
