#include "training/run/precision.hpp"

#include <ATen/autocast_mode.h>

namespace mma::examples {

PrecisionGuard::PrecisionGuard(const std::string& precision, const c10::Device& device)
    : device_(device.type()),
      was_enabled_(at::autocast::is_autocast_enabled(device_)),
      type_before_(at::autocast::get_autocast_dtype(device_)) {
  at::autocast::increment_nesting();
  at::autocast::set_autocast_dtype(device_, precision == "fp16" ? at::kHalf : at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, precision == "bf16" || precision == "fp16");
}

PrecisionGuard::~PrecisionGuard() {
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();  // of weights that the next step changes
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, type_before_);
}

}  // namespace mma::examples
