// The line of progress: its words and bar within a width, redrawn on a terminal, printed now and then elsewhere.
#include "support/terminal/progress_line.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <sstream>

namespace mma::examples {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();

int forty_columns() { return 40; }

TEST(ProgressLine, ShortensTheBarOnlyAsFarAsItMay) {
  EXPECT_EQ(bar_line("wte", 0.5, "  12 s left", 100), "wte [############............]  50 %  12 s left");
  EXPECT_EQ(bar_line("wte", 0.5, "  12 s left", 40, 4), "wte [########........]  50 %  12 s left");
  EXPECT_EQ(bar_line("wte", 0.5, "  12 s left", 40), "wte [############............]  50 %  1");
  EXPECT_EQ(bar_line("wte", 0.5, "", 0).size(), 1U);
}

TEST(ProgressLine, SaysHowLongTheRestTakes) {
  EXPECT_EQ(time_left(0.25, 60), "3:00 min left");
  EXPECT_EQ(time_left(1, 60), "0 s left");
}

TEST(ProgressLine, IsRedrawnOnATerminalAndTakenAway) {
  std::ostringstream text;
  {
    ProgressLine line(text, forty_columns, {.bars = 0, .first_line = never, .lines = never});
    EXPECT_TRUE(line.on_terminal());
    line.show([](int columns) { return std::to_string(columns); });
    line.show([](int) { return "again"; });
    line.erase();
    line.erase();
    line.show([](int) { return "end"; });
  }
  EXPECT_EQ(text.str(), "\r40\033[K\ragain\033[K\r\033[K\rend\033[K\r\033[K");
}

TEST(ProgressLine, WaitsBetweenTwoBars) {
  std::ostringstream text;
  ProgressLine line(text, forty_columns, {.bars = 1000, .first_line = never, .lines = never});
  line.show([](int) { return "once"; });
  line.show([](int) -> std::string { throw "too early"; });
  EXPECT_EQ(text.str(), "\ronce\033[K");
}

TEST(ProgressLine, IsPlainLinesElsewhereOrNothing) {
  std::ostringstream text;
  {
    ProgressLine line(text, nullptr, {.first_line = 0, .lines = 1000});
    EXPECT_FALSE(line.on_terminal());
    line.show([](int columns) { return "plain " + std::to_string(columns); });
    line.show([](int) { return "too early"; });
  }
  EXPECT_EQ(text.str(), "plain 120\n");
  ProgressLine(text, nullptr, {.first_line = never, .lines = never}).show([](int) { return "never"; });
  EXPECT_EQ(text.str(), "plain 120\n");
}

}  // namespace
}  // namespace mma::examples
