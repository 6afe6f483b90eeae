// mma-train in several processes, started as a launcher does it: the same training as in one, on any number of them
// after a resumption, and one sentence of one of them where it cannot go on.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "../launched.hpp"
#include "../temporary_folder.hpp"
#include "../training/run/run_files.hpp"
#include "training/run/recorded_run.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::expect_equal_runs;
using mma::tests::Launched;
using Words = std::vector<std::string>;

constexpr int lost = 3, bad_input = 2, terminated = 128 + SIGTERM, never_ends = 1000;

class SeveralProcesses : public mma::tests::SeveralProcessesTest {
 protected:
  SeveralProcesses() { mma::tests::write_tiny_fashion_mnist(folder_ / "data", 44, 20); }

  Words words(const std::string& out, int epochs, const Words& more = {}) const {
    Words words = {MMA_TRAIN_PROGRAM,
                   "--model",
                   "resnet20",
                   "--dataset",
                   "fashion-mnist",
                   "--data",
                   folder_ / "data",
                   "--batch",
                   "16",
                   "--lr",
                   "0.01",
                   "--threads",
                   "1",
                   "--epochs",
                   std::to_string(epochs),
                   "--sync-batch-norm",
                   "--out",
                   folder_ / out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  Words resuming(const std::string& out, const Words& more = {}) const {
    Words words = {MMA_TRAIN_PROGRAM, "--resume", "--out", folder_ / out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// Trains to the end in so many processes, of which the first alone says something.
  static void run(int processes, const Words& words) {
    if (processes == 1) {
      const mma::tests::Outcome outcome = mma::tests::outcome_of(words);
      ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
      return;
    }
    Launched launched(processes, words);
    ASSERT_EQ(launched.finish(), std::vector<int>(static_cast<size_t>(processes), 0)) << launched.errors();
    EXPECT_EQ(launched.errors(), "");
    EXPECT_TRUE(launched[0].output().find("epoch 2/") != std::string::npos) << launched[0].output();
    for (int rank = 1; rank < processes; ++rank) EXPECT_EQ(launched[static_cast<size_t>(rank)].output(), "");
  }

  /// Interrupts it after the first epoch by a signal to one of them; all stop at the same step.
  static void interrupt(int processes, const Words& words) {
    Launched launched(processes, words);
    ASSERT_TRUE(launched[0].wait_for_line("epoch ")) << launched.errors();
    launched[static_cast<size_t>(processes - 1)].send(SIGTERM);
    EXPECT_EQ(launched.finish(), std::vector<int>(static_cast<size_t>(processes), terminated)) << launched.errors();
    EXPECT_NE(launched[0].output().find("interrupted in epoch "), std::string::npos) << launched[0].output();
  }

  /// Two runs with the same curve, up to what the order of a sum changes, which grows from step to step: 1.4e-3 of the
  /// loss was seen in a build that rounds otherwise.
  void expect_same_curve(const std::string& one, const std::string& other) const {
    const auto first = read_history(folder_ / one), second = read_history(folder_ / other);
    ASSERT_EQ(first.size(), second.size());
    for (size_t epoch = 0; epoch < first.size(); ++epoch) {
      EXPECT_NEAR(first[epoch].loss, second[epoch].loss, 3e-3 * first[epoch].loss) << other;
      EXPECT_NEAR(first[epoch].regularization_loss, second[epoch].regularization_loss, 3e-5) << other;
    }
  }

  /// A training that never ends by itself, once it is under way.
  std::unique_ptr<Launched> under_way(int processes, const std::string& timeout) const {
    auto launched = std::make_unique<Launched>(processes, words("lost", never_ends, {"--timeout", timeout}));
    EXPECT_TRUE((*launched)[0].wait_for_line("epoch ")) << launched->errors();
    return launched;
  }

  mma::tests::TemporaryFolder folder_;
};

/// A suite of its own, so that ctest can run both at once.
class LostProcesses : public SeveralProcesses {};

/// One line, whoever wrote it.
void expect_one_sentence(const Launched& launched, const std::string& beginning) {
  const std::string errors = launched.errors();
  EXPECT_EQ(errors.substr(0, beginning.size()), beginning) << errors;
  EXPECT_EQ(std::ranges::count(errors, '\n'), 1) << errors;
}

TEST_F(SeveralProcesses, TrainAsOneDoes) {
  run(1, words("one", 2));
  for (const int processes : {2, 4}) {
    const std::string out = "several" + std::to_string(processes);
    run(processes, words(out, 2));
    expect_same_curve("one", out);
    for (const EpochMetrics& metrics : read_history(folder_ / out)) {
      EXPECT_GT(metrics.communication_share, 0);
      EXPECT_LT(metrics.communication_share, 1);
    }
    EXPECT_EQ(read_config(folder_ / out).at("processes"), processes);
  }
  EXPECT_EQ(read_history(folder_ / "one")[0].communication_share, 0);
  EXPECT_EQ(read_config(folder_ / "one").at("processes"), 1);
}

TEST_F(SeveralProcesses, GoOnOnAnotherNumber) {
  run(1, words("one", 3));
  for (const auto& [before, after] : {std::pair{2, 1}, {1, 2}, {2, 4}}) {
    const std::string out = std::to_string(before) + "then" + std::to_string(after);
    if (before == 1) {
      mma::tests::ChildProcess program(words(out, 3));
      ASSERT_TRUE(program.wait_for_line("epoch "));
      program.send(SIGTERM);
      ASSERT_EQ(program.finish(), terminated) << program.errors();
    } else {
      interrupt(before, words(out, 3));
    }
    run(after, resuming(out));
    expect_same_curve("one", out);
  }
}

TEST_F(SeveralProcesses, GoOnOnTheSameNumberWithTheSameBits) {
  run(2, words("whole", 2, {"--checkpoint-steps", "2", "--average", "0.9"}));
  interrupt(2, words("pieces", 2, {"--average", "0.9"}));
  run(2, resuming("pieces"));
  expect_equal_runs(folder_ / "whole", folder_ / "pieces");
}

TEST_F(LostProcesses, EndWhereOneIsKilledAndGoOnFromTheCheckpoint) {
  {
    const auto launched = under_way(4, "6");
    (*launched)[2].send(SIGKILL);
    EXPECT_EQ(launched->finish(), (std::vector<int>{lost, lost, -SIGKILL, lost}));
    expect_one_sentence(*launched, "mma-train: rank 2 has ended or is out of reach: ");
  }
  Launched again(2, resuming("lost"));
  EXPECT_TRUE(again[0].wait_for_line("epoch ")) << again.errors();
  again[0].send(SIGTERM);
  EXPECT_EQ(again.finish(), (std::vector<int>{terminated, terminated})) << again.errors();
}

TEST_F(LostProcesses, EndWhereTheFirstIsKilled) {
  const auto launched = under_way(2, "6");
  (*launched)[0].send(SIGKILL);
  EXPECT_EQ(launched->finish(), (std::vector<int>{-SIGKILL, lost}));
  expect_one_sentence(*launched, "mma-train: rank 0 has ended or is stopped: its store at 127.0.0.1:");
}

TEST_F(LostProcesses, EndWhereOneStopsWithoutAWord) {
  const auto launched = under_way(2, "3");
  (*launched)[1].send(SIGSTOP);
  EXPECT_EQ((*launched)[0].finish(), lost);
  (*launched)[1].send(SIGKILL);
  launched->finish();
  expect_one_sentence(*launched, "mma-train: rank 1 has given no sign of life for ");
}

TEST_F(LostProcesses, EndWhereTheFirstStopsWithoutAWord) {
  const auto launched = under_way(2, "3");
  (*launched)[0].send(SIGSTOP);
  EXPECT_EQ((*launched)[1].finish(), lost);
  (*launched)[0].send(SIGKILL);
  launched->finish();
  expect_one_sentence(*launched, "mma-train: rank 0 has ended or is stopped: its store at 127.0.0.1:");
}

TEST_F(LostProcesses, SayOnceWhatIsWrongWithOneOrAll) {
  {
    Launched launched(2, words("all", 1, {"--timeout", "10", "--limit-train", "10"}));
    EXPECT_EQ(launched.finish(), (std::vector<int>{bad_input, bad_input}));
    expect_one_sentence(launched, "mma-train: --batch 16 is larger than the 10 training images.");
  }
  Launched launched(2, words("one", 1, {"--timeout", "10"}), words("one", 1, {"--timeout", "10", "--momentum", "0.5"}));
  EXPECT_EQ(launched.finish(), (std::vector<int>{lost, bad_input}));
  expect_one_sentence(launched, "mma-train: rank 1 has failed: --momentum is 0.5 here and 0.9 in rank 0");
  EXPECT_FALSE(fs::exists(folder_ / "one"));
}

TEST_F(LostProcesses, SayWhoHasNotCome) {
  Words first = {"env"};
  for (const std::string& each : mma::tests::environment_of(0, 2, mma::tests::free_port())) first.push_back(each);
  for (const std::string& word : words("one", 1, {"--timeout", "1"})) first.push_back(word);
  const mma::tests::Outcome outcome = mma::tests::outcome_of(first);
  EXPECT_EQ(outcome.exit_code, lost);
  EXPECT_TRUE(outcome.output.starts_with("mma-train: rank 1 has not come within ")) << outcome.output;
}

/// Two lines of shell make torchrun's variables of those of srun and mpirun.
TEST(SeveralProcessesByOthers, AreToldTheirRank) {
  const std::string said = "3 1 8\n";
  for (const Words& variables :
       std::vector<Words>{{"SLURM_PROCID=3", "SLURM_LOCALID=1", "SLURM_NTASKS=8"},
                          {"OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_SIZE=8"},
                          {"PMI_RANK=3", "MPI_LOCALRANKID=1", "PMI_SIZE=8"}}) {
    Words words = {"env"};
    words.insert(words.end(), variables.begin(), variables.end());
    for (const char* word : {MMA_AS_RANK, "sh", "-c", "echo $RANK $LOCAL_RANK $WORLD_SIZE"}) words.emplace_back(word);
    const mma::tests::Outcome outcome = mma::tests::outcome_of(words);
    EXPECT_EQ(outcome.exit_code, 0);
    EXPECT_EQ(outcome.output, said) << variables[0];
  }
  const mma::tests::Outcome alone = mma::tests::outcome_of({MMA_AS_RANK, "echo", "started"});
  EXPECT_NE(alone.exit_code, 0);
  EXPECT_NE(alone.output.find("started neither by srun nor by mpirun"), std::string::npos) << alone.output;
}

/// Each step that was left out, in all processes alike, has halved the scale once.
TEST_F(SeveralProcesses, LeaveOutTheSameStepsInFloat16) {
  run(2, words("fp16", 2, {"--precision", "fp16"}));
  double scale = 65536;
  for (const EpochMetrics& metrics : read_history(folder_ / "fp16")) {
    EXPECT_TRUE(std::isfinite(metrics.loss));
    for (int64_t step = 0; step < metrics.skipped_steps; ++step) scale /= 2;
  }
  const TensorFile checkpoint = read_tensor_file(folder_ / "fp16" / "checkpoint.safetensors");
  EXPECT_EQ(checkpoint.find("scaler.scale")->item<float>(), scale);
}

}  // namespace
}  // namespace mma::examples
