// Pictures of every kind against Pillow's pixels (make_image_fixtures.py), and every way in which one can be wrong.
#include "support/images/image_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "../test_files.hpp"
#include "support/files/tensor_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::message_of;
using mma::tests::read_bytes;
using mma::tests::TemporaryFolder;
using mma::tests::write_bytes;

const fs::path data = fs::path(MMA_TEST_DATA) / "images";

/// Pillow's pixels.
at::Tensor expected(const std::string& name) {
  static const TensorFile file = read_tensor_file(data / "expected.safetensors");
  const at::Tensor* found = file.find(name);
  if (found == nullptr) throw std::runtime_error("no expected " + name);
  return *found;
}

std::vector<fs::path> pictures() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(data)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("refused") && !name.ends_with(".safetensors")) found.push_back(entry.path());
  }
  return found;
}

int64_t largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kLong) - b.to(at::kLong)).abs().max().item<int64_t>();
}

std::string error_of(const std::string& bytes) {
  return message_of<UserError>([&] { decode_image(bytes, 3, "picture 5"); });
}

TEST(ImageFile, EveryKindGivesPillowsPixels) {
  const std::vector<fs::path> all = pictures();
  EXPECT_EQ(all.size(), 13U);
  for (const fs::path& path : all) {
    for (const auto& [channels, kind] : {std::pair<int64_t, std::string>{3, ".rgb"}, {1, ".grey"}}) {
      const at::Tensor image = read_image(path, channels), pillow = expected(path.filename().string() + kind);
      ASSERT_EQ(image.sizes(), pillow.sizes()) << path << kind;
      EXPECT_EQ(image.scalar_type(), at::kByte);
      // Versions of libjpeg-turbo may round a colour otherwise.
      const bool lossy = path.extension() == ".jpg";
      EXPECT_LE(largest_difference(image, pillow), lossy ? 1 : 0) << path << kind;
    }
  }
}

TEST(ImageFile, BytesInMemoryAreTheSameWhateverTheNameSays) {
  const TemporaryFolder folder;
  for (const fs::path& path : pictures()) {
    const std::string bytes = read_bytes(path);
    EXPECT_TRUE(decode_image(bytes, 3, "").equal(read_image(path, 3))) << path;
    write_bytes(folder / "other.name", bytes);
    EXPECT_TRUE(read_image(folder / "other.name", 1).equal(read_image(path, 1))) << path;
  }
}

