// Angles are never computed in float16 or bfloat16, nor in TF32, whatever the region around the call asks for.
#pragma once

#include <ATen/Context.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace mma::detail::rows {

class FullPrecisionGuard {
 private:
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
  at::NoTF32Guard no_tf32_;
};

/// Whether a float32 product is a float32 product: on a CPU, "medium" precision lets oneDNN take bfloat16 instead.
inline bool float32_products_are_exact(at::Device device) {
  return !device.is_cpu() || at::globalContext().float32MatmulPrecision() == at::Float32MatmulPrecision::HIGHEST;
}

}  // namespace mma::detail::rows
