// mma-tammes solve: points with a large minimal angle, into a file and a picture.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mma/tammes.hpp>
#include <optional>
#include <string>

namespace mma::examples {

struct SolveArguments {
  std::optional<int64_t> dimension;
  std::optional<int64_t> points;
  std::string method;  ///< empty: analytic where there is a solution, else annealed
  std::string objective;
  std::optional<int64_t> restarts;
  uint64_t seed = 1;
  std::optional<int64_t> threads;
  std::string device = "cpu";
  std::string start;
  std::string out;
  std::string format;
  std::string plot;
};

/// How much the annealed method does by itself: as many restarts as take some minutes at most, and beyond
/// some thousand points the quick spread.
TammesAnnealedOptions annealed_options(int64_t points, int64_t dimension);

/// The annealed method and the polish.
struct Solution {
  at::Tensor points;
  double minimal_angle = 0;  ///< radians
  int64_t polish_rounds = 0;
};
Solution anneal_and_polish(const TammesAnnealedOptions& options, const std::string& label);

/// Returns the exit code: 0, or 128 + the signal that ended it early, with the best so far.
int solve(const SolveArguments& arguments);

}  // namespace mma::examples
