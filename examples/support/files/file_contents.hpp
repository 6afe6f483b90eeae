// Files by the system's own calls: an error in the middle of one is told, and not taken for its end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "support/files/descriptor.hpp"

namespace mma::examples {

inline constexpr uint64_t any_number_of_bytes = std::numeric_limits<uint64_t>::max();

/// All of a file, a pipe or the like. Throws UserError: "cannot read PATH: No such file or directory", or that it holds
/// more than `most` bytes.
std::string contents_of(const std::filesystem::path& path, uint64_t most = any_number_of_bytes);
std::vector<uint8_t> bytes_of(const std::filesystem::path& path, uint64_t most = any_number_of_bytes);

/// A file that is read here and there. Throws UserError: "cannot read PATH: Input/output error".
class SeekableFile {
 public:
  explicit SeekableFile(const std::filesystem::path& path);

  uint64_t size() const { return size_; }

  /// How many bytes there were: fewer than `count` at the file's end alone.
  size_t read(uint64_t position, void* bytes, size_t count) const;
  /// As many as there are.
  std::string read(uint64_t position, size_t count) const;

 private:
  std::filesystem::path path_;
  Descriptor file_;
  uint64_t size_;
};

}  // namespace mma::examples
