// mma-train as a user runs it, in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "child_process.hpp"
#include "temporary_folder.hpp"
#include "training/run/tiny_data.hpp"

namespace mma::tests {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

inline constexpr int exit_bad_input = 2;

inline Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// Every file under a folder with its bytes.
inline std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (fs::is_regular_file(entry.symlink_status())) files[entry.path()] = read_bytes(entry.path());
  }
  return files;
}

/// What a test of mma-train needs, with a small data set in its folder. Its target defines MMA_TRAIN_PROGRAM.
class TrainProgram : public testing::Test {
 protected:
  TrainProgram() { write_tiny_fashion_mnist(data(), 40, 30); }

  std::string data() const { return folder_ / "data"; }
  std::string at(const std::string& name) const { return folder_ / name; }

  static Words program(const Words& words) { return Words{MMA_TRAIN_PROGRAM} + words; }

  /// A new run of two epochs of five steps; what `more` sets anew is left to it.
  Words run_into(const std::string& out, const Words& more = {}) const {
    Words words = program({"--model", "resnet20", "--out", at(out)});
    const std::vector<Words> defaults = {
        {"--dataset", "fashion-mnist"}, {"--data", data()}, {"--batch", "8"}, {"--threads", "1"}, {"--epochs", "2"}};
    for (const Words& option : defaults) {
      if (std::find(more.begin(), more.end(), option.front()) == more.end()) words = words + option;
    }
    return words + more;
  }

  Words resume(const std::string& out, const Words& more = {}) const {
    return program({"--resume", "--out", at(out)}) + more;
  }

  static void expect_success(const Words& words) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 0) << child.errors();
    EXPECT_EQ(child.errors(), "");
  }

  static std::string output_of(const Words& words) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 0) << child.errors();
    return child.output();
  }

  /// The one sentence with which the program refuses; nothing that was there has changed, nothing new is left.
  std::string refusal(const Words& words, std::optional<rlim_t> file_size_limit = {}) const {
    const auto before = snapshot(folder_.path());
    const std::string sentence = sentence_of(words, file_size_limit);
    EXPECT_TRUE(snapshot(folder_.path()) == before) << "files have changed";
    return sentence;
  }

  static std::string sentence_of(const Words& words, std::optional<rlim_t> file_size_limit = {}) {
    ChildProcess child(words, file_size_limit);
    EXPECT_EQ(child.finish(), exit_bad_input) << child.output();
    const std::string& text = child.errors();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("mma-train: ")) << text;
    return text.substr(0, text.size() - 1).substr(text.find(' ') + 1);
  }

  TemporaryFolder folder_;
};

}  // namespace mma::tests
