// The program mma-faces verify as users run it: figures, files, sentences and exit codes.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "../child_process.hpp"
#include "../common/test_files.hpp"
#include "common/plot.hpp"
#include "common/tensor_file.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;
using nlohmann::json;
using Words = std::vector<std::string>;

struct Outcome {
  int exit_code = -1;
  std::string output;
  std::string errors;
};

Outcome run_verify(const Words& arguments) {
  Words words = {MMA_FACES_PROGRAM, "verify"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  ChildProcess program(words);
  Outcome outcome;
  outcome.exit_code = program.finish();
  outcome.output = program.output();
  outcome.errors = program.errors();
  return outcome;
}

void expect_refused(const Words& arguments, const std::string& sentence) {
  const Outcome outcome = run_verify(arguments);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_EQ(outcome.errors, "mma-faces: " + sentence + "\n");
  EXPECT_EQ(outcome.output, "");
}

json judged(Words arguments) {
  arguments.push_back("--json");
  const Outcome outcome = run_verify(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  return json::parse(outcome.output);
}

/// Ten identities of two images each: in fold f the pairs (f: 1, 2) and (f: 1, the next one: 2).
class VerifyTest : public ::testing::Test {
 protected:
  static constexpr int64_t identities = 10;

  void SetUp() override {
    std::string text = "10\t1\n";
    for (int64_t i = 0; i < identities; ++i) {
      text += name(i) + "\t1\t2\n" + name(i) + "\t1\t" + name((i + 1) % identities) + "\t2\n";
    }
    write_bytes(pairs_, text);
  }

  static std::string name(int64_t identity) { return "Person_" + std::string(1, static_cast<char>('A' + identity)); }

  /// A feature for each image, named: angle i * 36 degrees, its second image a little further.
  void write_circle(double second_image_further) const {
    at::Tensor rows = at::empty({2 * identities, 2}, at::kDouble);
    std::string names;
    for (int64_t i = 0; i < identities; ++i) {
      for (int64_t number = 1; number <= 2; ++number) {
        const double angle = 0.62831853 * static_cast<double>(i) + (number == 2 ? second_image_further : 0);
        rows[2 * i + number - 1][0].fill_(3 * std::cos(angle));
        rows[2 * i + number - 1][1].fill_(3 * std::sin(angle));
        names += name(i) + "/" + name(i) + "_000" + std::to_string(number) + "\n";
      }
    }
    write_tensor_file(features_, {{{"features", rows}}, {{"images", names}}});
  }

  Words with_features(const Words& more = {}) const {
    Words words = {"--features", features_, "--pairs", pairs_};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  TemporaryFolder folder_;
  std::string pairs_ = folder_ / "pairs.txt";
  std::string images_ = folder_ / "images";
  std::string features_ = folder_ / "features.safetensors";
};

TEST_F(VerifyTest, FiguresOfStoredFeatures) {
  write_circle(0.1);  // same: 0.1 apart, different: 0.728
  const json result = judged(with_features());
  EXPECT_EQ(result.at("features"), features_);
  EXPECT_EQ(result.at("thresholds"), "midpoints");
  const json& set = result.at("sets").at(0);
  EXPECT_EQ(set.at("name"), "pairs");
  EXPECT_EQ(set.at("images"), 20);
  EXPECT_EQ(set.at("same_pairs"), 10);
  EXPECT_EQ(set.at("different_pairs"), 10);
  EXPECT_EQ(set.at("accuracy_percent"), 100);
  EXPECT_EQ(set.at("standard_error_percent"), 0);
  EXPECT_EQ(set.at("auc"), 1);
  EXPECT_EQ(set.at("eer_percent"), 0);
  EXPECT_TRUE(set.at("true_accepts_percent_at").at("1e-2").is_null());  // needs 100 different pairs
  ASSERT_EQ(set.at("folds").size(), 10u);
  const double expected = (2 - 2 * std::cos(0.1) + 2 - 2 * std::cos(0.62831853 + 0.1)) / 2;
  EXPECT_NEAR(set.at("folds")[3].at("threshold").get<double>(), expected, 1e-6);
  EXPECT_NEAR(set.at("folds")[3].at("threshold_cosine").get<double>(), 1 - expected / 2, 1e-6);
}

TEST_F(VerifyTest, TheGridOfInsightface) {
  write_circle(0.1);
  const json result = judged(with_features({"--thresholds", "grid"}));
  EXPECT_EQ(result.at("thresholds"), "grid");
  EXPECT_EQ(result.at("sets")[0].at("folds")[0].at("threshold"), 0.02);  // 0.01 is not above 2 - 2 cos 0.1 = 0.00999
}

TEST_F(VerifyTest, SomeFolds) {
  write_circle(0.1);
  const json result = judged(with_features({"--folds", "9,10", "--threshold-folds", "1,9"}));
  EXPECT_EQ(result.at("threshold_folds"), (std::vector<int>{1, 9}));
  const json& set = result.at("sets")[0];
  ASSERT_EQ(set.at("folds").size(), 2u);
  EXPECT_EQ(set.at("folds")[0].at("fold"), 9);
  EXPECT_EQ(set.at("same_pairs"), 2);
}

TEST_F(VerifyTest, ATableAndAPicture) {
  write_circle(0.1);
  const std::string picture = folder_ / "roc.png";
  if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  const Outcome outcome = run_verify(with_features({"--roc", picture}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_NE(outcome.output.find("accuracy, %"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("100.00"), std::string::npos);
  EXPECT_NE(outcome.output.find("pairs: TAR at FAR 1e-3 needs at least 1000 different pairs; there are 10.\n"),
            std::string::npos);
  EXPECT_TRUE(read_bytes(picture).starts_with("\x89PNG"));
}

TEST_F(VerifyTest, ContradictoryOptions) {
  const std::string one_of = "one of WEIGHTS and --features FILE is needed, and not both";
  expect_refused({"--pairs", pairs_}, one_of);
  expect_refused({"weights.pt", "--features", features_, "--pairs", pairs_}, one_of);
  const std::string one_set = "one of --pairs FILE and --bin FILE is needed, and not both";
  expect_refused({"--features", features_}, one_set);
  expect_refused({"--features", features_, "--pairs", pairs_, "--bin", "x.bin"}, one_set);
  expect_refused({"weights.pt", "--pairs", pairs_}, "--pairs needs --images DIR, the folder of the images");
  expect_refused({"weights.pt", "--bin", "x.bin", "--images", "."}, "--images belongs to --pairs");
  expect_refused(with_features({"--save-features", "x"}), "--save-features belongs to WEIGHTS, not to --features");
  expect_refused(with_features({"--thresholds", "best"}), "--thresholds best: one of midpoints, grid is needed");
  expect_refused(with_features({"--folds", "9,11"}), "--folds names fold 11; expected numbers from 1 to 10");
  expect_refused(
      with_features({"--roc", folder_ / "no/roc.png"}),
      "cannot write " + (folder_ / "no/roc.png").string() + ": there is no folder " + (folder_ / "no").string());
  expect_refused(with_features({"--batch", "0"}), "--batch: at least 1 is needed");
  EXPECT_EQ(run_verify({"--frobnicate"}).exit_code, 2);
}

TEST_F(VerifyTest, HelpAndNothing) {
  const Outcome help = run_verify({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.output.find("--pairs"), std::string::npos);
  ChildProcess bare({MMA_FACES_PROGRAM});
  EXPECT_EQ(bare.finish(), 0);
  EXPECT_NE(bare.output().find("verify"), std::string::npos);
}

TEST_F(VerifyTest, FeaturesThatAreNoNumbers) {
  write_tensor_file(features_, {{{"features", at::full({40, 2}, NAN, at::kFloat)}}, {}});
  expect_refused(with_features(), features_ + ": has features that are not finite");
}

TEST_F(VerifyTest, FeaturesForABinFile) {
  const std::string bin = std::string(MMA_TEST_DATA) + "/python2.bin";
  const at::Tensor rows = at::tensor({1., 0., 1., .1, 1., 0., 0., 1., 1., 0., 0., 1., 1., 0., 1., .1}).reshape({8, 2});
  write_tensor_file(features_, {{{"features", rows}}, {}});
  const json set = judged({"--features", features_, "--bin", bin, "--number-of-folds", "2"}).at("sets")[0];
  EXPECT_EQ(set.at("name"), "python2");
  EXPECT_EQ(set.at("images"), 6);
  EXPECT_EQ(set.at("accuracy_percent"), 100);
  const std::string hostile = std::string(MMA_TEST_DATA) + "/hostile_protocol4.bin";
  expect_refused({"--features", features_, "--bin", hostile},
                 hostile +
                     ": refers to Python's posix.system, which is not plain data; expected tensors, numbers and "
                     "texts alone");
}

}  // namespace
}  // namespace mma::examples
