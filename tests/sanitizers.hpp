// What a test has to know of how it was compiled.
#pragma once

namespace mma::tests {

/// AddressSanitizer and ThreadSanitizer need the address space, keep what is freed, and have to be loaded before
/// everything else.
inline constexpr bool has_sanitizer =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#else
    false;
#endif

}  // namespace mma::tests