TEST(ImageFile, OneThatIsCutAnywhereIsRefused) {
  for (const fs::path& path : pictures()) {
    std::string bytes = read_bytes(path);
    while (std::isspace(static_cast<unsigned char>(bytes.back())) != 0) bytes.pop_back();  // of a plain PGM
    // Without its last bytes a JPEG lacks its end marker, a PNG its IEND, a plain PGM a number.
    for (size_t length = path.filename() == "plain.pgm" ? bytes.size() - 3 : bytes.size() - 1; length > 0;
         length -= std::min<size_t>(length, 7)) {
      const std::string error = error_of(bytes.substr(0, length));
      EXPECT_TRUE(error.starts_with("picture 5 ")) << path << " at " << length << ": " << error;
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
  }
}

TEST(ImageFile, ADamagedOneIsRefused) {
  std::string png = read_bytes(data / "colour.png"), jpeg = read_bytes(data / "colour.jpg");
  png[png.size() / 2] = static_cast<char>(~png[png.size() / 2]);
  EXPECT_NE(error_of(png).find("picture 5 cannot be decoded as a PNG image: IDAT: "), std::string::npos)
      << error_of(png);
  jpeg.resize(jpeg.size() / 2);  // libjpeg itself only warns of it
  EXPECT_NE(error_of(jpeg).find("picture 5 cannot be decoded as a JPEG image: Premature end"), std::string::npos)
      << error_of(jpeg);
  EXPECT_NE(error_of(read_bytes(data / "refused_cmyk.jpg")).find("as a JPEG image: Unsupported color conversion"),
            std::string::npos);
}

TEST(ImageFile, WhatIsNoPictureIsNamed) {
  EXPECT_EQ(error_of("GIF89a"), "picture 5 is of another format: expected a JPEG, PNG or PGM image");
  EXPECT_EQ(error_of(""), "picture 5 is empty: expected a JPEG, PNG or PGM image");
  const TemporaryFolder folder;
  const auto error_of_file = [](const fs::path& path) { return message_of<UserError>([&] { read_image(path, 3); }); };
  for (const fs::path& path : {folder.path(), folder / "absent.png"}) {
    EXPECT_NE(error_of_file(path).find(path.string()), std::string::npos);
    EXPECT_NE(error_of_file(path).find("cannot read "), std::string::npos) << error_of_file(path);
  }
  write_bytes(folder / "a.jpg", "GIF89a");
  EXPECT_NE(error_of_file(folder / "a.jpg").find("a.jpg\" is of another format"), std::string::npos);
  write_bytes(folder / "huge.jpg", "");
  fs::resize_file(folder / "huge.jpg", uintmax_t{1} << 40);
  EXPECT_NE(error_of_file(folder / "huge.jpg").find("it holds more than 1073741824 bytes"), std::string::npos);
}

TEST(ImageFile, APgmIsReadByTheLetter) {
  const auto values = [](const std::string& bytes) {
    const at::Tensor image = decode_image(bytes, 1, "p").flatten().to(at::kLong);
    return std::vector<int64_t>(image.const_data_ptr<int64_t>(), image.const_data_ptr<int64_t>() + image.numel());
  };
  EXPECT_EQ(values("P2 3 1 255 0 7 255"), (std::vector<int64_t>{0, 7, 255}));
  EXPECT_EQ(values("P2#x\n3#y\r\n 1\n1\n0 1 0"), (std::vector<int64_t>{0, 255, 0}));
  EXPECT_EQ(values("P5 2 1 200\n\n\xc8"), (std::vector<int64_t>{13, 255}));  // 10 * 255 / 200 = 12.75
  EXPECT_EQ(values("P5\n1 2\n255\n##"), (std::vector<int64_t>{35, 35}));
  for (const std::string header : {"P5", "P5 3", "P5 3 1", "P5 -3 1 255\n", "P5 3 1 0\n", "P5 3 1 256\n",
                                   "P5 3 x 255\n", "P2 99999999999 1 255\n", "P5 # 3 1 255"}) {
    EXPECT_NE(error_of(header).find("header"), std::string::npos) << header << ": " << error_of(header);
  }
  EXPECT_NE(error_of("P5 0 1 255\n").find("it has 0 x 1 pixels"), std::string::npos);
  EXPECT_NE(error_of("P5 2 2 255\nabc").find("3 of its 4 pixels are there"), std::string::npos);
  EXPECT_NE(error_of("P2 2 1 9 3 10").find("pixel 1 is 10, expected at most 9"), std::string::npos);
  EXPECT_NE(error_of("P2 2 1 9 3 x").find("1 of its 2 pixels are there"), std::string::npos);
}

/// By its header alone, before there is memory for it.
TEST(ImageFile, AnAbsurdlyLargeOneIsRefused) {
  std::string png = read_bytes(data / "colour.png"), jpeg = read_bytes(data / "grey.jpg");
  jpeg.replace(jpeg.find("\xff\xc0") + 5, 4, "\xff\xdc\xff\xdc");
  const std::string header("IHDR\0\0\xf0\0\0\0\xf0\0\x08\2\0\0\0", 17);
  const uint32_t sum = static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(header.data()), 17));
  png.replace(12, 17, header);
  for (const int byte : {0, 1, 2, 3}) png[29U + static_cast<size_t>(byte)] = static_cast<char>(sum >> (24 - 8 * byte));
  for (const std::string& bytes :
       {jpeg, png, std::string("P5 60000 60000 255\n"), std::string("P2 2000000000 2000000000 1 ")}) {
    EXPECT_NE(error_of(bytes).find("pixels, expected from 1 to 67108864 in all"), std::string::npos) << error_of(bytes);
  }
}

TEST(ImageFile, IsResizedAsByPillow) {
  const at::Tensor image = read_image(data / "colour.png", 3);
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{7, 9}, {17, 40}, {50, 11}}) {
    const at::Tensor pillow = expected("resized." + std::to_string(height) + "x" + std::to_string(width));
    const at::Tensor ours = resized(image, height, width);
    ASSERT_EQ(ours.sizes(), pillow.sizes());
    EXPECT_EQ(ours.scalar_type(), at::kByte);
    EXPECT_LE(largest_difference(ours, pillow), 1);
    EXPECT_LT((ours.to(at::kFloat) - pillow.to(at::kFloat)).abs().mean().item<double>(),
              0.25);  // Pillow rounds between its two passes
  }
  EXPECT_TRUE(resized(image, 17, 23).equal(image));
}

TEST(ImageFile, IsFittedIntoASquareWithItsProportions) {
  const at::Tensor columns = at::arange(4, at::kByte).mul(50).expand({1, 6, 4});  // as ORL: higher than wide
  const at::Tensor square = fitted(columns, 6);
  ASSERT_EQ(square.sizes(), (std::vector<int64_t>{1, 6, 6}));
  EXPECT_TRUE(square.narrow(2, 1, 4).equal(columns));
  EXPECT_TRUE(square.select(2, 0).equal(columns.select(2, 0)));
  EXPECT_TRUE(square.select(2, 5).equal(columns.select(2, 3)));
  EXPECT_TRUE(fitted(columns.transpose(1, 2), 6).equal(square.transpose(1, 2)));

  // 23 x 17 -> 115 x 85 and 15 more rows on each side.
  const at::Tensor image = read_image(data / "colour.png", 3), large = fitted(image, 115);
  EXPECT_TRUE(large.narrow(1, 15, 85).equal(resized(image, 85, 115)));
  EXPECT_TRUE(large.narrow(1, 0, 15).equal(large.narrow(1, 15, 1).expand({3, 15, 115})));
  EXPECT_EQ(fitted(image.narrow(1, 0, 1), 5).sizes(), (std::vector<int64_t>{3, 5, 5}));
  EXPECT_TRUE(fitted(large, 115).equal(large));
}

}  // namespace
}  // namespace mma::examples
