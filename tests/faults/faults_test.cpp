// The programs on a system that fails: a disk that fills up, calls that are cut short or interrupted, files that cannot
// be read in the middle, a clock that goes back, little memory, a reader that has gone, checkpoints from elsewhere. A
// fault is told in one sentence that names the file, nothing is lost, and what goes on ends with the same bits.
#include <gtest/gtest.h>

#include <fstream>

#include "../sanitizers.hpp"
#include "../train_program.hpp"
#include "../training/run/run_files.hpp"

namespace mma::tests {
namespace {

class Faults : public TrainProgram {
 protected:
  void SetUp() override {
    if (has_sanitizer) GTEST_SKIP() << "the sanitizer suffers nothing before it, and needs the address space";
  }

  /// torch.save's two formats.
  static Words weights() {
    return {std::string(MMA_WEIGHTS) + "/state_dict.pt", std::string(MMA_WEIGHTS) + "/legacy.pt"};
  }

  /// The program with a fault of faulty_system.cpp, in the files of the test's folder, or in those with `files` in
  /// their paths.
  Words with_fault(const std::string& fault, const Words& words, const std::string& files = "") const {
    return Words{"env", std::string("LD_PRELOAD=") + MMA_FAULTY_SYSTEM, "MMA_FAULT=" + fault,
                 "MMA_FAULT_FILES=" + (files.empty() ? folder_.path().string() : files)} +
           words;
  }

  static Words in_shell(const std::string& script, const Words& words) {
    return Words{"bash", "-c", script, "bash"} + words;
  }

  /// A run that takes a few checkpoints within its epochs.
  Words run(const std::string& out) const { return run_into(out, {"--checkpoint-steps", "2"}); }

  /// Goes on with what a run that ended too early left, from its beginning where it left no checkpoint.
  void expect_to_end_as(const std::string& whole, const std::string& out) const {
    const bool can_resume = fs::exists(at(out + "/checkpoint.safetensors"));
    expect_success(can_resume ? resume(out) : run(out));
    expect_equal_runs(at(whole), at(out));
    for (const auto& entry : fs::directory_iterator(at(out))) {
      EXPECT_NE(entry.path().extension(), ".tmp") << "an unfinished file is left: " << entry.path();
    }
  }

  /// Of all calls of one kind the 1st fails, the 2nd, the 4th and so on, until a run needs fewer and succeeds.
  void expect_to_survive(const std::string& fault, const std::string& reason) const {
    expect_success(run("whole"));
    bool has_succeeded = false;
    int failures = 0;
    for (int64_t call = 1; call <= 1 << 16 && !has_succeeded; call *= 2) {
      const std::string count = std::to_string(call);
      SCOPED_TRACE(fault + ":" + count);
      ChildProcess child(with_fault(fault + ":" + count, run(count)));
      has_succeeded = child.finish() == 0;
      if (!has_succeeded) {
        expect_sentence(child, "cannot write ", reason);
        ++failures;
      }
      expect_to_end_as("whole", count);
    }
    EXPECT_TRUE(has_succeeded);
    EXPECT_GE(failures, 3);
  }

  static void expect_sentence(ChildProcess& child, const std::string& what, const std::string& reason) {
    EXPECT_EQ(child.finish(), exit_bad_input) << child.output();
    const std::string& text = child.errors();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_NE(text.find(what), std::string::npos) << text;
    EXPECT_NE(text.find(reason), std::string::npos) << text;
  }

