// The table of runs whose files are written here by hand.
#include "train/compare.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "../temporary_folder.hpp"
#include "../training/run/tiny_data.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::write_bytes;

std::string config(const std::string& regularizer, int epochs) {
  return R"({"settings": {"model": "resnet20", "dataset": "cifar100", "data": "d", "recipe": "resnet", "regularizer": ")" +
         regularizer + R"(", "coefficient": 0.03, "scope": "all", "refresh_every": 1, "epochs": )" +
         std::to_string(epochs) +
         R"(, "batch": 128, "learning_rate": 0.1, "milestones": [81, 122], "momentum": 0.9, "weight_decay": 1e-4,
         "nesterov": false, "rate_divisor": 10, "dropout": 0, "autoaugment": false, "cutout": 0, "mean": [],
         "deviation": [], "seed": 1, "limit_train": 0, "limit_test": 0, "device": "cpu", "precision": "float32",
         "channels_last": true, "cuda_graph": false, "threads": 1,
         "checkpoint_steps": 0}})";
}

std::string epoch_line(int epoch, double top1, double seconds) {
  std::ostringstream line;
  line << R"({"epoch": )" << epoch
       << R"(, "learning_rate": 0.1, "loss": 1, "regularization_loss": -0.5, "top1_percent": )" << top1
       << R"(, "top5_percent": 91.5, "mean_nearest_angle_degrees": 70, "pairs_above_0.2": 345, )"
       << R"("minimal_angle_degrees": {"conv1": 41.25, "layer1": null, "fc": 60.75}, "seconds": )" << seconds << "}\n";
  return line.str();
}

class Compare : public testing::Test {
 protected:
  void write_run(const std::string& name, const std::string& regularizer, int epochs, const std::string& lines) {
    fs::create_directories(folder_ / name);
    write_bytes(folder_ / name / "config.json", config(regularizer, epochs));
    write_bytes(folder_ / name / "metrics.jsonl", lines);
  }

  std::string run(const std::string& name) const { return folder_ / name; }

  std::string refusal(const std::string& name) const {
    std::ostringstream text;
    try {
      compare_runs({run(name)}, {}, text);
    } catch (const UserError& error) {
      EXPECT_EQ(text.str(), "");
      return error.what();
    }
    return "";
  }

  /// The words of each line of the table.
  std::vector<std::vector<std::string>> table(const std::vector<std::string>& names) const {
    std::vector<std::string> folders;
    for (const std::string& name : names) folders.push_back(run(name));
    std::stringstream text;
    compare_runs(folders, {}, text);
    std::vector<std::vector<std::string>> lines;
    for (std::string line; std::getline(text, line);) {
      std::istringstream words(line);
      lines.emplace_back();
      for (std::string word; words >> word;) lines.back().push_back(word);
    }
    return lines;
  }

  mma::tests::TemporaryFolder folder_;
};

using Words = std::vector<std::string>;

TEST_F(Compare, TellsTheFiguresOfEachRun) {
  std::string six;
  for (int epoch = 1; epoch <= 6; ++epoch) six += epoch_line(epoch, 10 * epoch, epoch == 1 ? 99 : epoch);
  write_run("with", "mma", 6, six);
  write_run("without", "none", 164, epoch_line(1, 12.345, 2.5));
  const auto lines = table({"without", "with"});
  ASSERT_EQ(lines.size(), 5u);
  // top-1 of the last epoch, mean of the last five, top-5, smallest and mean minimal angle, pairs, median seconds
  EXPECT_EQ(lines[2], (Words{run("without"), "resnet20", "none", "1/164", "12.35", "12.35", "91.50", "41.2", "51.0",
                             "345", "2.5", "-", "-"}));
  EXPECT_EQ(lines[3], (Words{run("with"), "resnet20", "mma", "0.03", "6", "60.00", "40.00", "91.50", "41.2", "51.0",
                             "345", "5.0", "-", "-"}));
}

