// mma-faces train as a user runs it: learns, resumes with the same bits, exports, refuses bad input in one sentence.
#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "../child_process.hpp"
#include "../launched.hpp"
#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"
#include "faces/face_settings.hpp"
#include "faces/face_trainer.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr int identities = 5;

/// A noisy grey face of 112 x 112 whose bright quarter and brightness tell the identity.
std::string pgm(int identity, std::mt19937& random) {
  std::string bytes = "P5\n112 112\n255\n";
  for (int y = 0; y < 112; ++y) {
    for (int x = 0; x < 112; ++x) {
      const bool bright = (y / 56 * 2 + x / 56) == identity % 4;
      bytes += static_cast<char>((bright ? 150 : 40 + 15 * identity) + static_cast<int>(random() % 32));
    }
  }
  return bytes;
}

class TrainFaces : public testing::Test {
 protected:
  TrainFaces() {
    std::mt19937 random(1);
    for (int identity = 0; identity < identities; ++identity) {
      const fs::path folder = faces() + "/person" + std::to_string(identity);
      fs::create_directories(folder);
      for (int image = 1; image <= 6; ++image) {
        write_bytes(folder / (std::to_string(image) + ".pgm"), pgm(identity, random));
      }
    }
  }

  std::string at(const std::string& name) const { return folder_ / name; }
  std::string faces() const { return at("faces"); }

