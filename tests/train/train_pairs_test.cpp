// benchmarks/train_pairs.sh as somebody with a few minutes of a machine runs it: which runs it trains, what stays of
// them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "../child_process.hpp"
#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class TrainPairs : public testing::Test {
 protected:
  TrainPairs() { write_tiny_fashion_mnist(folder_ / "data", 40, 30); }

  Outcome pairs(const Words& options, const Words& of_train = {}) const {
    Words words = {MMA_TRAIN_PAIRS, "--program", MMA_TRAIN_PROGRAM, "--out", out()};
    words.insert(words.end(), options.begin(), options.end());
    for (const char* word :
         {"--", "--model", "resnet20", "--dataset", "fashion-mnist", "--batch", "8", "--threads", "1"}) {
      words.push_back(word);
    }
    words.insert(words.end(), {"--data", folder_ / "data"});
    words.insert(words.end(), of_train.begin(), of_train.end());
    return outcome_of(words);
  }

  /// What lies in the folder where runs are gathered.
  std::set<std::string> runs() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(out())) names.insert(entry.path().filename());
    return names;
  }

  nlohmann::json settings_of(const std::string& run) const {
    return nlohmann::json::parse(read_bytes(fs::path(out()) / run / "config.json")).at("settings");
  }

  std::string out() const { return folder_ / "runs"; }

  TemporaryFolder folder_;
};

TEST_F(TrainPairs, TrainsTheNextSeedsAndLeavesTheirSmallFiles) {
  fs::create_directories(fs::path(out()) / "none-seed123");  // as another machine's, of which MMA is still missing
  std::ofstream(fs::path(out()) / "none-seed123" / "metrics.csv") << "epoch\n1\n";
  const Outcome outcome = pairs({"--minutes", "10", "--epochs", "2", "--pairs", "2", "--coefficient", "0.05"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_EQ(runs(), (std::set<std::string>{"none-seed123", "mma-0.05-seed123", "none-seed223", "mma-0.05-seed223"}));
  for (const std::string run : {"mma-0.05-seed123", "none-seed223", "mma-0.05-seed223"}) {
    std::set<std::string> files;
    for (const auto& entry : fs::directory_iterator(fs::path(out()) / run)) files.insert(entry.path().filename());
    EXPECT_EQ(files, (std::set<std::string>{"config.json", "metrics.csv"})) << run;
    const nlohmann::json settings = settings_of(run);
    EXPECT_EQ(settings.at("epochs"), 2);
    EXPECT_EQ(settings.at("seed"), run.ends_with("123") ? 123 : 223);
    EXPECT_EQ(settings.at("regularizer"), run.starts_with("none") ? "none" : "mma");
    EXPECT_EQ(settings.at("coefficient"), run.starts_with("none") ? 0 : 0.05);
  }
}

TEST_F(TrainPairs, BeginNothingThatWouldNotBeFinished) {
  const Outcome outcome = pairs({"--minutes", "1", "--epochs", "1000000"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_NE(outcome.output.find("0 pairs trained"), std::string::npos) << outcome.output;
  EXPECT_EQ(runs(), std::set<std::string>{});
}

TEST_F(TrainPairs, SayWhatIsWrong) {
  const Outcome refused = pairs({"--minutes", "1", "--epochs", "2"}, {"--lr", "-1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.output.find("--lr"), std::string::npos) << refused.output;
  for (const auto& [options, sentence] : std::vector<std::pair<Words, std::string>>{
           {{"--minutes", "soon", "--epochs", "2"}, "--minutes is 'soon'; expected a whole number"},
           {{"--minutes", "1", "--epochs", "1"}, "--epochs is 1; expected at least 2, so that two can be tried"},
           {{"--minutes", "0", "--epochs", "2"}, "no time is left, nothing was trained"}}) {
    const Outcome outcome = pairs(options);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_EQ(outcome.output, "train_pairs.sh: " + sentence + "\n");
  }
}

}  // namespace
}  // namespace mma::tests
