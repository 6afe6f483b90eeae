// Files by the system's calls: what there is of them, and in one sentence why not. faults_test has what fails in
// between.
#include "support/files/file_contents.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

TEST(FileContents, AreAllOfAFileWhateverItsLength) {
  const TemporaryFolder folder;
  for (const size_t length : {0U, 1U, 65535U, 65536U, 65537U, 200000U}) {
    std::string bytes(length, '\0');
    for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<char>(i * i % 251);
    write_bytes(folder / "file", bytes);
    EXPECT_EQ(contents_of(folder / "file"), bytes) << length;
    EXPECT_EQ(contents_of(folder / "file", length), bytes) << length;
    EXPECT_EQ(bytes_of(folder / "file"), std::vector<uint8_t>(bytes.begin(), bytes.end())) << length;
  }
}

TEST(FileContents, OfAPipeAreWhatComesUntilItsEnd) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::jthread writer([&] { write_bytes(folder / "pipe", std::string(100000, 'x')); });
  EXPECT_EQ(contents_of(folder / "pipe"), std::string(100000, 'x'));
}

TEST(FileContents, ThatCannotBeHadAreToldByName) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& name, uint64_t most = any_number_of_bytes) {
    return message_of<UserError>([&] { contents_of(folder / name, most); });
  };
  EXPECT_EQ(refusal("no"), "cannot read " + (folder / "no").string() + ": No such file or directory");
  EXPECT_EQ(refusal(""), "cannot read " + (folder / "").string() + ": Is a directory");
  write_bytes(folder / "four", "1234");
  EXPECT_EQ(refusal("four", 3), (folder / "four").string() + ": it holds more than 3 bytes");
}

TEST(FileContents, ThatNeverEndAreCutAtTheLimit) {
  EXPECT_EQ(message_of<UserError>([] { contents_of("/dev/zero", 1 << 20); }),
            "/dev/zero: it holds more than 1048576 bytes");
}

TEST(SeekableFile, GivesWhatThereIsAtAPlace) {
  const TemporaryFolder folder;
  write_bytes(folder / "file", "0123456789");
  const SeekableFile file(folder / "file");
  EXPECT_EQ(file.size(), 10u);
  EXPECT_EQ(file.read(2, 3), "234");
  EXPECT_EQ(file.read(8, 64), "89");
  EXPECT_EQ(file.read(10, 1), "");
  EXPECT_EQ(file.read(UINT64_MAX, 1), "");
  std::string bytes(4, '-');
  EXPECT_EQ(file.read(7, bytes.data(), 4), 3u);
  EXPECT_EQ(bytes, "789-");
  EXPECT_EQ(message_of<UserError>([&] { SeekableFile(folder / "no"); }),
            "cannot read " + (folder / "no").string() + ": No such file or directory");
}

}  // namespace
}  // namespace mma::examples
