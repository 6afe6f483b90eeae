// A reader's memory is bounded by its file: SECURITY.md has the table.
#pragma once

#include <gtest/gtest.h>

#include "../peak_memory.hpp"
#include "../sanitizers.hpp"
#include "support/process/error.hpp"
#include "test_files.hpp"

namespace mma::tests {

inline constexpr int64_t mebibyte = 1 << 20, for_any_file = 64 * mebibyte;

/// Reads, whether that succeeds or ends in a sentence, and holds it to what any file may take and to this much for each
/// byte of this one.
inline void expect_within(int64_t bytes_a_byte, size_t file, const std::function<void()>& read) {
  if (has_sanitizer) GTEST_SKIP() << "the sanitizer keeps what is freed";
  const auto peak = peak_bytes_of([&] { message_of<examples::UserError>(read); });
  if (!peak) GTEST_SKIP() << "this system does not say what memory was taken";
  EXPECT_LE(*peak, for_any_file + bytes_a_byte * static_cast<int64_t>(file))
      << *peak / mebibyte << " MiB for " << file << " bytes";
}

/// A file with these bytes, read by `read`.
inline void expect_within(int64_t bytes_a_byte, const std::filesystem::path& path, const std::string& bytes,
                          const std::function<void()>& read) {
  write_bytes(path, bytes);
  expect_within(bytes_a_byte, bytes.size(), read);
}

inline std::string repeated(const std::string& text, size_t times) {
  std::string result;
  for (size_t t = 0; t < times; ++t) result += text;
  return result;
}

}  // namespace mma::tests
