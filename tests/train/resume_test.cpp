// A run interrupted at every kind of place in it ends, resumed, with the same bits as one that never stopped.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <csignal>

#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"
#include "train/train.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::expect_equal_runs;

constexpr int never = -1;

/// Shows nothing; sends this process a signal after a number of steps (0: before the first).
class InterruptingProgress : public Progress {
 public:
  InterruptingProgress(int signal, int after_steps) : signal_(signal), after_steps_(after_steps) {}
  void say(const std::string& line) override {
    said_ += line + "\n";
    raise_if_due();
  }
  void step(const StepProgress&) override {
    ++steps_;
    raise_if_due();
  }
  void epoch(const EpochMetrics&, int64_t, bool) override {}

  const std::string& said() const { return said_; }
  int steps() const { return steps_; }

 private:
  void raise_if_due() {
    if (steps_ != after_steps_ || raised_) return;
    raised_ = true;
    std::raise(signal_);
  }

  int signal_;
  int after_steps_;
  int steps_ = 0;
  bool raised_ = false;
  std::string said_;
};

class Resume : public testing::Test {
 protected:
  static constexpr int steps_per_epoch = 3;  // 20 images, batches of 8: the last one has 4

  Resume() { mma::tests::write_tiny_fashion_mnist(folder_ / "data", 20, 20); }

  RunArguments arguments(const fs::path& out) const {
    RunArguments arguments;
    arguments.given["model"] = "resnet20";
    arguments.given["dataset"] = "fashion-mnist";
    arguments.given["data"] = (folder_ / "data").string();
    arguments.given["epochs"] = 2;
    arguments.given["batch"] = 8;
    arguments.given["threads"] = 1;
    arguments.out = out;
    return arguments;
  }

  static RunArguments resuming(const fs::path& out) {
    RunArguments arguments;
    arguments.resume = true;
    arguments.out = out;
    return arguments;
  }

  static int uninterrupted(const RunArguments& arguments) {
    InterruptingProgress progress(0, never);
    return train(arguments, progress);
  }

  mma::tests::TemporaryFolder folder_;
};

TEST_F(Resume, EndsWithTheSameBitsFromEveryStep) {
  ASSERT_EQ(uninterrupted(arguments(folder_ / "whole")), 0);
  for (int steps = 0; steps <= 2 * steps_per_epoch; ++steps) {
    SCOPED_TRACE("interrupted after step " + std::to_string(steps));
    const fs::path out = folder_ / ("interrupted" + std::to_string(steps));
    const int signal = steps % 2 == 0 ? SIGTERM : SIGINT;
    InterruptingProgress progress(signal, steps);
    ASSERT_EQ(train(arguments(out), progress), 128 + signal);
    EXPECT_EQ(progress.steps(), steps);  // it stops at the next boundary, not later
    EXPECT_NE(progress.said().find("mma-train --resume --out " + out.string()), std::string::npos);
    const auto record = mma::tests::record_of(out / "checkpoint.safetensors");
    EXPECT_EQ(record.at("epoch").get<int>() * steps_per_epoch + record.at("step").get<int>(), steps);
    EXPECT_EQ(uninterrupted(resuming(out)), 0);
    expect_equal_runs(folder_ / "whole", out);
  }
}

TEST_F(Resume, ManyTimesEndsWithTheSameBits) {
  ASSERT_EQ(uninterrupted(arguments(folder_ / "whole")), 0);
  const fs::path out = folder_ / "pieces";
  InterruptingProgress progress(SIGTERM, 1);
  ASSERT_EQ(train(arguments(out), progress), 143);
  for (int piece = 1; piece < 2 * steps_per_epoch; ++piece) {
    InterruptingProgress next(SIGTERM, 1);
    ASSERT_EQ(train(resuming(out), next), 143);
  }
  EXPECT_EQ(uninterrupted(resuming(out)), 0);
  expect_equal_runs(folder_ / "whole", out);
}

TEST_F(Resume, FromACheckpointWithinAnEpochEndsWithTheSameBits) {
  RunArguments often = arguments(folder_ / "whole");
  often.given["checkpoint_steps"] = 2;
  ASSERT_EQ(uninterrupted(often), 0);
  ASSERT_EQ(uninterrupted(arguments(folder_ / "seldom")), 0);
  expect_equal_runs(folder_ / "whole", folder_ / "seldom");
}

TEST_F(Resume, RestoresFilesThatAKilledRunHadNotWrittenYet) {
  const fs::path out = folder_ / "killed";
  InterruptingProgress progress(SIGTERM, steps_per_epoch + 1);
  ASSERT_EQ(train(arguments(out), progress), 143);
  fs::remove(out / "metrics.csv");  // as if killed between the checkpoint and the files that follow it
  fs::remove(out / "metrics.jsonl");
  fs::remove(out / "config.json");
  EXPECT_EQ(uninterrupted(resuming(out)), 0);
  ASSERT_EQ(uninterrupted(arguments(folder_ / "whole")), 0);
  expect_equal_runs(folder_ / "whole", out);
  EXPECT_TRUE(fs::exists(out / "config.json"));
}

