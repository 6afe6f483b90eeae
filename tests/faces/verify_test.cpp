// The program mma-faces verify as users run it: figures, files, sentences and exit codes.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "../child_process.hpp"
#include "../support/test_files.hpp"
#include "faces/networks.hpp"
#include "support/files/tensor_file.hpp"
#include "support/images/plot.hpp"
#include "training/models/weights.hpp"

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
  write_circle(0.11);
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
  EXPECT_EQ(set.at("images"), 5);  // of I, J and the second one of A
}

TEST_F(VerifyTest, PairsOfOneFold) {
  write_bytes(pairs_, "2\nPerson_A\t1\t2\nPerson_B\t1\t2\nPerson_A\t1\tPerson_B\t1\nPerson_A\t1\tPerson_C\t1\n");
  write_circle(0.1);
  const json result = judged(with_features());
  EXPECT_EQ(result.at("threshold_folds"), "the one there is");
  const json& set = result.at("sets")[0];
  EXPECT_EQ(set.at("accuracy_percent"), 100);
  EXPECT_TRUE(set.at("standard_error_percent").is_null());
  const double expected = (2 - 2 * std::cos(0.1) + 2 - 2 * std::cos(0.62831853)) / 2;
  EXPECT_NEAR(set.at("folds")[0].at("threshold").get<double>(), expected, 1e-6);
  const std::string said = "pairs has one fold: its threshold is the best one for itself, its accuracy an upper bound.";
  EXPECT_NE(run_verify(with_features()).output.find(said), std::string::npos);
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

TEST_F(VerifyTest, NeedsAnOutputForWhatItPrints) {
  write_circle(0.1);
  for (const Words& more : {Words{}, Words{"--json"}}) {
    Words words = {MMA_FACES_PROGRAM, "verify"};
    const Words arguments = with_features(more);
    words.insert(words.end(), arguments.begin(), arguments.end());
    expect_output_needed(words, "mma-faces");
  }
  expect_output_needed({MMA_FACES_PROGRAM, "--help"}, "mma-faces");
}

TEST_F(VerifyTest, NamesFilesThatTheSystemRefuses) {
  write_circle(0.1);
  const std::string name = folder_ / std::string(5000, 'n');
  for (const Words& arguments :
       {Words{"--features", name, "--pairs", pairs_}, Words{"--features", features_, "--pairs", name},
        Words{"w.pt", "--pairs", pairs_, "--images", name}, Words{"w.pt", "--bin", name},
        with_features({"--roc", name + "/roc.png"})}) {
    const Outcome outcome = run_verify(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_NE(outcome.errors.find(name), std::string::npos) << outcome.errors;
    EXPECT_EQ(std::ranges::count(outcome.errors, '\n'), 1);
  }
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
  expect_refused(with_features({"--batch", "0"}), "--batch 0: at least 1 is needed");
  expect_refused(with_features({"--batch", "99999999"}), "--batch 99999999: at most 1000000 is needed");
  expect_refused(with_features({"--threads", "1000000"}), "--threads 1000000: at most 4096 is needed");
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

/// The same pairs with images and a network that was never trained.
class VerifyWeightsTest : public VerifyTest {
 protected:
  static constexpr int64_t side = 112;

  void SetUp() override {
    VerifyTest::SetUp();
    for (int64_t i = 0; i < identities; ++i) {
      std::filesystem::create_directories(std::filesystem::path(images_) / name(i));
      for (int64_t number = 1; number <= 2; ++number) write_bytes(path(i, number), pgm(i, number));
    }
    at::manual_seed(1);
    network_ = make_embedding_network("ir-small", {.channels = 1, .size = side});
    network_->eval();
    TensorFile file;
    for (const auto& [name, tensor] : state_of(*network_)) file.tensors.emplace_back(name, tensor);
    write_tensor_file(weights_, file);
  }

  std::string path(int64_t identity, int64_t number) const {
    return images_ + "/" + name(identity) + "/" + name(identity) + "_000" + std::to_string(number) + ".pgm";
  }

  static at::Tensor pixels(int64_t identity, int64_t number) {
    const at::Tensor y = at::arange(side).reshape({side, 1});
    const at::Tensor x = at::arange(side).reshape({1, side});
    return ((y * (identity + 3) + x * (2 * identity + number)) % 256).to(at::kByte);
  }

  static std::string pgm(int64_t identity, int64_t number) {
    const at::Tensor values = pixels(identity, number).contiguous();
    return "P5\n112 112\n255\n" + std::string(reinterpret_cast<const char*>(values.const_data_ptr<uint8_t>()),
                                              static_cast<size_t>(values.numel()));
  }

  at::Tensor feature(int64_t identity, int64_t number, bool flip) {
    const c10::InferenceMode no_gradients;
    const at::Tensor image = (pixels(identity, number).to(at::kFloat) / 127.5 - 1).reshape({1, 1, side, side});
    const at::Tensor plain = network_->forward(image);
    return (flip ? plain + network_->forward(image.flip(3)) : plain)[0];
  }

  Words with_weights(const Words& more = {}) const {
    Words words = {weights_, "--pairs", pairs_, "--images", images_, "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  static bool near(const at::Tensor& a, const at::Tensor& b) {
    return (a - b).norm().item<double>() < 1e-4 * b.norm().item<double>();
  }

  void expect_features(const at::Tensor& rows, bool flip) {
    ASSERT_EQ(rows.sizes(), (std::vector<int64_t>{2 * identities, network_->embedding()}));
    EXPECT_TRUE(near(rows[0], feature(0, 1, flip)));
    EXPECT_TRUE(near(rows[2], feature(1, 2, flip)));  // named third: A 1 2, A 1 B 2
    EXPECT_FALSE(near(rows[0], feature(0, 1, !flip)));
    EXPECT_FALSE(near(rows[2], feature(1, 1, flip)));
  }

  std::string weights_ = folder_ / "weights.safetensors";
  std::shared_ptr<EmbeddingNetwork> network_;
  const std::string known_ = c10::Join(", ", embedding_network_names());
};

TEST_F(VerifyWeightsTest, FeaturesAreTheNetworksWithThoseOfMirroredImages) {
  const json result = judged(with_weights({"--model", "ir-small", "--save-features", features_, "--batch", "3"}));
  EXPECT_EQ(result.at("model"), "ir-small");
  EXPECT_EQ(result.at("sets")[0].at("images"), 20);
  const TensorFile saved = read_tensor_file(features_);
  expect_features(*saved.find("features"), true);
  EXPECT_TRUE(saved.metadata.at("images").starts_with("Person_A/Person_A_0001\nPerson_A/Person_A_0002\n"));
  EXPECT_EQ(judged(with_features()).at("sets"), result.at("sets"));  // to the last bit
  judged(with_weights({"--model", "ir-small", "--save-features", features_, "--no-flip"}));
  expect_features(*read_tensor_file(features_).find("features"), false);
}

TEST_F(VerifyWeightsTest, ProgressGoesToStandardError) {
  const Outcome outcome = run_verify(with_weights({"--model", "ir-small"}));
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_TRUE(outcome.errors.starts_with("pairs: 20 images in ")) << outcome.errors;
  EXPECT_TRUE(outcome.output.starts_with("set ")) << outcome.output;
}

TEST_F(VerifyWeightsTest, OnlyTheImagesThatAreNeeded) {
  for (int64_t i = 3; i < 8; ++i) write_bytes(path(i, 2), "no image");  // in folds 3 to 8
  const Outcome outcome =
      run_verify(with_weights({"--model", "ir-small", "--folds", "1,10", "--threshold-folds", "1,10"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(outcome.errors.starts_with("pairs: 5 images in ")) << outcome.errors;
}

TEST_F(VerifyWeightsTest, ACheckpointKnowsItsNetwork) {
  TensorFile checkpoint = read_tensor_file(weights_);
  for (auto& [name, tensor] : checkpoint.tensors) name.insert(0, "model.embedding.");
  checkpoint.tensors.emplace_back("model.head.weight", at::full({3, 128}, 1, at::kFloat));
  checkpoint.metadata[checkpoint_record_key] = R"({"settings": {"model": "ir-small"}})";
  write_tensor_file(weights_, checkpoint);
  judged(with_weights({"--save-features", features_}));
  expect_features(*read_tensor_file(features_).find("features"), true);
  expect_refused(with_weights({"--model", "ir-18"}), weights_ + " holds a ir-small, not a ir-18");
  checkpoint.metadata[checkpoint_record_key] = R"({"settings": {"model": "resnet20"}})";
  write_tensor_file(weights_, checkpoint);
  expect_refused(with_weights(), weights_ + " holds a resnet20, which embeds no faces; expected one of " + known_);
  checkpoint.metadata[checkpoint_record_key] = "{";
  write_tensor_file(weights_, checkpoint);
  expect_refused(with_weights(), weights_ + ": the record of its run is not valid JSON");
}

TEST_F(VerifyWeightsTest, WeightsThatDoNotFit) {
  expect_refused(with_weights(), weights_ + " does not say which network it holds; expected --model " + known_);
  expect_refused(with_weights({"--model", "ir-7"}), "--model ir-7: one of " + known_ + " is needed");
  TensorFile file = read_tensor_file(weights_);
  std::erase_if(file.tensors, [](const auto& tensor) { return tensor.first == "fc.bias"; });
  write_tensor_file(weights_, file);
  expect_refused(with_weights({"--model", "ir-small"}),
                 weights_ + " does not fit the network: it has no tensor 'fc.bias'");
  write_bytes(weights_, "no weights");
  EXPECT_EQ(run_verify(with_weights({"--model", "ir-small"})).exit_code, 2);
  expect_refused(with_weights({"--model", "ir-small", "--device", "tpu"}), "--device tpu: one of cpu, cuda is needed");
}

TEST_F(VerifyWeightsTest, BadImagesAreNamedAndNothingIsLost) {
  write_bytes(features_, "what was there before");
  const std::string last = path(9, 2);
  const Words arguments = with_weights({"--model", "ir-small", "--save-features", features_});
  write_bytes(last, pgm(9, 2).substr(0, 5000));
  const Outcome outcome = run_verify(arguments);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.errors.find(last), std::string::npos) << outcome.errors;
  std::filesystem::remove(last);
  const std::string jpeg = last.substr(0, last.size() - 4) + ".jpg";
  expect_refused(arguments,
                 jpeg + ", which " + pairs_ + ", line 19, names, is absent, and so are .jpeg, .png and .pgm");
  EXPECT_EQ(read_bytes(features_), "what was there before");
}

TEST_F(VerifyWeightsTest, BinFiles) {
  const std::string bin = std::string(MMA_TEST_DATA) + "/python2.bin";
  const std::string other = std::string(MMA_TEST_DATA) + "/arrays_protocol5.bin";
  const Words words = {weights_, "--model", "ir-small", "--number-of-folds", "2", "--bin", bin};
  Words both = words;
  both.push_back(other);
  const json sets = judged(both).at("sets");
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0].at("name"), "python2");
  EXPECT_EQ(sets[0].at("images"), 6);
  EXPECT_EQ(sets[0].at("folds"), sets[1].at("folds"));  // the same images
  Words saving = words;
  saving.insert(saving.end(), {"--save-features", features_});
  judged(saving);
  const at::Tensor rows = *read_tensor_file(features_).find("features");
  ASSERT_EQ(rows.size(0), 8);
  EXPECT_TRUE(at::equal(rows[0], rows[4]));  // pairs 0 1, 2 3, 0 2, 4 5
  EXPECT_TRUE(at::equal(rows[2], rows[5]));
  EXPECT_FALSE(at::equal(rows[0], rows[1]));
  EXPECT_EQ(judged({"--features", features_, "--bin", bin, "--number-of-folds", "2"}).at("sets")[0], sets[0]);
  const Outcome outcome = run_verify({weights_, "--model", "ir-small", "--number-of-folds", "2", "--bin",
                                      std::string(MMA_TEST_DATA) + "/not_images.bin"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_NE(outcome.errors.find("not_images.bin: its image 4 of 8"), std::string::npos) << outcome.errors;
}

}  // namespace
}  // namespace mma::examples
