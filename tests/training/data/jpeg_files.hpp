// Small JPEG files, written by libjpeg.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include <jpeglib.h>  // after <cstdio>, which it does not include itself

namespace mma::tests {

/// Smooth, so that JPEG keeps it nearly as it is; another in each image.
inline int shade(int image, int channel, int64_t y, int64_t x) {
  return static_cast<int>(40 + 8 * image + 20 * channel + y + (channel == 1 ? 0 : x));
}

/// An image of 1 or 3 channels at quality 100, without subsampled colours.
inline void write_jpeg(const std::filesystem::path& path, int image, int channels = 3, unsigned size = 64) {
  std::filesystem::create_directories(path.parent_path());
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "wb"), std::fclose);
  ASSERT_NE(file, nullptr);
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_stdio_dest(&jpeg, file.get());
  jpeg.image_width = jpeg.image_height = size;
  jpeg.input_components = channels;
  jpeg.in_color_space = channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(&jpeg, TRUE);
  for (unsigned y = 0; y < size; ++y) {
    std::vector<unsigned char> row;
    for (unsigned x = 0; x < size; ++x) {
      for (int c = 0; c < channels; ++c) row.push_back(static_cast<unsigned char>(shade(image, c, y, x)));
    }
    unsigned char* rows[] = {row.data()};
    jpeg_write_scanlines(&jpeg, rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
}

}  // namespace mma::tests