  /// A new run of two epochs of four steps; a value in `more` replaces one of these.
  Words run_into(const std::string& out, const Words& more = {}) const {
    Words words = {MMA_FACES_PROGRAM, "train", "--model", "ir-small", "--grey", "--data", faces(), "--out", at(out)};
    const std::vector<Words> defaults = {{"--batch", "6"},    {"--threads", "1"}, {"--epochs", "2"},
                                         {"--hold-out", "1"}, {"--scale", "16"},  {"--lr", "0.05"}};
    for (const Words& option : defaults) {
      if (std::find(more.begin(), more.end(), option[0]) == more.end()) {
        words.insert(words.end(), option.begin(), option.end());
      }
    }
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  static void expect_success(const Words& words) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 0) << child.errors();
  }

  /// The sentence with which the program refuses.
  static std::string refusal(const Words& words) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 2) << child.output();
    const std::string& text = child.errors();
    const size_t start = text.rfind("mma-faces: ");
    return start == std::string::npos ? text : text.substr(start);
  }

  nlohmann::json history(const std::string& run) const {
    return record_of(at(run) + "/checkpoint.safetensors").at("history");
  }

  TemporaryFolder folder_;
};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(TrainFaces, LearnsAndMmaSpreadsTheClassesApart) {
  const Words longer = {"--epochs", "12"};  // at 5 it depends on the seed whether so few images are learnt
  const auto with = [&](const Words& more) {
    Words words = longer;
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  expect_success(run_into("arcface", with({"--regularizer", "none"})));
  expect_success(run_into("arcface-plus", with({"--coefficient", "1"})));
  EXPECT_GE(history("arcface").back().at("top1_percent").get<double>(), 80);
  const auto angle_of_head = [&](const std::string& run) {
    return history(run).back().at("minimal_angle_degrees").at("head").get<double>();
  };
  // Five points lie at most 104.48 degrees apart (Eq 4).
  EXPECT_GT(angle_of_head("arcface-plus"), angle_of_head("arcface"));
  EXPECT_LE(angle_of_head("arcface-plus"), 104.4776);
  EXPECT_EQ(history("arcface").back().at("regularization_loss"), 0);
}

TEST_F(TrainFaces, RegularizesTheHeadAlone) {
  expect_success(run_into("run", {"--epochs", "1"}));
  const auto settings = record_of(at("run/checkpoint.safetensors")).at("settings");
  EXPECT_EQ(settings.at("scope"), "output");
  EXPECT_EQ(settings.at("coefficient"), 0.03);
  EXPECT_EQ(settings.at("faces").at("channels"), 1);
  // The value is that of the head: -0.03 times its mean nearest angle, which lies between 0 and pi.
  const double loss = history("run").back().at("regularization_loss").get<double>();
  EXPECT_LT(loss, -0.03 * 0.5);
  EXPECT_GT(loss, -0.03 * 3.15);
}

TEST_F(TrainFaces, InterruptedEndsWithTheSameBits) {
  const Words longer = {"--epochs", "3", "--checkpoint-steps", "2"};
  expect_success(run_into("whole", longer));
  for (const int signal : {SIGTERM, SIGKILL}) {
    const std::string out = "signal" + std::to_string(signal);
    ChildProcess child(run_into(out, longer));
    ASSERT_TRUE(child.wait_for_line("epoch 1/3")) << child.errors();
    child.send(signal);
    child.finish();
    expect_success({MMA_FACES_PROGRAM, "train", "--resume", "--out", at(out)});
    expect_equal_runs(at("whole"), at(out));
  }
}

TEST_F(TrainFaces, InTwoProcessesIsTheSameTraining) {
  if (!mma::tests::has_several_processes) GTEST_SKIP() << "built without gloo's headers (Debian: libgloo-dev)";
  // So small a rate that the order of a sum does not grow into another training.
  const Words longer = {"--epochs", "3", "--lr", "0.0001", "--sync-batch-norm", "--timeout", "30"};
  expect_success(run_into("one", longer));
  {
    mma::tests::Launched two(2, run_into("two", longer));
    ASSERT_TRUE(two[0].wait_for_line("epoch 1/3")) << two.errors();
    two[1].send(SIGTERM);
    EXPECT_EQ(two.finish(), (std::vector<int>{128 + SIGTERM, 128 + SIGTERM})) << two.errors();
    EXPECT_EQ(two[1].errors(), "");
  }
  mma::tests::Launched two(2, {MMA_FACES_PROGRAM, "train", "--resume", "--out", at("two")});
  EXPECT_EQ(two.finish(), (std::vector<int>{0, 0})) << two.errors();
  for (size_t epoch = 0; epoch < 3; ++epoch) {
    const auto figure = [&](const char* run, const char* name) {
      return history(run).at(epoch).at(name).get<double>();
    };
    EXPECT_NEAR(figure("two", "loss"), figure("one", "loss"), 1e-3 * figure("one", "loss"));
    EXPECT_NEAR(figure("two", "regularization_loss"), figure("one", "regularization_loss"), 1e-4);
  }
}

TEST_F(TrainFaces, KeepsASecondProgramOutOfARunThatIsGoingOn) {
  ChildProcess child(run_into("run", {"--epochs", "100000"}));
  ASSERT_TRUE(child.wait_for_line("epoch ")) << child.errors();
  EXPECT_CONTAINS(refusal({MMA_FACES_PROGRAM, "train", "--resume", "--out", at("run")}),
                  at("run") + " is being written by process " + std::to_string(child.id()));
  child.send(SIGTERM);
  EXPECT_EQ(child.finish(), 128 + SIGTERM) << child.errors();
}

TEST_F(TrainFaces, WithoutHeldOutImagesThereIsNoAccuracy) {
  ChildProcess child(run_into("run", {"--hold-out", "0", "--epochs", "1"}));
  ASSERT_EQ(child.finish(), 0) << child.errors();
  EXPECT_EQ(child.output().find("top-1"), std::string::npos) << child.output();
  EXPECT_CONTAINS(child.output(), "30 training and 0 test images");
  EXPECT_TRUE(history("run").back().at("top1_percent").is_null());
}

TEST_F(TrainFaces, LeavesOutTheIdentitiesOfPairs) {
  write_bytes(at("pairs.txt"), "2\t1\nperson0\t1\t2\nperson0\t1\tperson1\t2\nperson2\t1\t2\nperson2\t1\tperson3\t2\n");
  ChildProcess child(run_into("run", {"--epochs", "1", "--exclude-pairs", at("pairs.txt"), "--exclude-folds", "2"}));
  ASSERT_EQ(child.finish(), 0) << child.errors();
  EXPECT_CONTAINS(child.errors(), "3 identities from ");  // 0, 1 and 4
  EXPECT_EQ(record_of(at("run/checkpoint.safetensors")).at("classes"), 3);
  EXPECT_CONTAINS(refusal(run_into("all", {"--exclude-pairs", at("pairs.txt")})), "identit");  // only person4 is left
  EXPECT_CONTAINS(refusal(run_into("none", {"--exclude-pairs", at("pairs.txt"), "--exclude-folds", "3"})),
                  "--exclude-folds 3: ");
}

TEST_F(TrainFaces, BadImagesAreNamedAndSkippedOnlyWhenAsked) {
  const std::string bad = faces() + "/person3/2.pgm";
  write_bytes(bad, "P5\n112 112\n255\ntruncated");
  EXPECT_CONTAINS(refusal(run_into("run")), bad);
  EXPECT_FALSE(fs::exists(at("run")));
  ChildProcess child(run_into("run", {"--epochs", "1", "--skip-bad"}));
  ASSERT_EQ(child.finish(), 0) << child.errors();
  EXPECT_CONTAINS(child.errors(), bad);
  EXPECT_CONTAINS(child.errors(), "1 images that cannot be read");
}

TEST_F(TrainFaces, JudgesTheSettingsInACheckpointAsWhatIsTyped) {
  expect_success(run_into("run", {"--epochs", "1"}));
  const std::string checkpoint = at("run/checkpoint.safetensors");
  const examples::TensorFile whole = examples::read_tensor_file(checkpoint);
  const auto refused_with = [&](const std::string& faces) {
    examples::TensorFile edited = whole;
    nlohmann::json record = nlohmann::json::parse(whole.metadata.at("mma-train"));
    record["settings"]["faces"].merge_patch(nlohmann::json::parse(faces));
    edited.metadata["mma-train"] = record.dump();
    examples::write_tensor_file(checkpoint, edited);
    return refusal({MMA_FACES_PROGRAM, "train", "--resume", "--out", at("run")});
  };
  const std::string program = "mma-faces: " + checkpoint;
  EXPECT_EQ(refused_with(R"({"scale": 0})"),
            program + " holds settings that no run can have: --scale 0: a number above 0 is needed\n");
  EXPECT_EQ(refused_with(R"({"channels": 2})"),
            program + " holds settings that no run can have: images of 2 channels: 1 (--grey) or 3 are needed\n");
  EXPECT_EQ(refused_with(R"({"hold_out": 0.5})"),
            program + ": in the record of its run, 'hold_out' is 0.5; expected a whole number\n");
}

TEST_F(TrainFaces, RefusesBadInputInOneSentence) {
  EXPECT_CONTAINS(refusal(run_into("run", {"--margin", "4"})), "--margin 4: radians from 0 to below 3.14 are needed");
  EXPECT_CONTAINS(refusal(run_into("run", {"--scale", "0"})), "--scale 0: a number above 0 is needed");
  EXPECT_CONTAINS(refusal(run_into("run", {"--exclude-folds", "9"})), "--exclude-folds belongs to --exclude-pairs");
  EXPECT_CONTAINS(refusal({MMA_FACES_PROGRAM, "train", "--model", "ir-34", "--data", faces()}),
                  "--model ir-34: one of ir-18, ");
  fs::create_directories(at("empty"));
  EXPECT_CONTAINS(refusal({MMA_FACES_PROGRAM, "train", "--model", "ir-small", "--data", at("empty")}), at("empty"));
  expect_success(run_into("run", {"--epochs", "1"}));
  EXPECT_CONTAINS(refusal(run_into("run")), "already holds a run");
  EXPECT_CONTAINS(refusal({MMA_FACES_PROGRAM, "train", "--resume", "--out", at("run"), "--margin", "0.2"}),
                  "--margin 0.2 contradicts the run in " + at("run") + ", which has 0.5");
  EXPECT_CONTAINS(refusal({MMA_FACES_PROGRAM, "train", "--resume", "--out", at("run"), "--seed", "7"}),
                  "--seed 7 contradicts the run");
  ChildProcess other({MMA_TRAIN_PROGRAM, "--resume", "--out", at("run")});
  EXPECT_EQ(other.finish(), 2);
  EXPECT_CONTAINS(other.errors(), "holds a run of mma-faces train: go on with it by mma-faces train --resume");
}

TEST_F(TrainFaces, ItsCheckpointIsWhatVerifyReads) {
  expect_success(run_into("run"));
  write_bytes(at("pairs.txt"), "2\t1\nperson0\t1\t2\nperson0\t1\tperson1\t2\nperson2\t1\t2\nperson2\t1\tperson3\t2\n");
  for (int identity = 0; identity < identities; ++identity) {
    const std::string name = "person" + std::to_string(identity);
    for (int image = 1; image <= 2; ++image) {
      fs::rename(faces() + "/" + name + "/" + std::to_string(image) + ".pgm",
                 faces() + "/" + name + "/" + name + "_000" + std::to_string(image) + ".pgm");
    }
  }
  ChildProcess child({MMA_FACES_PROGRAM, "verify", at("run/checkpoint.safetensors"), "--pairs", at("pairs.txt"),
                      "--images", faces(), "--json"});
  ASSERT_EQ(child.finish(), 0) << child.errors();
  EXPECT_CONTAINS(child.output(), "accuracy");
}

/// The logits that are trained on are the cosines' times s, but for the label's, which has the margin.
TEST(FaceTrainer, AddsTheMarginToTheLabelAlone) {
  ::at::manual_seed(1);
  examples::Settings settings;
  settings.model = "ir-small";
  examples::set_face_settings({.channels = 1, .angular_margin = 0.3, .scale = 8}, settings);
  const auto network = examples::face_trainer().make_network(settings, {1, 112}, 7);
  network->eval();
  const c10::NoGradGuard no_grad;
  const ::at::Tensor images = ::at::randn({3, 1, 112, 112}), labels = ::at::tensor({6, 0, 3}, ::at::kLong);
  const ::at::Tensor plain = network->forward(images), trained = network->training_logits(images, labels);
  for (int64_t image = 0; image < 3; ++image) {
    for (int64_t identity = 0; identity < 7; ++identity) {
      const double cosine = plain[image][identity].item<double>() / 8;
      const bool own = identity == labels[image].item<int64_t>();
      EXPECT_NEAR(trained[image][identity].item<double>(), 8 * (own ? std::cos(std::acos(cosine) + 0.3) : cosine),
                  1e-4);
    }
  }
}

}  // namespace
}  // namespace mma::tests
