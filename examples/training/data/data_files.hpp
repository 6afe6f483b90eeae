// The files of a data set: where they may lie, their bytes up to a limit, and what a label may be.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mma::examples {

std::string quoted(const std::filesystem::path& path);
std::string joined(const std::vector<std::string>& words, const char* separator);

/// Where the files of a data set are: the folder that the user named, or one inside it where its publisher, or a tool,
/// puts them.
struct Place {
  std::string dataset;
  std::filesystem::path folder;
  std::vector<std::string> inner_folders;

  /// The first file that has one of the names. Throws UserError that lists them and where they were sought.
  std::filesystem::path find(const std::vector<std::string>& names) const;

  /// The same files in one of these folders alone.
  Place at(const std::filesystem::path& chosen) const { return {dataset, chosen, {}}; }
};

inline constexpr size_t most_bytes_of_file = size_t{512} << 20;  ///< three times CIFAR's largest

/// The whole content of a file, unpacked if it is a gzip file. Throws UserError for one that cannot be read, or that
/// holds more than `most` bytes before or after unpacking: no more memory than that is taken.
std::vector<uint8_t> content_of(const std::filesystem::path& path, size_t most = most_bytes_of_file);

/// The same of the first bytes alone: as many as there are.
std::vector<uint8_t> beginning_of(const std::filesystem::path& path, size_t bytes);

/// Throws UserError that names the first int64 label outside of the classes.
void check_labels(const at::Tensor& labels, int64_t classes, const std::filesystem::path& path);

/// A tensor over bytes that somebody else owns.
at::Tensor view_of(std::vector<uint8_t>& bytes, size_t offset, at::IntArrayRef shape);

}  // namespace mma::examples
