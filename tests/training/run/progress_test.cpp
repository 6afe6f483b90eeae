// What is shown while a run goes: plain lines, and the bar on a terminal.
#include "training/run/progress.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

StepProgress half_way() {
  StepProgress progress;
  progress.epoch = 3;
  progress.epochs = 8;
  progress.step = 40;
  progress.steps = 80;
  progress.images_per_second = 512.3;
  progress.loss = 1.25;
  progress.regularization_loss = -0.5;
  progress.seconds_left = 187;
  return progress;
}

EpochMetrics finished_epoch() {
  EpochMetrics metrics;
  metrics.epoch = 9;
  metrics.learning_rate = 0.01;
  metrics.loss = 1.25;
  metrics.regularization_loss = -0.5;
  metrics.top1 = 71.5;
  metrics.top5 = 98.25;
  metrics.angles.minimal_angles = {{"conv1", 40}, {"fc", 50}};
  metrics.seconds = 12.4;
  return metrics;
}

int eighty_columns() { return 80; }

TEST(Progress, PlainIsOneLineAnEpoch) {
  std::ostringstream text;
  PlainProgress progress(text);
  progress.say("start");
  for (int i = 0; i < 100; ++i) progress.step(half_way());
  progress.epoch(finished_epoch(), 164, true);
  EXPECT_EQ(text.str(),
            "start\n"
            "epoch   9/164  loss 1.2500  reg -0.5000  top-1 71.50 %  top-5 98.25 %  minimal angle 45.0 deg  "
            "rate 0.01  "
            "12 s\n");
}

TEST(Progress, WithoutRegularizerShowsNone) {
  std::ostringstream text;
  PlainProgress(text).epoch(finished_epoch(), 9, false);
  EXPECT_EQ(text.str().find("reg"), std::string::npos);
}

TEST(Progress, LineTellsEverything) {
  EXPECT_EQ(progress_line(half_way(), 200),
            "epoch 3/8 [############............]  50 %  loss 1.2500  reg -0.5000  512 images/s  3:07 min left");
}

TEST(Progress, ANarrowTerminalShortensTheBarNotTheWords) {
  EXPECT_EQ(progress_line(half_way(), 80),
            "epoch 3/8 [###...]  50 %  loss 1.2500  reg -0.5000  512 images/s  3:07 min left");
}

TEST(Progress, LineStaysWithinTheTerminal) {
  EXPECT_EQ(progress_line(half_way(), 40).size(), 39u);
  EXPECT_LE(progress_line(half_way(), 1).size(), 1u);
}

TEST(Progress, OnATerminalIsRedrawnInPlaceAndErasedBeforeOtherLines) {
  std::ostringstream text;
  {
    TerminalProgress progress(text, eighty_columns);
    progress.step(half_way());
    progress.say("interrupted");
  }
  std::string expected = "\r";
  expected.append(progress_line(half_way(), 80)).append("\033[K");  // the bar
  expected.append("\r\033[K").append("interrupted\n");              // erased
  EXPECT_EQ(text.str(), expected);
}

TEST(Progress, LeavesNoBarBehind) {
  std::ostringstream text;
  { TerminalProgress(text, eighty_columns).step(half_way()); }
  EXPECT_TRUE(text.str().ends_with("\r\033[K"));
}

TEST(Progress, DurationsReadLikeAClock) {
  EXPECT_EQ(duration(0), "0 s");
  EXPECT_EQ(duration(59.4), "59 s");
  EXPECT_EQ(duration(59.6), "1:00 min");
  EXPECT_EQ(duration(3599), "59:59 min");
  EXPECT_EQ(duration(3723), "1:02:03 h");
}

}  // namespace
}  // namespace mma::examples
