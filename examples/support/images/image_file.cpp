#include "support/images/image_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/replication_pad2d.h>
#include <c10/util/StringUtil.h>
#include <png.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <optional>
#include <vector>

#include <jpeglib.h>  // after <cstdio>, which it does not include itself

#include "support/files/file_contents.hpp"
#include "support/process/error.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

/// What a decoder fills: grey or RGB, a pixel's channels side by side.
struct Pixels {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<unsigned char> values;

  unsigned char* row(int64_t y) { return values.data() + y * width * channels; }
};

/// Takes the memory, or says why not in `message`. most_pixels: that the file's bytes can unfold to.
bool make_room(Pixels& pixels, int64_t height, int64_t width, int64_t channels, int64_t most_pixels, char* message,
               size_t message_size) {
  if (height < 1 || width < 1 || height > largest_picture / width) {
    std::snprintf(message, message_size, "it has %lld x %lld pixels, expected from 1 to %lld in all",
                  static_cast<long long>(width), static_cast<long long>(height),
                  static_cast<long long>(largest_picture));
    return false;
  }
  if (height * width > most_pixels) {
    std::snprintf(message, message_size, "it is truncated: so few bytes cannot hold %lld x %lld pixels",
                  static_cast<long long>(width), static_cast<long long>(height));
    return false;
  }
  pixels = {height, width, channels, std::vector<unsigned char>(static_cast<size_t>(height * width * channels))};
  return true;
}

const unsigned char* data_of(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

// --- JPEG
// -------------------------------------------------------------------------------------------------------------

/// A flat picture, subsampled, takes one bit for each of six blocks of 16 x 16 pixels, 341 pixels a byte; arithmetic
/// coding needs less.
constexpr int64_t most_pixels_of_jpeg_byte = 4096;
/// Each goes over the whole picture, however few bytes it has; encoders write about ten.
constexpr int most_scans = 100;
/// For the coefficients of a progressive picture: twice what the largest one has with 4:2:0.
constexpr long most_jpeg_memory = 512L << 20;

/// libjpeg reports through it: the program goes on behind setjmp.
struct JpegDecoder {
  jpeg_decompress_struct jpeg = {};
  jpeg_error_mgr errors = {};
  jpeg_progress_mgr progress = {};
  std::jmp_buf back = {};
  char message[JMSG_LENGTH_MAX] = {};

  JpegDecoder() = default;
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&jpeg); }
};

/// Also for warnings, after which libjpeg would go on with grey pixels.
void fail(j_common_ptr jpeg) {
  auto* decoder = static_cast<JpegDecoder*>(jpeg->client_data);
  decoder->errors.format_message(jpeg, decoder->message);
  std::longjmp(decoder->back, 1);
}

void fail_on_warning(j_common_ptr jpeg, int level) {
  if (level < 0) fail(jpeg);
}

void fail_on_many_scans(j_common_ptr common) {
  auto* jpeg = reinterpret_cast<j_decompress_ptr>(common);
  if (jpeg->input_scan_number <= most_scans) return;
  auto* decoder = static_cast<JpegDecoder*>(common->client_data);
  std::snprintf(decoder->message, sizeof decoder->message, "it has more than %d scans", most_scans);
  std::longjmp(decoder->back, 1);
}

