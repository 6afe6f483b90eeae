// mma-reproduce as a user runs it, on small data sets: every table and figure at smoke scale, interrupted and resumed,
// refusing bad input in one sentence.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

#include "../child_process.hpp"
#include "../temporary_folder.hpp"
#include "../training/data/jpeg_files.hpp"
#include "../training/run/run_files.hpp"
#include "support/files/folder_lock.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

/// TinyImageNet's layout with 3 classes, 27 training and 6 test images.
void write_tiny_imagenet(const fs::path& folder) {
  std::string classes, annotations;
  for (int label = 0; label < 3; ++label) {
    const std::string name = "n0" + std::to_string(label);
    classes += name + "\n";
    for (int i = 0; i < 9; ++i) {
      write_jpeg(folder / "train" / name / "images" / (name + "_" + std::to_string(i) + ".JPEG"), i);
    }
    for (int i = 0; i < 2; ++i) {
      const std::string image = "val_" + std::to_string(2 * label + i) + ".JPEG";
      write_jpeg(folder / "val" / "images" / image, label);
      annotations += image + "\t" + name + "\t0\t0\t63\t63\n";
    }
  }
  write_bytes(folder / "wnids.txt", classes);
  write_bytes(folder / "val" / "val_annotations.txt", annotations);
}

class MmaReproduce : public testing::Test {
 protected:
  MmaReproduce() { write_tiny_cifar100(at("cifar100"), 40, 10); }

  std::string at(const std::string& name) const { return folder_ / name; }
  std::string text_of(const std::string& name) const { return read_bytes(at(name)); }

  Words command(const Words& what, const std::string& out, const Words& more = {}) const {
    return Words{MMA_REPRODUCE_PROGRAM} + what +
           Words{"--out",     at(out), "--cifar100", at("cifar100"), "--tiny-imagenet", at("tiny-imagenet"),
                 "--threads", "1"} +
           more;
  }

  Words smoke(const Words& what, const std::string& out, const Words& more = {}) const {
    return command(what, out, Words{"--scale", "smoke"} + more);
  }

  /// Two runs of ResNet56: the cheapest.
  Words figure6(const std::string& out, const Words& more = {}) const {
    return smoke({"figure6"}, out, Words{"--seeds", "1"} + more);
  }

  static std::string output_of(const Words& words, int exit_code = 0) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), exit_code) << child.output() << child.errors();
    return child.output();
  }

  static std::string refusal(const Words& words) {
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 2) << child.output();
    const std::string& text = child.errors();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("mma-reproduce: ")) << text;
    return text.substr(0, text.size() - 1).substr(text.find(' ') + 1);
  }

  /// Weights and metrics of all runs, and the reports that hold no seconds.
  void expect_equal(const std::string& one, const std::string& other, const std::string& csv) const {
    EXPECT_EQ(text_of(one + "/" + csv), text_of(other + "/" + csv));
    size_t runs = 0;
    for (const auto& run : fs::directory_iterator(at(one + "/runs"))) {
      SCOPED_TRACE(run.path().filename());
      expect_equal_runs(run.path(), fs::path(at(other)) / "runs" / run.path().filename());
      ++runs;
    }
    EXPECT_GT(runs, 0u);
  }

  TemporaryFolder folder_;
};

/// The processes that a process has started.
std::vector<pid_t> children_of(pid_t parent) {
  const std::string id = std::to_string(parent);
  std::istringstream list(read_bytes("/proc/" + id + "/task/" + id + "/children"));
  std::vector<pid_t> children;
  for (pid_t child = 0; list >> child;) children.push_back(child);
  return children;
}

