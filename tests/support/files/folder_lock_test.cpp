// Who may write a folder; with other programs and killed ones in tests/train/mma_train_test.cpp.
#include "support/files/folder_lock.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "../../child_process.hpp"
#include "../test_files.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

std::string lock_refusal(const std::filesystem::path& folder) {
  return message_of<UserError>([&] { const FolderLock lock(folder); });
}

TEST(FolderLock, IsHeldByOneAndLeavesNothing) {
  const TemporaryFolder folder;
  const std::string here = "process " + std::to_string(getpid());
  std::optional<FolderLock> lock(std::in_place, folder.path());
  EXPECT_EQ(lock_refusal(folder.path()), folder.path().string() + " is being written by " + here +
                                             ": wait for its end, or choose another folder by --out");
  EXPECT_EQ(holder_of(folder.path()), here);
  EXPECT_EQ(lock_refusal(folder.path()).substr(0, 1), "/");  // neither the refused one nor the question released it
  lock.reset();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_EQ(holder_of(folder.path()), std::nullopt);
  EXPECT_EQ(lock_refusal(folder.path()), "");
}

TEST(FolderLock, IsNotKeptByWhatItsHolderStarts) {
  const TemporaryFolder folder;
  std::optional<FolderLock> lock(std::in_place, folder.path());
  ChildOptions options;
  options.input = ChildStream::pipe();
  options.output = ChildStream::nothing();
  Child child({"cat"}, options);  // it lives until its input ends
  std::filesystem::rename(folder / ".lock", folder / "moved");
  write_bytes(folder / ".lock", "of somebody else");
  lock.reset();  // by the end of its file alone: the name leads elsewhere by now
  EXPECT_EQ(read_bytes(folder / ".lock"), "of somebody else");
  std::filesystem::rename(folder / "moved", folder / ".lock");
  EXPECT_FALSE(child.ended());
  EXPECT_EQ(lock_refusal(folder.path()), "");
  child.input.close();
  child.wait();
}

TEST(FolderLock, IsNotHeldByAFileThatAKilledHolderLeft) {
  const TemporaryFolder folder;
  for (const char* text : {"", "1 elsewhere\n", "no number"}) {
    write_bytes(folder / ".lock", text);
    EXPECT_EQ(holder_of(folder.path()), std::nullopt);
    EXPECT_EQ(lock_refusal(folder.path()), "");
  }
}

TEST(FolderLock, NamesAHolderOnAnotherMachine) {
  const TemporaryFolder folder;
  const FolderLock lock(folder.path());
  write_bytes(folder / ".lock", "77 elsewhere\n");
  EXPECT_EQ(holder_of(folder.path()), "process 77 on elsewhere");
  write_bytes(folder / ".lock", "");
  EXPECT_EQ(holder_of(folder.path()), "another process");
}

TEST(FolderLock, WarnsWhereTheFileSystemHasNone) {
  const TemporaryFolder folder;
  testing::internal::CaptureStderr();
  {
    const FolderLock lock(folder.path(), [](int) { return ENOLCK; });
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "warning: the file system of " + folder.path().string() +
                " has no locks (No locks available): nothing keeps a second program out of it\n");
}

TEST(FolderLock, NeedsAFolderItCanWriteInto) {
  const TemporaryFolder folder;
  EXPECT_EQ(lock_refusal(folder / "absent"),
            "cannot write into " + (folder / "absent").string() + ": No such file or directory");
  write_bytes(folder / "file", "");
  EXPECT_EQ(lock_refusal(folder / "file"), "cannot write into " + (folder / "file").string() + ": Not a directory");
}

}  // namespace
}  // namespace mma::examples
