#include "tammes/polish.hpp"

#include <mma/tammes.hpp>

#include <algorithm>
#include <coin/ClpSimplex.hpp>
#include <coin/CoinPackedMatrix.hpp>
#include <numeric>
#include <vector>

namespace mma::examples {
namespace {

constexpr double first_radius = 1e-2;  // of the minimal angle
constexpr double last_radius = 1e-9;   // its square is beyond a double's digits
constexpr double least_gain = 1e-15;
constexpr int64_t most_rounds = 120;

using Vector = std::vector<double>;

double dot(const double* a, const double* b, int64_t d) { return std::inner_product(a, a + d, b, 0.0); }

/// n unit vectors and, for each, an orthonormal basis of the plane that touches the sphere there.
class Configuration {
 public:
  explicit Configuration(const at::Tensor& points)
      : n(points.size(0)),
        d(points.size(1)),
        rows_(points.const_data_ptr<double>(), points.const_data_ptr<double>() + points.numel()),
        tangents_(static_cast<size_t>(n * (d - 1) * d)) {
    for (int64_t i = 0; i < n; ++i) make_tangents(i);
  }

  const int64_t n, d;

  const double* row(int64_t i) const { return rows_.data() + i * d; }
  const double* tangent(int64_t i, int64_t k) const { return tangents_.data() + (i * (d - 1) + k) * d; }

  /// Every row moved along its tangents by step [n, d - 1] and back onto the sphere.
  Vector moved(const double* step) const {
    Vector rows = rows_;
    for (int64_t i = 0; i < n; ++i) {
      double* own = rows.data() + i * d;
      for (int64_t k = 0; k < d - 1; ++k) {
        for (int64_t a = 0; a < d; ++a) own[a] += step[i * (d - 1) + k] * tangent(i, k)[a];
      }
      const double norm = std::sqrt(dot(own, own, d));
      for (int64_t a = 0; a < d; ++a) own[a] /= norm;
    }
    return rows;
  }

 private:
  /// The columns but the first of the reflection that takes the axis of the row's largest entry to the row.
  void make_tangents(int64_t i) {
    const double* x = row(i);
    const int64_t axis = std::max_element(x, x + d, [](double a, double b) { return std::abs(a) < std::abs(b); }) - x;
    const double sign = x[axis] < 0 ? -1 : 1;
    Vector normal(x, x + d);  // of the mirror between -sign * axis and x
    normal[static_cast<size_t>(axis)] += sign;
    const double scale = 2 / dot(normal.data(), normal.data(), d);
    double* out = tangents_.data() + i * (d - 1) * d;
    for (int64_t column = 0; column < d; ++column) {
      if (column == axis) continue;
      for (int64_t a = 0; a < d; ++a) {
        *out++ = (a == column ? 1 : 0) - scale * normal[static_cast<size_t>(a)] * normal[static_cast<size_t>(column)];
      }
    }
  }

  Vector rows_;      ///< [n, d]
  Vector tangents_;  ///< [n, d - 1, d]
};

/// The squared distances of unit vectors keep their digits where cosines near 1 lose them.
double squared_distance(const double* a, const double* b, int64_t d) {
  double sum = 0;
  for (int64_t k = 0; k < d; ++k) sum += (a[k] - b[k]) * (a[k] - b[k]);
  return sum;
}

double smallest_distance(const Vector& rows, int64_t n, int64_t d) {
  double smallest = 4;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i + 1; j < n; ++j) {
      smallest = std::min(smallest, squared_distance(rows.data() + i * d, rows.data() + j * d, d));
    }
  }
  return smallest;
}

struct Pair {
  int64_t first, second;
  double distance;  ///< squared
};

/// The pairs that a step of this radius could bring to the minimal angle.
std::vector<Pair> near_pairs(const Configuration& points, double smallest, double radius) {
  const double limit = std::pow(std::sqrt(smallest) + 4 * radius * std::sqrt(static_cast<double>(points.d)), 2);
  std::vector<Pair> pairs;
  for (int64_t i = 0; i < points.n; ++i) {
    for (int64_t j = i + 1; j < points.n; ++j) {
      const double distance = squared_distance(points.row(i), points.row(j), points.d);
      if (distance <= limit) pairs.push_back({i, j, distance});
    }
  }
  return pairs;
}

struct Step {
  Vector values;  ///< [n, d - 1]
  double gain;    ///< foreseen, in the smallest squared distance
};

/// Largest t such that every near pair's squared distance, to first order, is at least smallest + t, by a step with
/// entries up to the radius. In units of the radius: the solver's tolerances are absolute.
Step best_step(const Configuration& points, double smallest, double radius) {
  const int64_t d = points.d;
  const auto columns = static_cast<int>(points.n * (d - 1) + 1);  // the last is t
  const std::vector<Pair> pairs = near_pairs(points, smallest, radius);
  CoinPackedMatrix matrix(false, 0, 0);
  matrix.setDimensions(0, columns);
  Vector lower_rows;
  std::vector<int> index(static_cast<size_t>(2 * (d - 1) + 1));
  Vector value(index.size());
  for (const Pair& pair : pairs) {
    size_t entry = 0;
    for (int64_t k = 0; k < d - 1; ++k) {  // of |x - y|^2 = 2 - 2 x.y
      index[entry] = static_cast<int>(pair.first * (d - 1) + k);
      value[entry++] = -2 * dot(points.tangent(pair.first, k), points.row(pair.second), d);
      index[entry] = static_cast<int>(pair.second * (d - 1) + k);
      value[entry++] = -2 * dot(points.tangent(pair.second, k), points.row(pair.first), d);
    }
    index[entry] = columns - 1;
    value[entry++] = -1;
    matrix.appendRow(static_cast<int>(entry), index.data(), value.data());
    lower_rows.push_back((smallest - pair.distance) / radius);
  }
  Vector lower(static_cast<size_t>(columns), -1), upper(lower.size(), 1), objective(lower.size(), 0);
  lower.back() = 0;
  upper.back() = COIN_DBL_MAX;
  objective.back() = -1;
  ClpSimplex program;
  program.setLogLevel(0);
  program.loadProblem(matrix, lower.data(), upper.data(), objective.data(), lower_rows.data(), nullptr);
  program.dual();
  const double* solution = program.getColSolution();
  Step step{Vector(solution, solution + columns - 1), radius * solution[columns - 1]};
  if (program.status() != 0) step.gain = 0;
  for (double& entry : step.values) entry = std::clamp(entry, -1.0, 1.0) * radius;
  return step;
}

}  // namespace

Polished polish(const at::Tensor& points, const std::function<bool()>& stop) {
  Polished result{points.to(at::kDouble).contiguous().clone()};
  const int64_t n = points.size(0), d = points.size(1);
  if (d == 1) return result;
  auto* data = result.points.mutable_data_ptr<double>();
  double smallest = smallest_distance(Vector(data, data + n * d), n, d);
  const double widest = first_radius * std::sqrt(smallest);
  double radius = widest;
  while (radius > last_radius && result.rounds < most_rounds && !(stop && stop())) {
    const Configuration before(result.points);
    const Step step = best_step(before, smallest, radius);
    ++result.rounds;
    if (step.gain < least_gain) break;
    const Vector rows = before.moved(step.values.data());
    const double gain = smallest_distance(rows, n, d) - smallest;
    if (gain > 0) {
      smallest += gain;
      std::copy(rows.begin(), rows.end(), data);
    }
    if (gain < 0.5 * step.gain) radius /= 8;
    if (gain > 0.9 * step.gain) radius = std::min(2 * radius, widest);
  }
  return result;
}

}  // namespace mma::examples
