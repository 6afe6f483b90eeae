// A reader's memory is bounded by its file: SECURITY.md has the table. Files that would take more if they were
// believed.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <jpeglib.h>  // after <cstdio>, which it does not include itself

#include "memory_bounds.hpp"
#include "support/files/json.hpp"
#include "support/files/tensor_file.hpp"
#include "support/files/unpickler.hpp"
#include "support/images/image_file.hpp"
#include "support/process/error.hpp"

namespace {

using namespace mma::examples;
using namespace mma::tests;

std::string big_endian(uint32_t number) {
  return {static_cast<char>(number >> 24), static_cast<char>(number >> 16), static_cast<char>(number >> 8),
          static_cast<char>(number)};
}

TEST(HostileFiles, PicklesOfManyValues) {
  const std::string protocol = "\x80\x02";
  const std::vector<std::string> pickles = {
      protocol + repeated("]", 1'000'000) + ".",                             // lists
      protocol + "]" + repeated("(lh", 300'000) + ".",                       // garbage
      protocol + "]" + repeated("q\x01", 400'000) + ".",                     // memo
      protocol + "]q\x01" + repeated("h\x01h\x01\x86q\x01", 150'000) + ".",  // tuples of the tuple before
      protocol + repeated("\x85", 500'000) + ".",
      protocol + "]" + repeated("\x85", 500'000) + "."};
  for (const std::string& pickle : pickles) {
    expect_within(256, pickle.size(), [&] { Pickle(pickle, "pickle"); });
  }
}

TEST(HostileFiles, JsonOfManyValuesAndDeepOnes) {
  for (const std::string& text : {"[" + repeated("0,", 500'000) + "0]", repeated("[", 1'000'000),
                                  "{" + repeated("\"a\":{},", 200'000) + "\"b\":0}", repeated("{\"a\":", 200'000)}) {
    expect_within(64, text.size(), [&] { parse_json(text); });
  }
}

TEST(HostileFiles, SafetensorsWhoseHeaderPromises) {
  const TemporaryFolder folder;
  const auto file_with = [&](const std::string& header) {
    std::string bytes(8, '\0');
    for (size_t b = 0; b < 8; ++b) bytes[b] = static_cast<char>(header.size() >> (8 * b));
    write_bytes(folder.path() / "x.safetensors", bytes + header);
    return bytes.size() + header.size();
  };
  std::string keys;
  for (int key = 0; key < 20'000; ++key) {
    keys += "\"k" + std::to_string(key) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)";
  }
  for (const std::string& header :
       {std::string(R"({"a":{"dtype":"F32","shape":[65536,0],"data_offsets":[0,0]}})"),
        std::string(R"({"a":{"dtype":"F64","shape":[1099511627776],"data_offsets":[0,8796093022208]}})"),
        "{" + keys + R"("z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", std::string(500'000, '[')}) {
    const size_t size = file_with(header);
    expect_within(64, size, [&] { read_tensor_file(folder.path() / "x.safetensors"); });
  }
}

/// Width and height, 8 bits of grey, and no data to speak of.
std::string png_header(uint32_t width, uint32_t height) {
  return std::string("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16) + big_endian(width) + big_endian(height) +
         std::string("\x08\0\0\0\0", 5) + big_endian(0);
}

TEST(HostileFiles, PicturesThatPromiseMorePixelsThanTheirBytesCanHold) {
  const std::string jpeg = std::string("\xff\xd8\xff\xc0\0\x0b\x08\x20\0\x20\0\x01\x01\x11\0", 15) +
                           std::string("\xff\xda\0\x08\x01\x01\0\0\x3f\0", 10);
  for (const std::string& picture : {jpeg, std::string("P5 8192 8192 255\n"), std::string("P2 8192 8192 255\n1")}) {
    expect_within(0, picture.size(), [&] { decode_image(picture, 3, "picture"); });
    EXPECT_NE(message_of<UserError>([&] { decode_image(picture, 3, "picture"); }).find("so few bytes"),
              std::string::npos)
        << message_of<UserError>([&] { decode_image(picture, 3, "picture"); });
  }
  const std::string png = png_header(8192, 8192);
  expect_within(0, png.size(), [&] { decode_image(png, 3, "picture"); });
}

/// A grey progressive JPEG that sends every coefficient by itself, and each of them again for each of its bits.
std::string jpeg_of_many_scans() {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = 16;
  jpeg.input_components = 1;
  jpeg.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  std::vector<jpeg_scan_info> scans = {{1, {0}, 0, 0, 0, 0}};
  for (int k = 1; k < 64; ++k) scans.push_back({1, {0}, k, k, 0, 1});
  for (int k = 1; k < 64; ++k) scans.push_back({1, {0}, k, k, 1, 0});
  jpeg.scan_info = scans.data();
  jpeg.num_scans = static_cast<int>(scans.size());
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<unsigned char> row(16, 7);
  while (jpeg.next_scanline < jpeg.image_height) {
    unsigned char* line = row.data();
    row[jpeg.next_scanline] = 200;
    jpeg_write_scanlines(&jpeg, &line, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  const std::string result(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return result;
}

TEST(HostileFiles, AJpegOfMoreScansThanAnyEncoderWrites) {
  EXPECT_EQ(message_of<UserError>([] { decode_image(jpeg_of_many_scans(), 1, "picture"); }),
            "picture cannot be decoded as a JPEG image: it has more than 100 scans");
}

}  // namespace
