// The version of the library, and the only place where it is written: CMake reads it from here.
#pragma once

#include <string_view>

namespace mma {

inline constexpr std::string_view version = "0.1.0";

}  // namespace mma
