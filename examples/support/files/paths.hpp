// What lies at a path, asked without an exception: a name in somebody's list may be too long for any file. False also
// where the folder may not be read.
#pragma once

#include <filesystem>
#include <system_error>

namespace mma::examples {

inline bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

inline bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

inline bool is_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

}  // namespace mma::examples
