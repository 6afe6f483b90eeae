// Points in files: one a row, as comma-separated values, as words between blanks, or as NumPy's npy; and one coordinate
// a line, as in Sloane's tables. Which texts are read: docs/files.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

enum class PointsFormat { csv, txt, npy };

const std::vector<std::string>& points_format_names();

/// By its name, or when that is empty by the path's ending (csv when that says nothing).
PointsFormat points_format(const std::string& name, const std::filesystem::path& path);

/// What a user says of a file's points.
struct PointsShape {
  std::optional<int64_t> points = {};
  std::optional<int64_t> dimension = {};
};

/// [n, d] float64. The format is found by the contents; `asked` decides only where they leave a choice: in text of one
/// number a line, and where the first line may be a heading. Throws UserError unless the file holds at least two rows
/// of equally many finite numbers, none of them all zero.
at::Tensor read_points(const std::filesystem::path& path, const PointsShape& asked = {});

/// Replaces the file, atomically; every number is read back as the same bits.
void write_points(const std::filesystem::path& path, const at::Tensor& points, PointsFormat format);

}  // namespace mma::examples
