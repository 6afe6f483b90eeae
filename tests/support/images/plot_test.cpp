// Pictures are PNG files of the expected size, whatever the text and numbers in them.
#include "support/images/plot.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cmath>
#include <limits>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::message_of;
using mma::tests::read_bytes;
using mma::tests::TemporaryFolder;

uint32_t big_endian(const std::string& bytes, size_t place) {
  uint32_t number = 0;
  for (size_t i = place; i < place + 4; ++i) number = number << 8 | static_cast<unsigned char>(bytes.at(i));
  return number;
}

/// Width and height from the PNG's first chunk; 0 x 0 when it is no whole PNG.
std::pair<uint32_t, uint32_t> size_of_png(const std::string& bytes) {
  if (!bytes.starts_with("\x89PNG\r\n\x1a\n") || bytes.find("IEND") == std::string::npos) return {0, 0};
  return {big_endian(bytes, 16), big_endian(bytes, 20)};
}

class PlotTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  }
  TemporaryFolder folder_;
};

Plot line_plot() { return {"title", "epoch", "accuracy", {{"none", {1, 2, 3}, {10, 20, 30}}}, {}}; }

TEST_F(PlotTest, PanelsShareOnePicture) {
  write_png(folder_ / "one.png", {line_plot()});
  EXPECT_EQ(size_of_png(read_bytes(folder_ / "one.png")), std::make_pair(800u, 500u));
  write_png(folder_ / "four.png", std::vector<Plot>(4, line_plot()));
  EXPECT_EQ(size_of_png(read_bytes(folder_ / "four.png")), std::make_pair(3 * 480u, 2 * 340u));
}

TEST_F(PlotTest, DrawsWhatItIsGiven) {
  write_png(folder_ / "a.png", {line_plot()});
  Plot other = line_plot();
  other.lines[0].y[2] = 5;
  write_png(folder_ / "b.png", {other});
  other = line_plot();
  std::swap(other.lines, other.bars);
  write_png(folder_ / "c.png", {other});
  EXPECT_NE(read_bytes(folder_ / "a.png"), read_bytes(folder_ / "b.png"));
  EXPECT_NE(read_bytes(folder_ / "a.png"), read_bytes(folder_ / "c.png"));
}

TEST_F(PlotTest, ALogarithmicAxisIsThatPanelsAlone) {
  Plot logarithmic = line_plot();
  logarithmic.x_is_logarithmic = true;
  write_png(folder_ / "plain.png", {line_plot(), line_plot()});
  write_png(folder_ / "first.png", {logarithmic, line_plot()});
  write_png(folder_ / "both.png", {logarithmic, logarithmic});
  EXPECT_NE(read_bytes(folder_ / "plain.png"), read_bytes(folder_ / "first.png"));
  EXPECT_NE(read_bytes(folder_ / "first.png"), read_bytes(folder_ / "both.png"));
}

TEST_F(PlotTest, ForeignTextIsOnlyText) {
  Plot plot = line_plot();
  plot.title = "it's `touch x` $(touch x) \"quoted\" \\ {/Symbol a}_b\nsystem('touch x') END_OF_DATA";
  plot.lines[0].name = "'; system 'touch x'; '";
  plot.x_ticks = {{1, "30 % of \"it's\" %d %s"}, {2, "`touch x`"}};
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder_.path());
  write_png("a.png", {plot});
  std::filesystem::current_path(before);
  EXPECT_NE(size_of_png(read_bytes(folder_ / "a.png")).first, 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x"));
}

TEST_F(PlotTest, NothingAndNonNumbersLeaveGaps) {
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  Plot gaps = line_plot();
  gaps.lines[0].y = {1, nan, 3};
  gaps.lines.push_back({"all", {1, 2}, {nan, infinity}});
  gaps.lines.push_back({"point", {1}, {2}});
  Plot nothing{"nothing", "x", "y", {}, {{"", {}, {}}}};
  Plot only_nan{"only NaN", "x", "y", {{"", {1, 2}, {nan, nan}}}, {}};
  write_png(folder_ / "a.png", {gaps, nothing, only_nan, line_plot()});
  EXPECT_NE(size_of_png(read_bytes(folder_ / "a.png")).first, 0);
  write_png(folder_ / "none.png", {});
  EXPECT_NE(size_of_png(read_bytes(folder_ / "none.png")).first, 0);
}

TEST_F(PlotTest, UnwritablePath) {
  const auto path = folder_ / "no/such.png";
  EXPECT_EQ(message_of<UserError>([&] { write_png(path, {line_plot()}); }),
            "cannot write " + path.string() + ": No such file or directory");
}

TEST_F(PlotTest, MissingGnuplot) {
  const std::string path = getenv("PATH");
  setenv("PATH", folder_.path().c_str(), 1);
  EXPECT_FALSE(plotting_available());
  const auto message = message_of<UserError>([&] { write_png(folder_ / "a.png", {line_plot()}); });
  setenv("PATH", path.c_str(), 1);
  EXPECT_NE(message.find("gnuplot is not installed"), std::string::npos) << message;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a.png"));
}

}  // namespace
}  // namespace mma::examples
