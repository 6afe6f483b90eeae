// What a test has to know of how it was compiled.
#pragma once

namespace mma::tests {

/// AddressSanitizer needs the address space, keeps what is freed, and has to be loaded before everything else.
inline constexpr bool has_address_sanitizer =
#ifdef __SANITIZE_ADDRESS__
    true;
#else
    false;
#endif

}  // namespace mma::tests
