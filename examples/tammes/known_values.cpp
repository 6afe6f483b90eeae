#include "tammes/known_values.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <mma/angles.hpp>
#include <mma/simplex.hpp>
#include <numbers>

namespace mma::examples {
namespace {

constexpr const char* sloane = "N. J. A. Sloane's tables of spherical codes";
constexpr const char* paper = "the paper's Table 1, from the same tables, to one decimal";

const std::array<KnownValue, 10>& table() {
  static const std::array<KnownValue, 10> values = {{
      {3, 12, 63.4349488, true, 1e-7, "icosahedron"},
      {3, 30, 38.5971159, false, 1e-7, sloane},
      {3, 130, 18.5103522, false, 1e-7, sloane},
      {4, 30, 54.2492864, false, 1e-7,
       "766 starts of another program; the paper's Table 1 prints 54.3, which is unconfirmed"},
      {4, 120, 36, true, 1e-7, "600-cell"},
      {4, 130, 33.4, false, 0.05, paper},
      {4, 600, 19.8, false, 0.05, paper},
      {5, 30, 65.6046968, false, 1e-7, "2229 starts of another program; the paper's Table 1 prints 65.6"},
      {5, 130, 43.8, false, 0.05, paper},
      {8, 240, 60, true, 1e-7, "root system E8"},
  }};
  return values;
}

at::Tensor polygon(int64_t n) {
  const at::Tensor angle =
      at::arange(n, at::TensorOptions(at::kDouble)) * (2 * std::numbers::pi / static_cast<double>(n));
  return at::stack({angle.cos(), angle.sin()}, 1);
}

/// e_1, -e_1, e_2, ...: the first n corners of the cross-polytope.
at::Tensor cross_polytope(int64_t n, int64_t d) {
  const at::Tensor axes = at::eye(d, at::kDouble);
  return at::stack({axes, -axes}, 1).reshape({2 * d, d}).narrow(0, 0, n).clone();
}

at::Tensor two_ends(int64_t n) {
  const at::Tensor odd = at::arange(n, at::TensorOptions(at::kDouble)).remainder(2);
  return (1 - 2 * odd).unsqueeze(1);
}

}  // namespace

std::optional<ExactSolution> exact_solution(int64_t n, int64_t d) {
  if (d >= n - 1) return ExactSolution{simplex(n, d), "the regular simplex is optimal for n <= d + 1"};
  if (d == 1) return ExactSolution{two_ends(n), "in one dimension there are only two directions"};
  if (d == 2) return ExactSolution{polygon(n), "the regular polygon is optimal in two dimensions"};
  if (n <= 2 * d)
    return ExactSolution{cross_polytope(n, d), "corners of the cross-polytope are optimal for d + 2 <= n <= 2 d"};
  return std::nullopt;
}

std::optional<KnownValue> known_value(int64_t n, int64_t d) {
  const auto& values = table();
  const auto found =
      std::ranges::find_if(values, [&](const KnownValue& v) { return v.points == n && v.dimension == d; });
  if (found != values.end()) return *found;
  if (n > 2 * d && d > 2) return std::nullopt;
  const UpperBound bound = upper_bound(n, d);
  return KnownValue{d, n, bound.degrees, true, 1e-9, bound.reason};
}

UpperBound upper_bound(int64_t n, int64_t d) {
  if (n <= d + 1) return {degrees(simplex_angle(n)), "regular simplex"};
  if (d == 1) return {0, "only two directions"};
  if (d == 2) return {360.0 / static_cast<double>(n), "regular polygon"};
  if (d == 3 && n > 6) {
    const double omega = static_cast<double>(n) * std::numbers::pi / static_cast<double>(6 * (n - 2));
    return {degrees(std::acos((1 / std::pow(std::tan(omega), 2) - 1) / 2)), "L. Fejes Toth 1943"};
  }
  return {90, "R. A. Rankin 1955: more than d + 1 points"};
}

}  // namespace mma::examples