  /// From the 1st read of the file on, from the 2nd, the 4th and so on, until all that the program needs is read.
  void expect_unreadable_is_told(const std::string& file, const Words& words) const {
    SCOPED_TRACE(file);
    constexpr int most_reads = 1 << 16;
    int failures = 0;
    for (int read = 1; read <= most_reads; read *= 2) {
      SCOPED_TRACE(read);
      const auto before = snapshot(folder_.path());
      ChildProcess child(with_fault("unreadable:" + std::to_string(read), words, file));
      if (child.finish() == 0) break;
      ++failures;
      expect_sentence(child, fs::path(file).filename(), "Input/output error");
      EXPECT_TRUE(snapshot(folder_.path()) == before) << "files have changed";
    }
    EXPECT_GE(failures, 1);
  }
};

TEST_F(Faults, CallsCutShortOrInterruptedAndAClockThatGoesBackChangeNothing) {
  expect_success(run("whole"));
  const Words evaluate = program({"--evaluate", at("whole/checkpoint.safetensors")});
  const std::string evaluated = output_of(evaluate);
  for (const std::string fault : {"short", "interrupted", "clock"}) {
    SCOPED_TRACE(fault);
    expect_success(with_fault(fault, run(fault)));
    expect_equal_runs(at("whole"), at(fault));
    EXPECT_EQ(output_of(with_fault(fault, evaluate)), evaluated);
  }
  const auto history = record_of(at("clock/checkpoint.safetensors")).at("history");
  for (const auto& epoch : history) EXPECT_GT(epoch.at("seconds").get<double>(), 0);
}

TEST_F(Faults, OtherFilesAreReadByShortAndInterruptedCallsToo) {
  for (const std::string& path : weights()) {
    const Words words = {MMA_ANGLES_PROGRAM, path};
    for (const std::string fault : {"short", "interrupted"}) {
      EXPECT_EQ(output_of(with_fault(fault, words, path)), output_of(words)) << path << ' ' << fault;
    }
  }
}

TEST_F(Faults, ADiskThatFillsUpAtAnyWriteIsToldAndCostsNothing) {
  expect_to_survive("full", "No space left on device");
}

TEST_F(Faults, ADiskThatLosesWhatWasWrittenIsToldAndCostsNothing) { expect_to_survive("lost", "Input/output error"); }

TEST_F(Faults, AFileThatCannotBeReadInTheMiddleIsNamed) {
  expect_success(run("run"));
  const std::string images = at("data/train-images-idx3-ubyte"), checkpoint = at("run/checkpoint.safetensors");
  expect_unreadable_is_told(images, run("new"));
  fs::remove_all(at("new"));
  expect_unreadable_is_told(checkpoint, program({"--evaluate", checkpoint}));
  expect_unreadable_is_told(at("run/config.json"), program({"--compare", at("run")}));
  expect_unreadable_is_told(at("run/metrics.jsonl"), program({"--compare", at("run")}));
  const Words gather = {MMA_REPRODUCE_PROGRAM, "gather", at("run"), "--baseline", "mma 0.03", "--out", at("gathered")};
  expect_unreadable_is_told(at("run/metrics.csv"), gather);
  fs::remove_all(at("gathered"));
  for (const std::string& path : weights()) expect_unreadable_is_told(path, {MMA_ANGLES_PROGRAM, path});
  write_bytes(at("points.csv"), "1,0,0\n0,1,0\n0,0,1\n-1,0,0\n");
  expect_unreadable_is_told(at("points.csv"), {MMA_TAMMES_PROGRAM, "solve", "--start", at("points.csv")});
}

TEST_F(Faults, AReaderThatHasGoneEndsTheRunAndCostsNothing) {
  expect_success(run("whole"));
  ChildProcess child(in_shell("\"$@\" | head -n 1 > /dev/null; exit ${PIPESTATUS[0]}", run("piped")));
  EXPECT_EQ(child.finish(), 128 + SIGPIPE) << child.errors();
  EXPECT_EQ(child.errors(), "");
  expect_to_end_as("whole", "piped");
}

TEST_F(Faults, TwoGibibytesOfAddressesAreEnoughForASmallRunAndAShortageIsTold) {
  const std::string limited = "ulimit -v 2097152; exec \"$@\"";
  expect_success(run("whole"));
  expect_success(in_shell(limited, run("small")));
  expect_equal_runs(at("whole"), at("small"));

  // Of a file that is honest and too large, its length is not the fault. It has no bytes on the disk.
  const std::string header = R"({"w":{"dtype":"F32","shape":[1000,800000],"data_offsets":[0,3200000000]}})";
  std::string length(8, '\0');
  length[0] = static_cast<char>(header.size());
  write_bytes(at("large.safetensors"), length + header);
  fs::resize_file(at("large.safetensors"), 8 + header.size() + 3200000000);
  ChildProcess large(in_shell(limited, {MMA_ANGLES_PROGRAM, at("large.safetensors")}));
  expect_sentence(large, at("large.safetensors"), "not enough memory for 3200000000 more bytes");

  // Nor is it the fault of a network that it is wide.
  const Words too_wide = program({"--model", "wrn-28-10", "--dataset", "fashion-mnist", "--data", data(), "--batch",
                                  "40", "--epochs", "1", "--threads", "1", "--out", at("wide")});
  ChildProcess wide(in_shell("ulimit -v 1048576; exec \"$@\"", too_wide));
  EXPECT_EQ(wide.finish(), 3) << wide.output();
  EXPECT_TRUE(wide.errors().starts_with("mma-train: not enough memory")) << wide.errors();
}

class OtherCheckpoints : public TrainProgram {
 protected:
  OtherCheckpoints() { expect_success(run_into("run", {"--epochs", "1"})); }

  std::string checkpoint() const { return at("run/checkpoint.safetensors"); }

  void edit(const std::function<void(nlohmann::json& record)>& change) const {
    examples::TensorFile file = examples::read_tensor_file(checkpoint());
    auto record = nlohmann::json::parse(file.metadata.at("mma-train"));
    change(record);
    file.metadata["mma-train"] = record.dump();
    examples::write_tensor_file(checkpoint(), file);
  }
};

TEST_F(OtherCheckpoints, OfANewerVersionWithASettingThatMayMatterAreRefused) {
  edit([](auto& record) {
    record["version"] = "7.1.0";
    record["of_the_future"] = 5;
  });
  expect_success(resume("run"));
  edit([](auto& record) { record["settings"]["sharpness"] = 0.5; });
  const std::string sentence = refusal(resume("run"));
  EXPECT_TRUE(sentence.starts_with(checkpoint() + ": in the record of its run, 'sharpness' is a setting that this "
                                                  "version does not know (mma \"7.1.0\" wrote it, this is "))
      << sentence;
}

TEST_F(OtherCheckpoints, OfAnotherMachineGoOnWhereTheirDataLie) {
  edit([this](auto& record) {
    record["settings"]["data"] = at("there");
    record["settings"]["threads"] = 64;
  });
  EXPECT_NE(refusal(resume("run")).find(at("there")), std::string::npos);
  expect_success(program({"--resume", "--out", at("run"), "--data", data(), "--threads", "1"}));
  edit([](auto& record) { record["settings"]["device"] = "cuda"; });
  EXPECT_NE(refusal(resume("run", {"--data", data()})).find("--device cuda"), std::string::npos);
}

TEST_F(OtherCheckpoints, HalfOnesAreRefusedWhereverTheyEnd) {
  const std::string whole = read_bytes(checkpoint());
  for (size_t cut :
       {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, size_t{1000}, whole.size() / 2, whole.size() - 1}) {
    SCOPED_TRACE(cut);
    write_bytes(checkpoint(), whole.substr(0, cut));
    EXPECT_TRUE(refusal(resume("run")).starts_with(checkpoint() + ": ")) << refusal(resume("run"));
  }
}

}  // namespace
}  // namespace mma::tests
