// The downloader of CIFAR-100 against a server on the loopback interface (range_server.py): whole, cut, wrong, absent.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "../child_process.hpp"
#include "../temporary_folder.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;

/// A command of the shell.
Outcome run(const std::string& command) { return outcome_of({"/bin/sh", "-c", command}); }

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Bytes that gzip cannot shorten.
std::string random_records(size_t count) {
  std::mt19937 engine(static_cast<unsigned>(count));
  std::string bytes(count * 3074, '\0');
  for (char& byte : bytes) {
    byte = static_cast<char>(engine());
  }
  return bytes;
}

/// range_server.py in a process of its own.
class Server {
 public:
  Server(const fs::path& file, const fs::path& log, const std::vector<std::string>& options)
      : log_(log), process_(command(file, log, options), process_options()) {
    FILE* output = fdopen(process_.output.release(), "r");
    if (fscanf(output, "%d", &port_) != 1) ADD_FAILURE() << "range_server.py printed no port";
    fclose(output);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { stop(); }

  void stop() {
    process_.send(SIGKILL);
    process_.wait();
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/cifar.tar.gz"; }

  /// A line a request: its Range header (or -) and the number of bytes sent.
  std::string requests() const { return read(log_); }

 private:
  static std::vector<std::string> command(const fs::path& file, const fs::path& log,
                                          const std::vector<std::string>& options) {
    std::vector<std::string> words = {MMA_PYTHON, MMA_RANGE_SERVER, file.string(), log.string()};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }

  static examples::ChildOptions process_options() {
    examples::ChildOptions options;
    options.output = examples::ChildStream::pipe();
    options.signal_with_parent = SIGKILL;  // never outlives the test
    return options;
  }

  fs::path log_;
  examples::Child process_;
  int port_ = 0;
};

class DownloadCifar100 : public testing::Test {
 protected:
  void SetUp() override {
    if (run("command -v curl").exit_code != 0) GTEST_SKIP() << "curl is not installed";
    write(folder_ / "source/cifar-100-binary/train.bin", random_records(30));
    write(folder_ / "source/cifar-100-binary/test.bin", random_records(5));
    write(folder_ / "source/cifar-100-binary/fine_label_names.txt", "apple\n");
    const std::string archive = (folder_ / "archive.tar.gz").string();
    EXPECT_EQ(run("tar -czf " + archive + " -C " + (folder_ / "source").string() + " cifar-100-binary").exit_code, 0);
    md5_ = run("md5sum < " + archive).output.substr(0, 32);
    size_ = fs::file_size(archive);
  }

  Server& serve(const std::vector<std::string>& options = {}) {
    server_ = std::make_unique<Server>(folder_ / "archive.tar.gz", folder_ / "log", options);
    return *server_;
  }

  Outcome download() {
    return run("no_proxy=127.0.0.1 MMA_CIFAR100_URL=" + server_->url() + " MMA_CIFAR100_MD5=" + md5_ + " sh " +
               MMA_DOWNLOAD_SCRIPT + " " + data_.string());
  }

  void expect_complete() const {
    for (const char* name : {"train.bin", "test.bin", "fine_label_names.txt"}) {
      EXPECT_TRUE(read(data_ / "cifar-100-binary" / name) == read(folder_ / "source/cifar-100-binary" / name)) << name;
    }
    EXPECT_EQ(names_in_data(), "cifar-100-binary ");
  }

  /// All that lies in the destination, so that nothing is left behind.
  std::string names_in_data() const {
    std::string names;
    for (const fs::directory_entry& entry : fs::directory_iterator(data_)) {
      names += entry.path().filename().string() + " ";
    }
    return names;
  }

  std::string whole_file() const { return "- " + std::to_string(size_) + "\n"; }

  TemporaryFolder folder_;
  fs::path data_ = folder_ / "data";
  fs::path part_ = data_ / "cifar-100-binary.tar.gz.part";
  std::string md5_;
  uintmax_t size_ = 0;
  std::unique_ptr<Server> server_;
};

TEST_F(DownloadCifar100, ComesWholeAndOnlyOnce) {
  const Server& server = serve();
  const Outcome first = download();
  EXPECT_EQ(first.exit_code, 0) << first.output;
  expect_complete();
  const Outcome second = download();
  EXPECT_EQ(second.exit_code, 0);
  EXPECT_EQ(second.output, "CIFAR-100 is already in " + (data_ / "cifar-100-binary").string() + "\n");
  expect_complete();
  EXPECT_EQ(server.requests(), whole_file());
}

TEST_F(DownloadCifar100, IsContinuedAfterACut) {
  const Server& server = serve({"--cut-first", "60000"});
  const Outcome cut = download();
  EXPECT_EQ(cut.exit_code, 1);
  EXPECT_NE(cut.output.find("the download stopped at 60000 bytes, call this again to continue it"), std::string::npos)
      << cut.output;
  EXPECT_EQ(names_in_data(), part_.filename().string() + " ");
  EXPECT_TRUE(read(part_) == read(folder_ / "archive.tar.gz").substr(0, 60000));
  const Outcome rest = download();
  EXPECT_EQ(rest.exit_code, 0) << rest.output;
  expect_complete();
  EXPECT_EQ(server.requests(), "- 60000\nbytes=60000- " + std::to_string(size_ - 60000) + "\n");
}

TEST_F(DownloadCifar100, IsRemovedWhenItsChecksumIsWrong) {
  const Server& server = serve();
  write(data_ / "mine.txt", "kept");
  const std::string right = std::exchange(md5_, std::string(32, '0'));
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.output, "Downloading " + server.url() + "\ndownload-cifar100: what " + server.url() +
                                " sent has not the MD5 sum " + md5_ +
                                ": it was removed, call this again to start anew\n");
  EXPECT_EQ(names_in_data(), "mine.txt ");
  EXPECT_EQ(read(data_ / "mine.txt"), "kept");
  md5_ = right;
  EXPECT_EQ(download().exit_code, 0);
  EXPECT_EQ(server.requests(), whole_file() + whole_file());
}

TEST_F(DownloadCifar100, SaysThatTheServerIsAbsentAndKeepsWhatItHas) {
  serve({"--cut-first", "60000"});
  EXPECT_EQ(download().exit_code, 1);
  server_->stop();
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.output.find("the download stopped at 60000 bytes"), std::string::npos) << outcome.output;
  EXPECT_EQ(fs::file_size(part_), 60000U);
  fs::remove(part_);
  const Outcome from_nothing = download();
  EXPECT_EQ(from_nothing.exit_code, 1);
  EXPECT_NE(from_nothing.output.find("download-cifar100: cannot download " + server_->url()), std::string::npos)
      << from_nothing.output;
  EXPECT_EQ(names_in_data(), "");
}

