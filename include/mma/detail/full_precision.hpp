// Angles are never computed in float16 or bfloat16, nor in TF32, whatever the region around the call asks for.
#pragma once

#include <ATen/Context.h>
#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace mma::detail {

class FullPrecisionGuard {
 private:
  c10::impl::ExcludeDispatchKeyGuard no_autocast_{c10::autocast_dispatch_keyset};
  at::NoTF32Guard no_tf32_;
};

}  // namespace mma::detail
