// Programs run beside this one: their streams, their end, and what they cannot be started by.
#include "support/process/child.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "../../child_process.hpp"
#include "../test_files.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

std::string why_not_started(const std::vector<std::string>& words) {
  return message_of<CannotStart>([&] { Child child(words); });
}

TEST(Child, IsFoundInPathAndTellsItsExitCodeOrSignal) {
  EXPECT_TRUE(Child({"true"}).wait().succeeded());
  const ExitStatus seven = Child({"/bin/sh", "-c", "exit 7"}).wait();
  EXPECT_EQ(seven.code, 7);
  EXPECT_EQ(seven.as_shell_says(), 7);
  const ExitStatus ended = Child({"sh", "-c", "kill -TERM $$"}).wait();
  EXPECT_EQ(ended.signal, SIGTERM);
  EXPECT_EQ(ended.as_shell_says(), 128 + SIGTERM);
  EXPECT_FALSE(ended.succeeded());
}

TEST(Child, ThatCannotBeStartedSaysWhy) {
  const TemporaryFolder folder;
  EXPECT_EQ(why_not_started({"no-such-program"}), "cannot start no-such-program: No such file or directory");
  EXPECT_EQ(why_not_started({folder / "absent"}),
            "cannot start " + (folder / "absent").string() + ": No such file or directory");
  write_bytes(folder / "text", "no program");
  EXPECT_EQ(why_not_started({folder / "text"}), "cannot start " + (folder / "text").string() + ": Permission denied");
  EXPECT_EQ(why_not_started({""}), "cannot start : No such file or directory");
}

TEST(Child, HasItsOwnStreams) {
  const std::vector<std::string> words = {"sh", "-c", "cat; echo out; echo err >&2"};
  ChildOptions options;
  options.input = options.output = options.errors = ChildStream::pipe();
  Child child(words, options);
  ASSERT_EQ(write(child.input.number(), "in ", 3), 3);
  child.input.close();
  const auto text = [](const Descriptor& end) {
    std::string bytes;
    for (char byte; read(end.number(), &byte, 1) == 1;) bytes += byte;
    return bytes;
  };
  EXPECT_EQ(text(child.output), "in out\n");
  EXPECT_EQ(text(child.errors), "err\n");
  EXPECT_TRUE(child.wait().succeeded());
  EXPECT_EQ(outcome_of({"sh", "-c", "echo out; echo err >&2; echo out"}).output, "out\nerr\nout\n");
}

/// A pipe comes to its end when nobody can write into it any more.
TEST(Child, GetsNoPipeOfAnother) {
  ChildOptions options;
  options.input = ChildStream::pipe();
  Child reader({"cat"}, options);
  Child other({"sleep", "10"});
  reader.input.close();
  EXPECT_TRUE(reader.wait().succeeded());
  EXPECT_FALSE(other.ended());
  other.send(SIGKILL);
  other.wait();
}

TEST(Child, ReadsNothingWhereItHasNoInput) {
  ChildOptions options;
  options.input = ChildStream::nothing();
  EXPECT_TRUE(Child({"cat"}, options).wait().succeeded());
}

TEST(Child, CannotWriteBeyondItsLimit) {
  const TemporaryFolder folder;
  ChildOptions options;
  options.file_size_limit = 1000;
  options.errors = ChildStream::nothing();
  const std::string command = "trap '' XFSZ; head -c 5000 /dev/zero > " + (folder / "file").string();
  EXPECT_FALSE(Child({"sh", "-c", command}, options).wait().succeeded());
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), 1000);
}

TEST(Child, OfAGroupOfItsOwnRunsUntilItGetsASignal) {
  ChildOptions options;
  options.own_group = true;
  Child child({"sleep", "600"}, options);
  EXPECT_EQ(getpgid(child.id()), child.id());
  EXPECT_FALSE(child.ended());
  child.send(SIGINT);
  EXPECT_EQ(child.wait().signal, SIGINT);
  EXPECT_EQ(child.ended()->signal, SIGINT);
}

TEST(Child, EndsWithTheThreadThatStartedIt) {
  ChildOptions options;
  options.signal_with_parent = SIGTERM;
  std::optional<Child> child;
  std::thread([&] { child.emplace(std::vector<std::string>{"sleep", "600"}, options); }).join();
  EXPECT_EQ(child->wait().signal, SIGTERM);
}

/// More than a pipe holds, each way.
TEST(Child, RunsToItsEndWhateverItReadsAndWrites) {
  const std::string text(1 << 20, 'x');
  const FinishedProgram copy = run_to_end({"sh", "-c", "cat; head -c 1000000 /dev/zero >&2; exit 3"}, text);
  EXPECT_TRUE(copy.output == text);
  EXPECT_EQ(copy.errors.size(), 1000000U);
  EXPECT_EQ(copy.status.code, 3);
  EXPECT_TRUE(run_to_end({"true"}, text).status.succeeded());  // it reads nothing
  EXPECT_THROW(run_to_end({"no-such-program"}), CannotStart);
}

}  // namespace
}  // namespace mma::examples
