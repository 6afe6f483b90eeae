// The number format of a network's convolutions and matrix products: float32, or bfloat16 or float16 by LibTorch's
// autocast, with weights, gradients, normalisation and loss in float32.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace mma::examples {

/// While it lives, what runs on the device's type runs in the precision of that name.
class PrecisionGuard {
 public:
  PrecisionGuard(const std::string& precision, const c10::Device& device);
  ~PrecisionGuard();
  PrecisionGuard(const PrecisionGuard&) = delete;
  PrecisionGuard& operator=(const PrecisionGuard&) = delete;

 private:
  c10::DeviceType device_;
  bool was_enabled_;
  c10::ScalarType type_before_;
};

}  // namespace mma::examples