TEST_F(MmaReproduce, RunsEveryTableAndFigure) {
  write_tiny_imagenet(at("tiny-imagenet"));
  const std::string output = output_of(smoke({"all", "study"}, "out", {"--seeds", "1", "--epochs", "1"}));
  EXPECT_CONTAINS(output,
                  "run 1 of 35: vgg19-bn-cifar100-none-seed1 (0 finished, 35 left beside 0 running; time left: "
                  "unknown)\n");
  EXPECT_CONTAINS(output, "run 35 of 35: ");
  const std::string joined = text_of("out/report.md");
  for (const char* name : {"table2", "table3", "table4", "table5", "table6", "figure1", "figure3", "figure4", "figure5",
                           "figure6", "study"}) {
    SCOPED_TRACE(name);
    const std::string file = "out/" + std::string(name);
    EXPECT_EQ(text_of(file + ".md").find("not run"), std::string::npos) << text_of(file + ".md");
    EXPECT_EQ(text_of(file + ".csv").find("not run"), std::string::npos) << text_of(file + ".csv");
    EXPECT_CONTAINS(text_of(file + ".md"), "**Smoke test**");
    const std::string title = text_of(file + ".md").substr(2, 20);
    EXPECT_CONTAINS(joined, "## " + title);
    EXPECT_TRUE(fs::exists(at(file + ".png")) || std::system("gnuplot -V >/dev/null 2>&1") != 0);
  }
  EXPECT_CONTAINS(joined, "35 of 35 runs are finished.");
}

TEST_F(MmaReproduce, DoesNotRepeatWhatIsFinished) {
  const std::string checkpoint = at("out/runs/resnet56-cifar100-none-seed1/checkpoint.safetensors");
  output_of(figure6("out"));
  const auto written = fs::last_write_time(checkpoint);
  EXPECT_EQ(output_of(figure6("out", {"--resume"})),
            "2 of 2 runs are finished; the report: " + at("out/figure6.md") + "\n");
  const std::string more = output_of(smoke({"figure6"}, "out", {"--seeds", "1,2", "--resume", "--jobs", "2"}));
  EXPECT_EQ(fs::last_write_time(checkpoint), written);
  EXPECT_CONTAINS(more, "run 3 of 4: resnet56-cifar100-none-seed2 (2 finished, 2 left beside 0 running; time left: ");
  EXPECT_CONTAINS(more, "\nresnet56-cifar100-none-seed2: epoch 2/2");  // lines of several runs carry their names
  EXPECT_CONTAINS(text_of("out/figure6.md"), "4 of 4 runs are finished");
}

enum class Ending { interrupted, terminated, parent_killed, both_killed };

/// In the middle of the second run. The run itself, a process of its own, dies with its parent in the last case alone.
void end_early(ChildProcess& reproduction, Ending ending) {
  ASSERT_TRUE(reproduction.wait_for_line("run 2 of 2")) << reproduction.errors();
  ASSERT_TRUE(reproduction.wait_for_line("epoch 1/2")) << reproduction.errors();
  const std::vector<pid_t> trainings = children_of(reproduction.id());
  const bool killed = ending == Ending::parent_killed || ending == Ending::both_killed;
  reproduction.send(killed ? SIGKILL : ending == Ending::interrupted ? SIGINT : SIGTERM);
  if (ending == Ending::both_killed) {
    ASSERT_EQ(trainings.size(), 1u);
    kill(trainings.front(), SIGKILL);
  }
}

TEST_F(MmaReproduce, EndedEarlyItGoesOnToTheSameBits) {
  output_of(figure6("whole"));
  const std::map<Ending, int> endings = {{Ending::interrupted, 128 + SIGINT},
                                         {Ending::terminated, 128 + SIGTERM},
                                         {Ending::parent_killed, -SIGKILL},
                                         {Ending::both_killed, -SIGKILL}};
  for (const auto& [ending, exit_code] : endings) {
    const std::string out = "ending" + std::to_string(static_cast<int>(ending));
    SCOPED_TRACE(out);
    ChildProcess child(figure6(out));
    end_early(child, ending);
    ASSERT_EQ(child.finish(), exit_code) << child.errors();
    if (exit_code > 0) {
      EXPECT_CONTAINS(child.output(), "1 of 2 runs are finished; the report: " + at(out + "/figure6.md") +
                                          "\ninterrupted; to go on: mma-reproduce figure6 --out " + at(out));
      EXPECT_CONTAINS(child.output(), "--resume\n");
      EXPECT_CONTAINS(text_of(out + "/figure6.md"), "| MMA | not run | not run | 0 of 1 |");
    }
    EXPECT_CONTAINS(output_of(figure6(out, {"--resume"})), "resnet56-cifar100-mma-0.03-all-seed1, resumed (1 finished");
    expect_equal("whole", out, "figure6.csv");
  }
}