TEST_F(Compare, TellsStepsAndMemoryAndTheAnglesOfLayers) {
  std::string line = epoch_line(1, 50, 2.5);
  line.replace(line.find("}\n", line.find("seconds")), 1, R"(, "seconds_per_step": 0.0124, "peak_memory_mib": 512.4})");
  write_run("new", "orthogonal", 1, line);
  std::ostringstream text;
  compare_runs({run("new")}, {.layers = {"fc", "conv1"}, .markdown = true}, text);
  EXPECT_EQ(
      text.str(),
      "| run | model | regularizer | epochs | top-1 last % | top-1 % mean of 5 | top-5 last % | smallest min. angle "
      "| mean min. angle | pairs cos > 0.2 | seconds an epoch | seconds a step | peak MiB | min. angle fc "
      "| min. angle conv1 |\n"
      "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
      "| " +
          run("new") +
          " | resnet20 | orthogonal 0.03 | 1 | 50.00 | 50.00 | 91.50 | 41.2 | 51.0 | 345 | 2.5 | 0.012 | 512 "
          "| 60.8 | 41.2 |\n\n"
          "Angles in degrees, over the layers of the network after the last epoch; seconds: medians over the "
          "epochs.\n");
  try {
    compare_runs({run("new")}, {.layers = {"fc9"}}, text);
    ADD_FAILURE() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "--layers: the run in " + run("new") + " has no layer fc9, only conv1, layer1, fc");
  }
}

TEST_F(Compare, DrawsThePicture) {
  if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  write_run("a", "none", 2, epoch_line(1, 50, 1) + epoch_line(2, 60, 1));
  std::ostringstream text;
  compare_runs({run("a"), run("a")}, {.picture = run("picture.png")}, text);
  EXPECT_TRUE(mma::tests::read_bytes(folder_ / "picture.png").starts_with("\x89PNG"));
  EXPECT_NE(text.str().find("Picture: " + run("picture.png")), std::string::npos);
}

TEST_F(Compare, RefusesAFolderWithoutARun) {
  EXPECT_EQ(refusal("nothing"), run("nothing") + " holds no run of mma-train: it has no config.json");
}

TEST_F(Compare, RefusesForeignFiles) {
  write_run("foreign", "mma", 1, "{\"epoch\": 1}\n");
  const std::string no_metrics = "the metrics.jsonl in " + run("foreign") + " is not one that mma-train wrote: ";
  EXPECT_EQ(refusal("foreign"), no_metrics + "in line 1, there is no 'learning_rate'");
  write_run("foreign", "mma", 1, epoch_line(2, 50, 1));
  EXPECT_EQ(refusal("foreign"), no_metrics + "in line 1, 'epoch' is 2; expected 1");
  write_run("foreign", "mma", 1, epoch_line(1, 101, 1));
  EXPECT_EQ(refusal("foreign"),
            no_metrics + "in line 1, 'top1_percent' is 101; expected a number from 0 to 100, or null");
  write_run("foreign", "mma", 1, epoch_line(1, 50, 1) + std::string(100000, '['));
  EXPECT_EQ(refusal("foreign"), no_metrics + "line 2 is nested more than 64 deep");
}

TEST_F(Compare, RefusesSettingsThatNoRunCanHave) {
  const std::string no_config = "the config.json in " + run("wrong") + " is not one that mma-train wrote: ";
  const auto with_config = [&](const std::string& text) {
    write_run("wrong", "mma", 1, epoch_line(1, 50, 1));
    write_bytes(folder_ / "wrong" / "config.json", text);
    return refusal("wrong");
  };
  EXPECT_EQ(with_config("{}"), no_config + "in it, there is no 'settings'");
  EXPECT_EQ(with_config("[]"), no_config + "in it, there is no 'settings'");
  EXPECT_EQ(with_config(R"({"settings": 1})"), no_config + "in it, 'settings' is 1; expected an object");
  EXPECT_EQ(with_config(R"({"settings": {}})"), no_config + "in its settings, there is no 'model'");
  EXPECT_EQ(with_config(config("mma", 0)), no_config + "--epochs 0: at least 1 is needed");
  EXPECT_EQ(with_config(std::string(100000, '[')), no_config + "it is nested more than 64 deep");
  EXPECT_EQ(with_config("{"), no_config + "it is not valid JSON");
  EXPECT_EQ(with_config(config("mma", 1)), "");
}

TEST_F(Compare, RefusesARunWithoutAFinishedEpoch) {
  write_run("young", "mma", 1, "");
  EXPECT_EQ(refusal("young"), "the run in " + run("young") + " has not finished an epoch yet");
}

}  // namespace
}  // namespace mma::examples
