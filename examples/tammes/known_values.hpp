// What is known about n points in d dimensions: exact solutions, upper bounds, and the best values that were published.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace mma::examples {

/// An optimal configuration with the reason why it is one.
struct ExactSolution {
  at::Tensor points;  ///< [n, d] float64
  std::string reason;
};

/// For one dimension, two dimensions, and n <= 2 d; otherwise nothing.
std::optional<ExactSolution> exact_solution(int64_t n, int64_t d);

struct KnownValue {
  int64_t dimension;
  int64_t points;
  double degrees;
  bool proven;        ///< nothing larger exists
  double resolution;  ///< half a unit of its last digit, a whole one where it may be cut off instead of rounded
  std::string source;
};

std::optional<KnownValue> known_value(int64_t n, int64_t d);

struct UpperBound {
  double degrees;
  std::string reason;
};

/// No n points in d dimensions have a larger minimal angle.
UpperBound upper_bound(int64_t n, int64_t d);

}  // namespace mma::examples