/// False with the reason in decoder.message. Between setjmp and longjmp nothing may live that has a destructor, so
/// decoder and pixels are the caller's.
bool decode(JpegDecoder& decoder, std::string_view bytes, Pixels& pixels) {
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = fail;
  decoder.errors.emit_message = fail_on_warning;
  jpeg.client_data = &decoder;
  if (setjmp(decoder.back) != 0) return false;
  jpeg_create_decompress(&jpeg);
  jpeg.mem->max_memory_to_use = most_jpeg_memory;
  decoder.progress.progress_monitor = fail_on_many_scans;
  jpeg.progress = &decoder.progress;
  jpeg_mem_src(&jpeg, data_of(bytes), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  const bool grey = jpeg.num_components == 1;
  jpeg.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  const int64_t most_pixels = most_pixels_of_jpeg_byte * static_cast<int64_t>(bytes.size());
  if (!make_room(pixels, jpeg.image_height, jpeg.image_width, grey ? 1 : 3, most_pixels, decoder.message,
                 sizeof decoder.message)) {
    return false;
  }
  jpeg_start_decompress(&jpeg);
  while (jpeg.output_scanline < jpeg.output_height) {
    unsigned char* row = pixels.row(jpeg.output_scanline);
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

std::optional<std::string> decode_jpeg(std::string_view bytes, Pixels& pixels) {
  JpegDecoder decoder;
  if (decode(decoder, bytes, pixels)) return std::nullopt;
  return decoder.message;
}

// --- PNG
// --------------------------------------------------------------------------------------------------------------

/// What a byte of deflated data can unfold to (RFC 1951: 258 bytes in two bits).
constexpr int64_t most_inflated = 1032;

/// As for JPEG.
struct PngDecoder {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::string_view left;
  std::vector<unsigned char*> rows;
  char message[200] = {};

  PngDecoder() = default;
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;
  ~PngDecoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void fail(png_structp png, png_const_charp reason) {
  auto* decoder = static_cast<PngDecoder*>(png_get_error_ptr(png));
  std::snprintf(decoder->message, sizeof decoder->message, "%s", reason);
  png_longjmp(png, 1);
}

/// Of wrong colour profiles and the like, which change no pixel here.
void ignore_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep to, size_t count) {
  auto* decoder = static_cast<PngDecoder*>(png_get_io_ptr(png));
  if (count > decoder->left.size()) png_error(png, "premature end of the file");
  std::memcpy(to, decoder->left.data(), count);
  decoder->left.remove_prefix(count);
}

/// 8 bits a channel, without palette and alpha.
void set_transformations(png_structp png, png_infop info) {
  const int colour = png_get_color_type(png, info);
  if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (colour == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  if (png_get_bit_depth(png, info) == 16) png_set_strip_16(png);
  png_set_strip_alpha(png);  // also what a palette's transparency becomes
}

bool decode(PngDecoder& decoder, std::string_view bytes, Pixels& pixels) {
  decoder.left = bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, ignore_warning);
  if (decoder.png == nullptr) throw std::bad_alloc();
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  decoder.info = png_create_info_struct(decoder.png);
  png_set_read_fn(decoder.png, &decoder, read_bytes);
  png_read_info(decoder.png, decoder.info);
  set_transformations(decoder.png, decoder.info);
  const int passes = png_set_interlace_handling(decoder.png);
  const int64_t bits =
      int64_t{png_get_bit_depth(decoder.png, decoder.info)} * png_get_channels(decoder.png, decoder.info);
  if (!make_room(
          pixels, png_get_image_height(decoder.png, decoder.info), png_get_image_width(decoder.png, decoder.info),
          (png_get_color_type(decoder.png, decoder.info) & PNG_COLOR_MASK_COLOR) != 0 ? 3 : 1,
          8 * most_inflated * static_cast<int64_t>(bytes.size()) / bits, decoder.message, sizeof decoder.message)) {
    return false;
  }
  png_read_update_info(decoder.png, decoder.info);
  if (png_get_rowbytes(decoder.png, decoder.info) != static_cast<size_t>(pixels.width * pixels.channels)) {
    png_error(decoder.png, "its rows have another length than its header says");
  }
  for (int pass = 0; pass < passes; ++pass) {
    for (int64_t y = 0; y < pixels.height; ++y) png_read_row(decoder.png, pixels.row(y), nullptr);
  }
  png_read_end(decoder.png, nullptr);
  return true;
}

std::optional<std::string> decode_png(std::string_view bytes, Pixels& pixels) {
  PngDecoder decoder;
  if (decode(decoder, bytes, pixels)) return std::nullopt;
  return decoder.message;
}

// --- PGM
// --------------------------------------------------------------------------------------------------------------

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// The next number of a PGM, after white space and comments (from # to the end of a line), cut off `text`; -1 where
/// none is.
int64_t next_number(std::string_view& text) {
  while (!text.empty() && (is_space(text.front()) || text.front() == '#')) {
    const size_t length = text.front() == '#' ? std::min(text.find('\n'), text.size() - 1) + 1 : 1;
    text.remove_prefix(length);
  }
  int32_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return -1;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

std::optional<std::string> decode_pgm(std::string_view bytes, Pixels& pixels) {
  const bool plain = bytes[1] == '2';
  std::string_view rest = bytes.substr(2);
  const int64_t width = next_number(rest), height = next_number(rest), largest = next_number(rest);
  if (width < 0 || height < 0 || largest < 1 || largest > 255) {
    return "its header is not a width, a height and a largest value from 1 to 255";
  }
  char message[200];
  constexpr int64_t few = 1 << 16;  // of which a sentence can say how many are there
  const int64_t most_pixels = few + static_cast<int64_t>(bytes.size());
  if (!make_room(pixels, height, width, 1, most_pixels, message, sizeof message)) return message;
  if (!plain) rest.remove_prefix(std::min<size_t>(1, rest.size()));  // the one white space behind the header
  for (size_t i = 0; i < pixels.values.size(); ++i) {
    int64_t value = -1;
    if (plain) {
      value = next_number(rest);
    } else if (i < rest.size()) {
      value = static_cast<unsigned char>(rest[i]);
    }
    if (value < 0) return c10::str("it is truncated: ", i, " of its ", pixels.values.size(), " pixels are there");
    if (value > largest) return c10::str("pixel ", i, " is ", value, ", expected at most ", largest);
    pixels.values[i] = static_cast<unsigned char>((value * 255 + largest / 2) / largest);
  }
  return std::nullopt;
}

// --- any of them
// ------------------------------------------------------------------------------------------------------

struct Format {
  const char* name;
  std::vector<std::string_view> beginnings;
  std::optional<std::string> (*decode)(std::string_view bytes, Pixels& pixels);  ///< why not; nothing when it is done

  bool begins(std::string_view bytes) const {
    return std::ranges::any_of(beginnings, [&](std::string_view start) { return bytes.starts_with(start); });
  }
};

const Format jpeg = {"JPEG", {"\xff\xd8"}, decode_jpeg};
const Format png = {"PNG", {"\x89PNG"}, decode_png};
const Format pgm = {"PGM", {"P2", "P5"}, decode_pgm};

/// 0.299 R + 0.587 G + 0.114 B in 16 bits of fraction.
uint8_t luma(const unsigned char* rgb) {
  return static_cast<uint8_t>((19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 0x8000) >> 16);
}

at::Tensor planes(const Pixels& pixels, int64_t channels) {
  at::Tensor image = at::empty({channels, pixels.height, pixels.width}, at::kByte);
  const int64_t area = pixels.height * pixels.width;
  auto* to = image.mutable_data_ptr<uint8_t>();
  for (int64_t channel = 0; channel < channels; ++channel, to += area) {
    const unsigned char* from = pixels.values.data();
    for (int64_t i = 0; i < area; ++i, from += pixels.channels) {
      to[i] = pixels.channels == 1 ? *from : channels == 1 ? luma(from) : from[channel];
    }
  }
  return image;
}

at::Tensor decoded_as(const Format& format, std::string_view bytes, int64_t channels, const std::string& name) {
  TORCH_CHECK(channels == 1 || channels == 3, "a picture of ", channels, " channels was asked for; expected 1 or 3.");
  Pixels pixels;
  if (const auto error = format.decode(bytes, pixels)) {
    throw UserError(c10::str(name, " cannot be decoded as a ", format.name, " image: ", *error));
  }
  return planes(pixels, channels);
}

constexpr uint64_t largest_file = uint64_t{1} << 30;

}  // namespace

at::Tensor decode_image(std::string_view bytes, int64_t channels, const std::string& name) {
  for (const Format* format : {&jpeg, &png, &pgm}) {
    if (format->begins(bytes)) return decoded_as(*format, bytes, channels, name);
  }
  throw UserError(name + (bytes.empty() ? " is empty" : " is of another format") +
                  ": expected a JPEG, PNG or PGM image");
}

at::Tensor read_image(const fs::path& path, int64_t channels) {
  return decode_image(contents_of(path, largest_file), channels, c10::str(path));
}

at::Tensor resized(const at::Tensor& image, int64_t height, int64_t width) {
  if (image.size(1) == height && image.size(2) == width) return image;
  const at::Tensor values = image.unsqueeze(0).to(at::kFloat);
  return at::_upsample_bilinear2d_aa(values, {height, width}, /*align_corners=*/false)
      .squeeze(0)
      .round_()
      .clamp_(0, 255)
      .to(at::kByte);
}

at::Tensor fitted(const at::Tensor& image, int64_t size) {
  const auto longer = static_cast<double>(std::max(image.size(1), image.size(2)));
  const auto scaled = [&](int64_t side) {
    const double length = static_cast<double>(side) * static_cast<double>(size) / longer;
    return std::max<int64_t>(1, std::llround(length));
  };
  const at::Tensor inner = resized(image, scaled(image.size(1)), scaled(image.size(2)));
  const int64_t rows = size - inner.size(1), columns = size - inner.size(2);
  if (rows == 0 && columns == 0) return inner;
  const at::Tensor values = inner.unsqueeze(0).to(at::kFloat);
  return at::replication_pad2d(values, {columns / 2, columns - columns / 2, rows / 2, rows - rows / 2})
      .squeeze(0)
      .to(at::kByte);
}

}  // namespace mma::examples
