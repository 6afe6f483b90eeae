// Matrices of rows as a search meets them: random, in tight clusters, with duplicates, and where MMA works: at its
// optimum, where every row has many neighbours at one angle. Made in float64 from a seed.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace matrices {

struct Family {
  std::string name;
  std::function<at::Tensor(int64_t n, int64_t d, const at::Generator&)> make;  ///< undefined where there is none
};

inline at::Tensor normal(int64_t n, int64_t d, const at::Generator& random) {
  return at::randn({n, d}, random, at::TensorOptions(at::kDouble));
}

inline at::Tensor unit(const at::Tensor& rows) { return rows / rows.norm(2, {1}, true).clamp_min(1e-300); }

/// Norms between 0.1 and 10.
inline at::Tensor scaled(const at::Tensor& rows, const at::Generator& random) {
  return rows * at::pow(10, 2 * at::rand({rows.size(0), 1}, random, at::TensorOptions(at::kDouble)) - 1);
}

/// n <= d orthonormal rows, turned at random.
inline at::Tensor orthonormal(int64_t n, int64_t d, const at::Generator& random) {
  return std::get<0>(at::linalg_qr(normal(d, n, random))).t().contiguous();
}

inline at::Tensor with_noise(const at::Tensor& rows, const at::Generator& random) {
  return scaled(rows + 1e-7 * normal(rows.size(0), rows.size(1), random), random);
}

/// n <= d + 1 rows at equal angles: what is left of the coordinate axes without their mean, turned at random.
inline at::Tensor simplex(int64_t n, int64_t d, const at::Generator& random) {
  if (n < 2 || n > d + 1) return {};
  const at::Tensor basis = at::cat({at::ones({n, 1}, at::kDouble), normal(n, n - 1, random)}, 1);
  const at::Tensor vertices = std::get<0>(at::linalg_qr(basis)).narrow(1, 1, n - 1);
  return with_noise(vertices.mm(orthonormal(n - 1, d, random)), random);
}

inline at::Tensor orthogonal(int64_t n, int64_t d, const at::Generator& random) {
  return n > d ? at::Tensor() : with_noise(orthonormal(n, d, random), random);
}

/// About five rows around each centre.
inline at::Tensor clusters(int64_t n, int64_t d, double spread, const at::Generator& random) {
  const at::Tensor centres = unit(normal(n / 5 + 1, d, random));
  const at::Tensor which = at::arange(n, at::kLong).remainder(centres.size(0));
  return scaled(centres.index_select(0, which) + spread * unit(normal(n, d, random)), random);
}

/// All rows within `spread` of one.
inline at::Tensor cone(int64_t n, int64_t d, double spread, const at::Generator& random) {
  return scaled(unit(normal(1, d, random)) + spread * unit(normal(n, d, random)), random);
}

/// Every third row again, as it is or three times as long.
inline at::Tensor duplicates(int64_t n, int64_t d, const at::Generator& random) {
  at::Tensor rows = normal(n, d, random).to(at::kFloat).to(at::kDouble);
  for (int64_t r = 2; r < n; r += 3) rows[r] = rows[r / 2] * (r % 2 == 0 ? 1 : 3);
  return rows;
}

/// What some steps of MMA alone make of random rows.
inline at::Tensor optimized(int64_t n, int64_t d, const at::Generator& random) {
  if (n < 2 || n * d > 5000) return {};
  at::Tensor rows = normal(n, d, random);
  for (int step = 0; step < 200; ++step) {
    const at::Tensor weight = rows.detach().requires_grad_();
    const at::Tensor directions = weight / weight.norm(2, {1}, true);
    const at::Tensor cosines = directions.mm(directions.t()) - 2 * at::eye(n, at::kDouble);
    std::get<0>(cosines.max(1)).clamp(-1 + 1e-9, 1 - 1e-9).acos().sum().neg().backward();
    rows = unit(rows - 0.05 / (1 + 0.05 * step) * weight.grad());
  }
  return scaled(rows, random);
}

/// As a training leaves them: few directions carry most of it, norms fall over three decades.
inline at::Tensor trained(int64_t n, int64_t d, const at::Generator& random) {
  const int64_t rank = std::max<int64_t>(1, std::min(n, d) / 4);
  const at::Tensor common = normal(n, rank, random).mm(normal(rank, d, random)) / std::sqrt(static_cast<double>(rank));
  const at::Tensor norms = at::pow(10, -at::arange(n, at::kDouble) * (3.0 / static_cast<double>(n)));
  return (0.5 * common + 0.5 * normal(n, d, random)) * norms.unsqueeze(1);
}

inline std::vector<Family> families() {
  using G = at::Generator;
  return {{"random", normal},
          {"clusters of 0.05", [](int64_t n, int64_t d, const G& g) { return clusters(n, d, 0.05, g); }},
          {"clusters of 1e-3", [](int64_t n, int64_t d, const G& g) { return clusters(n, d, 1e-3, g); }},
          {"clusters of 1e-4", [](int64_t n, int64_t d, const G& g) { return clusters(n, d, 1e-4, g); }},
          {"clusters of 1e-5", [](int64_t n, int64_t d, const G& g) { return clusters(n, d, 1e-5, g); }},
          {"cone of 1e-7", [](int64_t n, int64_t d, const G& g) { return cone(n, d, 1e-7, g); }},
          {"cone of 0.05", [](int64_t n, int64_t d, const G& g) { return cone(n, d, 0.05, g); }},
          {"cone of 1e-4", [](int64_t n, int64_t d, const G& g) { return cone(n, d, 1e-4, g); }},
          {"duplicates", duplicates},
          {"simplex", simplex},
          {"orthogonal", orthogonal},
          {"optimized", optimized},
          {"trained", trained}};
}

}  // namespace matrices