TEST_F(Resume, OfAFinishedRunSaysSoAndTrainsNoStep) {
  const fs::path out = folder_ / "finished";
  ASSERT_EQ(uninterrupted(arguments(out)), 0);
  const std::string checkpoint = mma::tests::read_bytes(out / "checkpoint.safetensors");
  InterruptingProgress progress(0, never);
  EXPECT_EQ(train(resuming(out), progress), 0);
  EXPECT_EQ(progress.steps(), 0);
  EXPECT_NE(progress.said().find("already finished"), std::string::npos);
  EXPECT_EQ(mma::tests::read_bytes(out / "checkpoint.safetensors"), checkpoint);
}

TEST_F(Resume, WithAnotherThreadCountWarns) {
  const fs::path out = folder_ / "threads";
  InterruptingProgress first(SIGTERM, 1);
  ASSERT_EQ(train(arguments(out), first), 143);
  RunArguments more = resuming(out);
  more.given["threads"] = 2;
  InterruptingProgress progress(0, never);
  EXPECT_EQ(train(more, progress), 0);
  EXPECT_EQ(at::get_num_threads(), 2);
  EXPECT_TRUE(progress.said().starts_with("warning: the run began with --threads 1")) << progress.said();
}

TEST_F(Resume, InBfloat16EndsWithTheSameBits) {
  RunArguments bf16 = arguments(folder_ / "whole");
  bf16.given["precision"] = "bf16";
  ASSERT_EQ(uninterrupted(bf16), 0);
  bf16.out = folder_ / "interrupted";
  InterruptingProgress progress(SIGTERM, steps_per_epoch + 1);
  ASSERT_EQ(train(bf16, progress), 143);
  EXPECT_EQ(uninterrupted(resuming(folder_ / "interrupted")), 0);
  expect_equal_runs(folder_ / "whole", folder_ / "interrupted");
  ASSERT_EQ(uninterrupted(arguments(folder_ / "float32")), 0);
  EXPECT_NE(mma::tests::metrics_without_seconds(folder_ / "whole"),
            mma::tests::metrics_without_seconds(folder_ / "float32"));
}

TEST_F(Resume, WithDropoutAndAutoAugmentEndsWithTheSameBits) {
  RunArguments drawing = arguments(folder_ / "whole");
  drawing.given["model"] = "wrn-16-8";
  drawing.given["dropout"] = 0.3;
  drawing.given["autoaugment"] = true;
  drawing.given["cutout"] = 8;
  drawing.given["epochs"] = 1;
  drawing.given["limit_test"] = 4;
  ASSERT_EQ(uninterrupted(drawing), 0);
  drawing.out = folder_ / "interrupted";
  InterruptingProgress progress(SIGTERM, 1);
  ASSERT_EQ(train(drawing, progress), 143);
  EXPECT_EQ(uninterrupted(resuming(folder_ / "interrupted")), 0);
  expect_equal_runs(folder_ / "whole", folder_ / "interrupted");
}

TEST_F(Resume, OfAStrongRecipesTricksEndsWithTheSameBits) {
  RunArguments strong = arguments(folder_ / "whole");
  strong.given["schedule"] = "cosine";
  strong.given["warm_up"] = 1;
  strong.given["label_smoothing"] = 0.1;
  strong.given["decay_filters_only"] = true;
  strong.given["average"] = 0.9;
  ASSERT_EQ(uninterrupted(strong), 0);
  strong.out = folder_ / "interrupted";
  for (const int steps : {1, steps_per_epoch + 1}) {
    fs::remove_all(*strong.out);
    InterruptingProgress progress(SIGTERM, steps);
    ASSERT_EQ(train(strong, progress), 143);
    EXPECT_EQ(uninterrupted(resuming(folder_ / "interrupted")), 0);
    expect_equal_runs(folder_ / "whole", folder_ / "interrupted");
  }
}

TEST_F(Resume, WorksWithoutTheRegularizerToo) {
  RunArguments plain = arguments(folder_ / "whole");
  plain.given["regularizer"] = "none";
  ASSERT_EQ(uninterrupted(plain), 0);
  plain.out = folder_ / "interrupted";
  InterruptingProgress progress(SIGTERM, steps_per_epoch + 1);
  ASSERT_EQ(train(plain, progress), 143);
  EXPECT_EQ(uninterrupted(resuming(folder_ / "interrupted")), 0);
  expect_equal_runs(folder_ / "whole", folder_ / "interrupted");
}

}  // namespace
}  // namespace mma::examples