TEST_F(DownloadCifar100, TakesAFinishedPartWithoutAskingTheServer) {
  const Server& server = serve();
  write(part_, read(folder_ / "archive.tar.gz"));
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_complete();
  EXPECT_EQ(server.requests(), "");
}

TEST_F(DownloadCifar100, StartsAnewWhenThePartIsLongerThanTheFile) {
  const Server& server = serve();
  write(part_, std::string(size_ + 1, 'x'));
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_complete();
  EXPECT_EQ(server.requests(), "bytes=" + std::to_string(size_ + 1) + "- 0\n" + whole_file());
}

TEST_F(DownloadCifar100, StartsAnewWhenTheServerCannotContinue) {
  serve({"--no-ranges"});
  write(part_, read(folder_ / "archive.tar.gz").substr(0, 1000));
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_complete();
}

TEST_F(DownloadCifar100, RefusesToReplaceAHalfDataSet) {
  const Server& server = serve();
  write(data_ / "cifar-100-binary/train.bin", random_records(1).substr(1));
  write(data_ / "cifar-100-binary/test.bin", random_records(1));
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.output.find("exists but is not the whole data set"), std::string::npos) << outcome.output;
  EXPECT_EQ(fs::file_size(data_ / "cifar-100-binary/train.bin"), 3073U);
  EXPECT_EQ(server.requests(), "");
}

TEST_F(DownloadCifar100, RefusesAnArchiveOfSomethingElse) {
  fs::remove(folder_ / "source/cifar-100-binary/test.bin");
  const std::string archive = (folder_ / "archive.tar.gz").string();
  ASSERT_EQ(run("tar -czf " + archive + " -C " + (folder_ / "source").string() + " cifar-100-binary").exit_code, 0);
  md5_ = run("md5sum < " + archive).output.substr(0, 32);
  serve();
  const Outcome outcome = download();
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.output.find("holds no cifar-100-binary/train.bin and test.bin"), std::string::npos)
      << outcome.output;
  EXPECT_EQ(names_in_data(), part_.filename().string() + " ");
}

TEST(DownloadCifar100WithoutCurl, SaysThatItIsMissing) {
  const TemporaryFolder folder;  // and no program in it
  const Outcome outcome =
      run("PATH=" + folder.path().string() + " /bin/sh " + MMA_DOWNLOAD_SCRIPT + " " + (folder / "data").string());
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.output, "download-cifar100: curl is missing: install it, for example with apt-get install curl\n");
  EXPECT_FALSE(fs::exists(folder / "data"));
}

}  // namespace
}  // namespace mma::tests
