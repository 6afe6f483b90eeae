// One picture as a tensor: a JPEG, PNG or PGM file, or its bytes in memory, in colour or grey; and what brings it to
// the size that a network takes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace mma::examples {

/// Pictures of more pixels are refused before memory is taken for them.
inline constexpr int64_t largest_picture = int64_t{1} << 26;

/// Reads a picture of any of the three formats (its first bytes tell which) as uint8 [channels, height, width] with 1
/// or 3 channels. Grey gives three equal channels; colour gives grey by ITU-R 601-2's luma, rounded as Pillow's
/// convert("L"); an alpha channel is dropped; of 16 bits the upper 8 count.
/// Throws UserError that names the file and what is wrong: absent, of another format, damaged, truncated (libjpeg's
/// warnings count, after which it would go on with grey pixels), too large.
at::Tensor read_image(const std::filesystem::path& path, int64_t channels);

/// The same of a file's bytes; `name` is what a sentence about them begins with.
at::Tensor decode_image(std::string_view bytes, int64_t channels, const std::string& name);

/// Bilinear, antialiased when it gets smaller (as Pillow's BILINEAR): uint8 [channels, h, w] -> [channels, height,
/// width].
at::Tensor resized(const at::Tensor& image, int64_t height, int64_t width);

/// As a square of `size` that keeps the proportions: resized so that the longer side fits, centred, and the outermost
/// pixels repeated beside the shorter one, which neither stretches a face nor makes an edge. A picture that fits
/// already comes back as it is.
at::Tensor fitted(const at::Tensor& image, int64_t size);

}  // namespace mma::examples
