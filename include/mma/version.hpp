// The version of the library, which CMake reads from here.
#pragma once

#include <string_view>

/// Everything public. What lies below mma::detail is none of it, and changes without notice.
namespace mma {

/// Major.minor.patch of the library.
inline constexpr std::string_view version = "0.2.0";

}  // namespace mma
