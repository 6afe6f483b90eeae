// Images for the tests of normalisation, and how far what came out is from what was expected.
#pragma once

#include <ATen/TensorOperators.h>

#include <algorithm>

#include "../../formula_weights.hpp"

namespace mma::tests {

/// Numbers of about 1, channels last. [B, C, height, width], float32
inline at::Tensor image_numbers(uint64_t stream, at::IntArrayRef shape) {
  return (noise(stream, shape) * 3).to(at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
}

/// The largest difference as a share of the largest number.
inline double error_of(const at::Tensor& found, const at::Tensor& expected) {
  const double largest = std::max(expected.abs().max().item<double>(), 0.1);
  return (found.to(at::kDouble) - expected).abs().max().item<double>() / largest;
}

}  // namespace mma::tests
