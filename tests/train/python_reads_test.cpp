// What a run leaves is read back by Python's own readers: TensorBoard's events, safetensors' weights.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "../child_process.hpp"
#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"

namespace mma::tests {
namespace {

using Words = std::vector<std::string>;
using Fields = std::vector<std::string>;

/// The lines that tests/train/python_reads.py prints, cut at their tabulators.
std::vector<Fields> python_reads(const std::string& what, const std::string& path) {
  ChildProcess python({MMA_PYTHON_READERS, MMA_PYTHON_READS, what, path});
  EXPECT_EQ(python.finish(), 0) << python.errors();
  std::vector<Fields> lines;
  std::istringstream text(python.output());
  for (std::string line; std::getline(text, line);) {
    std::istringstream cut(line);
    lines.emplace_back();
    for (std::string field; std::getline(cut, field, '\t');) lines.back().push_back(field);
  }
  return lines;
}

class PythonReads : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(MMA_PYTHON_READERS).empty()) {
      GTEST_SKIP() << "no Python with tensorboard and safetensors: configure with -DMMA_PYTHON_READERS=python";
    }
    write_tiny_fashion_mnist(folder_ / "data", 24, 16);
  }

  /// Two epochs of a small run.
  Words training(const Words& more = {}) const {
    Words words = {MMA_TRAIN_PROGRAM,
                   "--model",
                   "resnet20",
                   "--dataset",
                   "fashion-mnist",
                   "--data",
                   folder_ / "data",
                   "--batch",
                   "8",
                   "--epochs",
                   "2",
                   "--threads",
                   "1",
                   "--out",
                   run()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  void train(const Words& more = {}) const {
    ChildProcess child(training(more));
    ASSERT_EQ(child.finish(), 0) << child.errors();
  }

  void expect_that_the_events_are_the_metrics() const {
    std::map<std::string, std::map<int, double>> values;
    for (const Fields& line : python_reads("events", run())) {
      ASSERT_EQ(line.size(), 4u);
      EXPECT_TRUE(values[line[0]].emplace(std::stoi(line[1]), std::stod(line[2])).second) << line[0] << " twice";
      EXPECT_GT(std::stod(line[3]), 1.6e9);
    }
    std::ifstream metrics(run() + "/metrics.jsonl");
    int epoch = 0;
    for (std::string text; std::getline(metrics, text);) {
      const auto json = nlohmann::json::parse(text);
      ++epoch;
      const auto expect = [&](const std::string& tag, const nlohmann::json& value) {
        EXPECT_FLOAT_EQ(static_cast<float>(values[tag][epoch]), value.get<float>()) << tag;
      };
      expect("loss/cross_entropy", json["loss"]);
      expect("loss/regularization", json["regularization_loss"]);
      expect("accuracy/top1_percent", json["top1_percent"]);
      expect("accuracy/top5_percent", json["top5_percent"]);
      expect("learning_rate", json["learning_rate"]);
      expect("angles/mean_nearest_degrees", json["mean_nearest_angle_degrees"]);
      expect("angles/pairs_above_0.2", json["pairs_above_0.2"]);
      expect("cost/seconds_per_step", json["seconds_per_step"]);
      expect("minimal_angle_degrees/layer2.0.conv1", json["minimal_angle_degrees"]["layer2.0.conv1"]);
    }
    EXPECT_EQ(epoch, 2);
    EXPECT_EQ(values["accuracy/top1_percent"].size(), 2u);
  }

  /// Against the checkpoint's tensors, which are read by our own reader.
  void expect_that_the_weights_are_the_checkpoints(const std::string& reader) const {
    const auto checkpoint = examples::read_tensor_file(run() + "/checkpoint.safetensors");
    size_t count = 0;
    for (const auto& [name, tensor] : checkpoint.tensors) count += name.starts_with("model.");
    const std::vector<Fields> lines = python_reads(reader, folder_ / "weights.safetensors");
    EXPECT_EQ(lines.size(), count);
    for (const Fields& line : lines) {
      ASSERT_EQ(line.size(), 4u);
      const at::Tensor* tensor = checkpoint.find("model." + line[0]);
      ASSERT_NE(tensor, nullptr) << line[0];
      std::string shape;
      for (const int64_t size : tensor->sizes()) shape.append(shape.empty() ? "" : "x").append(std::to_string(size));
      EXPECT_EQ(line[1], shape) << line[0];
      EXPECT_EQ(line[2], tensor->is_floating_point() ? "float32" : "int64") << line[0];
      EXPECT_NEAR(std::stod(line[3]), tensor->to(at::kDouble).sum().item<double>(), 1e-9) << line[0];
    }
  }

  std::string run() const { return folder_ / "run"; }
  TemporaryFolder folder_;
};

TEST_F(PythonReads, TheEventsOfARun) {
  train();
  expect_that_the_events_are_the_metrics();
}

TEST_F(PythonReads, TheEventsOfARunInTwoParts) {
  ChildProcess child(training());
  ASSERT_TRUE(child.wait_for_line("epoch 1/2")) << child.errors();
  child.send(SIGTERM);
  child.finish();
  std::ofstream(run() + "/events.out.tfevents.mma", std::ios::app) << "part of a record, as a killed run may leave";
  ChildProcess rest({MMA_TRAIN_PROGRAM, "--resume", "--out", run()});
  ASSERT_EQ(rest.finish(), 0) << rest.errors();
  expect_that_the_events_are_the_metrics();
}

TEST_F(PythonReads, ExportedWeights) {
  train({"--export", folder_ / "weights.safetensors"});
  expect_that_the_weights_are_the_checkpoints("weights");
  std::filesystem::remove(folder_ / "weights.safetensors");
  ChildProcess child({MMA_TRAIN_PROGRAM, "--export", folder_ / "weights.safetensors", "--out", run()});
  ASSERT_EQ(child.finish(), 0) << child.errors();
  expect_that_the_weights_are_the_checkpoints("weights");
}

TEST_F(PythonReads, ExportedWeightsInPyTorch) {
  ChildProcess python({MMA_PYTHON_READERS, "-c", "import torch"});
  if (python.finish() != 0) GTEST_SKIP() << "this Python has no PyTorch";
  train({"--export", folder_ / "weights.safetensors"});
  expect_that_the_weights_are_the_checkpoints("torch");
}

}  // namespace
}  // namespace mma::tests
