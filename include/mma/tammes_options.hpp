// What the Tammes solvers of tammes.hpp take and give: options of the paper's method and of the annealed one, callbacks
// for progress and an early end, the result.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace mma {

/// How far a solver has come.
struct TammesProgress {
  double done = 0;           ///< share of the work, 0 to 1
  double minimal_angle = 0;  ///< the best so far, in radians; 0 before there is one
};

/// How a caller looks in. Both are called from the solver's threads, one call at a time.
struct TammesCallbacks {
  std::function<void(const TammesProgress&)> progress;  ///< now and then; may be empty
  std::function<bool()> stop;                           ///< true: end soon and give the best so far
};

/// The best configuration that was found.
struct TammesResult {
  at::Tensor points;                                                ///< [n, d] float64 on the CPU, unit length
  double minimal_angle = std::numeric_limits<double>::quiet_NaN();  ///< in radians
  std::vector<double> start_angles;                                 ///< the minimal angle that each start came to
};

/// The paper's method, with its values (section 4).
struct TammesPaperOptions {
  int64_t points = 0;            ///< n, at least 2
  int64_t dimension = 0;         ///< d, at least 1
  int64_t starts = 1;            ///< all in one batch; start k is drawn from the seed + k
  uint64_t seed = 1;             ///< of the first start
  int64_t iterations = 10000;    ///< at most; it ends before where nothing is gained any more
  double learning_rate = 0.1;    ///< at the beginning
  double momentum = 0.9;         ///< of SGD
  at::Device device = at::kCPU;  ///< where it is computed; the result is on the CPU
  at::Tensor start;              ///< [n, d]: one start from here instead of random ones
};

/// The annealed method. Each start goes through all the exponents; then the best so far is changed, again and again, by
/// moving a few of its points to random places and annealing anew ("hops"), and kept where that made it better.
struct TammesAnnealedOptions {
  int64_t points = 0;         ///< n, at least 2
  int64_t dimension = 0;      ///< d, at least 1
  int64_t starts = 32;        ///< random ones; start k is drawn from the seed + k
  int64_t hops = 32;          ///< changes of the best that are tried after the starts
  uint64_t seed = 1;          ///< of the starts and the hops
  int64_t threads = 1;        ///< the result does not depend on it
  int first_doubling = 3;     ///< exponents from 2^3 = 8 ...
  int last_doubling = 20;     ///< ... to 2^20, about 1e6
  int doublings_a_stage = 1;  ///< of the exponent, from one minimisation to the next
  double tolerance = 1e-5;    ///< a stage ends when a step gains less than this over its exponent
  int64_t iterations = 3000;  ///< of L-BFGS, for each exponent
  at::Tensor start;           ///< [n, d]: this instead of random starts; the result is never worse
};

/// One start, few exponents and iterations: a minute or so on two cores for an even spread, not an optimum, of 10,000
/// points. Measured: 4.69 degrees for 2000 points in 3 dimensions, of 4.88 that the densest packing of the plane
/// allows.
inline TammesAnnealedOptions quick_tammes_options(int64_t points, int64_t dimension) {
  const double work = static_cast<double>(points) * static_cast<double>(points) * static_cast<double>(dimension);
  TammesAnnealedOptions options;
  options.points = points;
  options.dimension = dimension;
  options.starts = 1;
  options.hops = 0;
  options.first_doubling = dimension < 16 ? 2 : 4;  // in many dimensions random points are spread evenly already
  options.last_doubling = options.first_doubling + 9;
  options.doublings_a_stage = 3;
  options.tolerance = 1e-3;
  options.iterations = std::clamp<int64_t>(static_cast<int64_t>(3e10 / work), 6, 100);
  return options;
}

}  // namespace mma