TEST_F(MmaReproduce, KeepsASecondOneOutOfItsFolder) {
  ChildProcess child(figure6("out"));
  ASSERT_TRUE(child.wait_for_line("epoch 1/2")) << child.errors();
  const std::string sentence = at("out") + " is being written by process " + std::to_string(child.id()) +
                               ": wait for its end, or choose another folder by --out";
  EXPECT_EQ(refusal(figure6("out", {"--resume"})), sentence);
  EXPECT_EQ(refusal(figure6("out", {"--report-only"})), sentence);
  EXPECT_CONTAINS(output_of(figure6("out", {"--dry-run"})), "2 runs: ");  // it only reads
  EXPECT_EQ(child.finish(), 0) << child.errors();
  EXPECT_FALSE(fs::exists(at("out/.lock")));
}

TEST_F(MmaReproduce, WaitsForARunThatGoesOnWithoutIt) {
  output_of(figure6("out"));
  const std::string run = at("out/runs/resnet56-cifar100-none-seed1");
  std::optional<examples::FolderLock> lock(std::in_place, run);
  ChildProcess child(figure6("out", {"--resume"}));
  EXPECT_TRUE(child.wait_for_line("waiting for process " + std::to_string(getpid()) + " to end, which writes " + run));
  lock.reset();
  EXPECT_EQ(child.finish(), 0) << child.errors();
}

TEST_F(MmaReproduce, AFailedRunIsNamedAndTheOthersGoOn) {
  const fs::path run = at("out/runs/resnet56-cifar100-none-seed1");
  fs::create_directories(run.parent_path());
  write_bytes(run, "a file where a folder should be");
  const std::string output = output_of(figure6("out"), 1);
  EXPECT_CONTAINS(output, "resnet56-cifar100-none-seed1 failed with exit code 2; the others go on\nrun 2 of 2: ");
  EXPECT_CONTAINS(output, "failed: resnet56-cifar100-none-seed1 (exit code 2); to try them again: mma-reproduce");
  EXPECT_CONTAINS(text_of("out/figure6.md"), "| baseline | not run | not run | 0 of 1 |");
  EXPECT_CONTAINS(text_of("out/figure6.md"), "1 of 2 runs are finished");
}

TEST_F(MmaReproduce, PrintsThePlan) {
  const std::string plan = output_of(command({"table2", "table3"}, "out", {"--dry-run", "--seeds", "5"}));
  EXPECT_CONTAINS(plan, "vgg19-bn-cifar100-none-seed5: not run (table2 table3)\n  ");
  EXPECT_CONTAINS(plan, "/mma-train --recipe table2-baseline --seed 5 --threads 1 --data " + at("cifar100") +
                            " --out " + at("out/runs/vgg19-bn-cifar100-none-seed5") + "\n");
  EXPECT_CONTAINS(plan, "6 runs: 0 finished, 0 begun, 6 not run; time left: unknown\n");
}

TEST_F(MmaReproduce, ReportsWhatIsThere) {
  EXPECT_EQ(output_of(smoke({"table6"}, "out", {"--report-only"})), "");
  EXPECT_CONTAINS(text_of("out/table6.csv"), "ResNet56-MMA,0,not run,not run,55.24,not run,not run,");
  EXPECT_FALSE(fs::exists(at("out/runs")));
}

