// A file that cannot be written whole leaves the old one, no temporary file, and a sentence with the reason.
#include "support/files/atomic_file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iterator>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::message_of;
using mma::tests::read_bytes;
using mma::tests::TemporaryFolder;
using mma::tests::write_bytes;

std::function<void(std::ostream&)> writing(const std::string& bytes) {
  return [bytes](std::ostream& stream) { stream << bytes; };
}

std::string failure(const std::filesystem::path& path, const std::function<void(std::ostream&)>& write) {
  return message_of<UserError>([&] { write_atomically(path, write); });
}

long count_files(const TemporaryFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

/// No file may grow beyond this many bytes while the scope lasts.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int) = nullptr;
};

TEST(AtomicFile, WritesAndReplaces) {
  const TemporaryFolder folder;
  write_atomically(folder / "a", writing("first"));
  EXPECT_EQ(read_bytes(folder / "a"), "first");
  write_atomically(folder / "a", writing("2nd"));
  EXPECT_EQ(read_bytes(folder / "a"), "2nd");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicFile, KeepsEveryByteOfSmallAndLargePieces) {
  const TemporaryFolder folder;
  std::string expected;
  write_atomically(folder / "a", [&](std::ostream& stream) {
    for (int i = 0; i < 3000; ++i) {
      const std::string piece(static_cast<size_t>(i % 97), static_cast<char>(i));
      stream << piece;
      stream.put(static_cast<char>(i / 7));
      expected += piece + static_cast<char>(i / 7);
    }
    const std::string large(300'000, 'x');
    stream << large << "end";
    expected += large + "end";
  });
  EXPECT_EQ(read_bytes(folder / "a"), expected);
}

TEST(AtomicFile, AbsentFolder) {
  const TemporaryFolder folder;
  const auto path = folder / "no/such/file";
  EXPECT_EQ(failure(path, writing("x")), "cannot write " + path.string() + ": No such file or directory");
}

TEST(AtomicFile, FolderInTheWay) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "taken");
  EXPECT_EQ(failure(folder / "taken", writing("x")),
            "cannot write " + (folder / "taken").string() + ": Is a directory");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicFile, FolderWithoutPermission) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "old");
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_read);
  const bool is_root = geteuid() == 0;  // permissions do not bind root: be nobody for a moment
  ASSERT_EQ(seteuid(is_root ? 65534 : geteuid()), 0);
  const std::string message = failure(folder / "file", writing("x"));
  ASSERT_EQ(seteuid(is_root ? 0 : geteuid()), 0);
  std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_all);
  EXPECT_EQ(message, "cannot write " + (folder / "file").string() + ": Permission denied");
  EXPECT_EQ(read_bytes(folder / "file"), "old");
}

TEST(AtomicFile, FolderThatIsNone) {
  const auto path = std::filesystem::path("/proc/self/file");  // nobody, not even root, makes files here
  EXPECT_TRUE(failure(path, writing("x")).starts_with("cannot write /proc/self/file: "));
}

TEST(AtomicFile, FullDiskKeepsTheOldFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  for (const size_t size : {5'000U, 500'000U}) {  // noticed by the last flush, and in the middle
    const FileSizeLimit limit(4096);
    EXPECT_EQ(failure(folder / "a", writing(std::string(size, 'x'))),
              "cannot write " + (folder / "a").string() + ": File too large");
    EXPECT_EQ(read_bytes(folder / "a"), "old");
    EXPECT_EQ(count_files(folder), 1);
  }
}

TEST(AtomicFile, FullDiskEndsAnEndlessWriter) {
  const TemporaryFolder folder;
  const FileSizeLimit limit(4096);
  const auto endless = [](std::ostream& stream) {
    for (;;) stream << "more";
  };
  EXPECT_NE(failure(folder / "a", endless), "");
  EXPECT_EQ(count_files(folder), 0);
}

TEST(AtomicFile, ThrowingWriterKeepsTheOldFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  const auto half = [](std::ostream& stream) {
    stream << "half";
    throw UserError("changed my mind");
  };
  EXPECT_EQ(failure(folder / "a", half), "changed my mind");
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(count_files(folder), 1);
}

TEST(AtomicFile, WhatAKilledWriterHadBegunIsRemovedAndNothingElse) {
  const TemporaryFolder folder;
  const pid_t killed = ::fork();
  if (killed == 0) ::_exit(0);
  ::waitpid(killed, nullptr, 0);
  const std::string unfinished = ".a." + std::to_string(killed) + ".tmp",
                    written_now = ".a." + std::to_string(::getpid()) + ".tmp";
  for (const std::string& name :
       {unfinished, written_now, std::string("a.1.tmp"), std::string(".a.x.tmp"), std::string(".tmp")}) {
    write_bytes(folder / name, "x");
  }
  remove_unfinished_files(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / unfinished));
  EXPECT_EQ(count_files(folder), 4);
  remove_unfinished_files(folder / "absent");
}

TEST(AtomicFile, PathWithoutFolder) {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  write_atomically("here", writing("x"));
  std::filesystem::current_path(before);
  EXPECT_EQ(read_bytes(folder / "here"), "x");
}

TEST(RunProgram, ExitCodeTellsWhoseFault) {
  EXPECT_EQ(run_program("p", [] { return 0; }), 0);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_program("p", []() -> int { throw UserError("no such file"); }), 2);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "p: no such file\n");
  EXPECT_EQ(run_program("p", []() -> int { throw std::runtime_error("broken"); }), 3);
}

}  // namespace
}  // namespace mma::examples