TEST_F(MmaReproduce, RefusesBadInput) {
  EXPECT_CONTAINS(refusal(command({"table7"}, "out")), "'table7' is none of what can be repeated: table2, ");
  EXPECT_CONTAINS(refusal({MMA_REPRODUCE_PROGRAM, "--resume"}), "WHAT is required");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--scale", "big"})), "--scale");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--seeds", "1,x"})), "--seeds x: whole numbers not below 0");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--seeds", "-1"})), "--seeds -1: whole numbers not below 0");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--seeds", "1,1"})), "--seeds: 1 is there twice");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--jobs", "0"})), "--jobs 0: at least 1 is needed");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--jobs", "5000"})), "--jobs 5000: at most 4096 is needed");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--device", "abacus"})), "--device abacus: one of cpu, cuda");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--cuda-graph"})), "--cuda-graph is for a GPU");
  EXPECT_CONTAINS(refusal(command({"table2"}, "out", {"--dry-run", "--report-only"})), "exclude each other");
  EXPECT_FALSE(fs::exists(at("out")));
  EXPECT_EQ(refusal(command({"table6"}, "out")),
            "--tiny-imagenet " + at("tiny-imagenet") + ": there is no such folder");
  write_bytes(at("file"), "");
  EXPECT_EQ(refusal(command({"table2"}, "file")),
            "--out " + at("file") + ": this folder cannot be made: Not a directory");
}

/// What somebody trains by hand is taken over, or refused when it is not the same.
TEST_F(MmaReproduce, AdoptsARunOrRefusesIt) {
  const std::string name = "resnet56-cifar100-none-seed1";
  const auto by_hand = [&](const std::string& epochs) {
    fs::remove_all(at("out"));
    output_of({fs::path(MMA_REPRODUCE_PROGRAM).parent_path() / "mma-train",
               "--model",
               "resnet56",
               "--dataset",
               "cifar100",
               "--data",
               at("cifar100"),
               "--regularizer",
               "none",
               "--seed",
               "1",
               "--threads",
               "1",
               "--epochs",
               epochs,
               "--batch",
               "8",
               "--limit-train",
               "24",
               "--limit-test",
               "64",
               "--out",
               at("out/runs/" + name)});
  };
  by_hand("1");
  EXPECT_EQ(refusal(figure6("out", {"--resume"})),
            at("out/runs/" + name) +
                " holds another run than the one wanted (its epochs is 1, not 2): move it away, or "
                "choose another --out");
  by_hand("2");
  EXPECT_EQ(refusal(figure6("out")), at("out") +
                                         " already holds 1 of the 2 runs: go on with them by --resume, or "
                                         "choose another folder by --out");
  EXPECT_CONTAINS(output_of(figure6("out", {"--dry-run"})), name + ": finished (figure6)\n");
}

TEST_F(MmaReproduce, RefusesAConfigThatIsNestedWithoutEnd) {
  for (const std::string level : {"[", "{\"a\":"}) {
    std::string deep;
    for (int k = 0; k < 100000; ++k) deep += level;
    const std::string run = at("out/runs/resnet56-cifar100-none-seed1");
    fs::create_directories(run);
    write_bytes(run + "/config.json", deep);
    EXPECT_EQ(refusal(figure6("out", {"--resume"})), "the config.json in " + run +
                                                         " is not one that mma-train wrote: it is nested more than 64 "
                                                         "deep");
  }
}

TEST_F(MmaReproduce, NeedsAnOutputForWhatItPrints) {
  expect_output_needed(figure6("out", {"--dry-run"}), "mma-reproduce");
  expect_output_needed({MMA_REPRODUCE_PROGRAM, "--help"}, "mma-reproduce");
}

TEST_F(MmaReproduce, NamesFilesThatTheSystemRefuses) {
  const std::string name(5000, 'n');
  fs::create_symlink(at("loop"), at("loop"));
  EXPECT_EQ(refusal(figure6(name)), "--out " + at(name) + ": this folder cannot be made: File name too long");
  EXPECT_EQ(refusal(figure6("loop")),
            "--out " + at("loop") + ": this folder cannot be made: Too many levels of symbolic links");
  EXPECT_EQ(refusal(Words{MMA_REPRODUCE_PROGRAM, "figure6", "--out", at("out"), "--cifar100", at(name)}),
            "cannot use " + at(name) + ": File name too long");
}

TEST_F(MmaReproduce, HelpsWithExamples) {
  const std::string help = output_of({MMA_REPRODUCE_PROGRAM, "--help"});
  for (const char* part : {"Examples:\n  mma-reproduce table3", "--seeds", "--tiny-imagenet", "--jobs", "smoke"}) {
    EXPECT_CONTAINS(help, part);
  }
}

}  // namespace
}  // namespace mma::tests
