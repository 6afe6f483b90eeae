// mma-train as a user runs it: repeatable, interrupted and resumed, refusing bad input in one sentence.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "../train_program.hpp"
#include "../training/run/run_files.hpp"

namespace mma::tests {
namespace {

namespace fs = std::filesystem;
class MmaTrain : public TrainProgram {};

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(MmaTrain, TheSameSeedGivesTheSameBits) {
  expect_success(run_into("a"));
  expect_success(run_into("b"));
  expect_equal_runs(at("a"), at("b"));
  expect_success(run_into("c", {"--seed", "2"}));
  EXPECT_NE(metrics_without_seconds(at("a")), metrics_without_seconds(at("c")));
}

TEST_F(MmaTrain, InterruptedFromOutsideEndsWithTheSameBits) {
  const Words longer = {"--epochs", "6", "--checkpoint-steps", "2"};
  expect_success(run_into("whole", longer));
  for (const int signal : {SIGTERM, SIGINT, SIGKILL}) {
    const std::string out = "signal" + std::to_string(signal);
    SCOPED_TRACE(out);
    ChildProcess child(run_into(out, longer));
    ASSERT_TRUE(child.wait_for_line("epoch 1/6")) << child.errors();
    child.send(signal);
    ASSERT_EQ(child.finish(), signal == SIGKILL ? -SIGKILL : 128 + signal) << child.errors();
    if (signal != SIGKILL) {
      EXPECT_CONTAINS(child.output(), "to go on: mma-train --resume --out " + at(out));
    }
    expect_success(resume(out));
    expect_equal_runs(at("whole"), at(out));
  }
}

TEST_F(MmaTrain, TakesEveryRegularizerOfItsList) {
  std::istringstream list(output_of(program({"--list-regularizers"})));
  int count = 0;
  for (std::string line; std::getline(list, line); ++count) {
    const std::string name = line.substr(0, line.find(' '));
    SCOPED_TRACE(name);
    const Words words = {"--regularizer", name, "--epochs", "1", "--limit-train", "16", "--limit-test", "8"};
    EXPECT_CONTAINS(output_of(run_into(name, words)), "regularizer " + name + " on all layers, coefficient ");
    const auto record = record_of(at(name) + "/checkpoint.safetensors");
    EXPECT_NE(record.at("history").at(0).at("regularization_loss").get<double>(), 0);
  }
  EXPECT_GE(count, 15);
  EXPECT_EQ(record_of(at("mhe-s2/checkpoint.safetensors")).at("settings").at("coefficient"), 1.0);       // the paper's
  EXPECT_EQ(record_of(at("orthogonal/checkpoint.safetensors")).at("settings").at("coefficient"), 1e-4);  // likewise
  EXPECT_EQ(record_of(at("mma-half-space/checkpoint.safetensors")).at("settings").at("coefficient"), 0.03);
}

TEST_F(MmaTrain, ARegularizerThatDrawsRowsEndsWithTheSameBits) {
  const Words words = {"--regularizer", "mhe-s2-batch", "--epochs", "3", "--checkpoint-steps", "2"};
  expect_success(run_into("whole", words));
  ChildProcess child(run_into("cut", words));
  ASSERT_TRUE(child.wait_for_line("epoch 1/3")) << child.errors();
  child.send(SIGTERM);
  ASSERT_EQ(child.finish(), 128 + SIGTERM) << child.errors();
  expect_success(resume("cut"));
  expect_equal_runs(at("whole"), at("cut"));
  expect_success(run_into("other", words + Words{"--coefficient", "0.5"}));
  EXPECT_NE(metrics_without_seconds(at("whole")), metrics_without_seconds(at("other")));
}

TEST_F(MmaTrain, LeavesEverythingNeededToRepeatTheRun) {
  const Words words = run_into("run", {"--limit-train", "32", "--limit-test", "20", "--nesterov", "--lr", "0.05"});
  const std::string output = output_of(words);
  const auto config = nlohmann::json::parse(read_bytes(at("run/config.json")));
  EXPECT_EQ(config.at("program"), "mma-train");
  EXPECT_TRUE(std::regex_match(config.at("version").get<std::string>(), std::regex("\\d+\\.\\d+\\.\\d+")));
  EXPECT_TRUE(
      std::regex_match(config.at("git_commit").get<std::string>(), std::regex("unknown|[0-9a-f]{40}(-dirty)?")));
  EXPECT_TRUE(std::regex_match(config.at("libtorch").get<std::string>(), std::regex("\\d+\\.\\d+\\.\\d+.*")));
  EXPECT_EQ(config.at("command_line").get<Words>(), words);
  EXPECT_EQ(config.at("train_images"), 32);
  EXPECT_EQ(config.at("test_images"), 20);
  const nlohmann::json expected = {{"model", "resnet20"},
                                   {"dataset", "fashion-mnist"},
                                   {"data", data()},
                                   {"recipe", "resnet"},
                                   {"regularizer", "mma"},
                                   {"coefficient", 0.03},
                                   {"scope", "all"},
                                   {"refresh_every", 1},
                                   {"epochs", 2},
                                   {"batch", 8},
                                   {"learning_rate", 0.05},
                                   {"milestones", {1, 2}},
                                   {"momentum", 0.9},
                                   {"weight_decay", 1e-4},
                                   {"nesterov", true},
                                   {"rate_divisor", 10},
                                   {"dropout", 0},
                                   {"autoaugment", false},
                                   {"cutout", 0},
                                   {"mean", nlohmann::json::array()},
                                   {"deviation", nlohmann::json::array()},
                                   {"seed", 1},
                                   {"limit_train", 32},
                                   {"limit_test", 20},
                                   {"device", "cpu"},
                                   {"precision", "float32"},
                                   {"channels_last", true},
                                   {"cuda_graph", false},
                                   {"threads", 1},
                                   {"checkpoint_steps", 0},
                                   {"sync_batch_norm", false},
                                   {"timeout", 300},
                                   {"padding", 4},
                                   {"deterministic", false},
                                   {"cudnn_benchmark", false},
                                   {"schedule", "multi-step"},
                                   {"warm_up", 0},
                                   {"label_smoothing", 0},
                                   {"decay_filters_only", false},
                                   {"average", 0}};
  EXPECT_EQ(config.at("settings"), expected);
  const std::string csv = read_bytes(at("run/metrics.csv"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);  // names, two epochs
  EXPECT_CONTAINS(csv, "minimal_angle_degrees:layer2.0.downsample.0,");
  EXPECT_CONTAINS(output, "last epoch: top-1 ");
  EXPECT_CONTAINS(output, "mean top-1 of the last five epochs: ");
  for (const char* picture : {"run/accuracy.png", "run/angles.png"}) {
    EXPECT_TRUE(fs::exists(at(picture)) || output.find("gnuplot is not installed") != std::string::npos) << picture;
  }
}

TEST_F(MmaTrain, LearnsAndMmaRaisesTheAngles) {
  const Words longer = {"--epochs", "6", "--milestones", "5"};
  expect_success(run_into("none", longer + Words{"--regularizer", "none"}));
  expect_success(run_into("mma", longer + Words{"--coefficient", "1"}));
  const auto history = [&](const std::string& run) {
    return record_of(at(run) + "/checkpoint.safetensors").at("history");
  };
  const auto none = history("none");
  const auto mma = history("mma");
  EXPECT_LT(none.back().at("loss"), none.front().at("loss"));
  EXPECT_LT(mma.back().at("loss"), mma.front().at("loss"));
  EXPECT_EQ(none.back().at("regularization_loss"), 0);
  EXPECT_LT(mma.back().at("regularization_loss"), 0);
  EXPECT_GT(mma.back().at("mean_nearest_angle_degrees"), mma.front().at("mean_nearest_angle_degrees"));
  EXPECT_GT(mma.back().at("mean_nearest_angle_degrees"), none.back().at("mean_nearest_angle_degrees"));
}

TEST_F(MmaTrain, EvaluatesItsOwnCheckpointAsTheLastEpoch) {
  expect_success(run_into("run"));
  const auto last = record_of(at("run/checkpoint.safetensors")).at("history").back();
  char expected[80];
  std::snprintf(expected, sizeof expected, ": top-1 %.2f %%, top-5 %.2f %%\n", last.at("top1_percent").get<double>(),
                last.at("top5_percent").get<double>());
  EXPECT_CONTAINS(output_of(program({"--evaluate", at("run/checkpoint.safetensors")})), expected);
}

/// A state dict as Python's tools leave it, from a checkpoint's weights, changed by `edit`.
void write_state_dict(const fs::path& checkpoint, const fs::path& path,
                      const std::function<void(examples::TensorFile&)>& edit) {
  examples::TensorFile state;
  for (const auto& [name, tensor] : examples::read_tensor_file(checkpoint).tensors) {
    if (name.starts_with("model.")) state.tensors.emplace_back(name.substr(6), tensor);
  }
  edit(state);
  examples::write_tensor_file(path, state);
}

TEST_F(MmaTrain, EvaluatesForeignWeightsOrSaysWhyNot) {
  expect_success(run_into("run", {"--epochs", "1"}));
  const std::string checkpoint = at("run/checkpoint.safetensors");
  const std::string own = output_of(program({"--evaluate", checkpoint}));
  const Words evaluate = program({"--model", "resnet20", "--dataset", "fashion-mnist", "--data", data(), "--evaluate"});

  write_state_dict(checkpoint, at("same.safetensors"), [](auto&) {});
  EXPECT_EQ(output_of(evaluate + Words{at("same.safetensors")}).substr(at("same.safetensors").size()),
            own.substr(checkpoint.size()));

  write_state_dict(checkpoint, at("half.safetensors"), [](examples::TensorFile& state) {
    for (auto& [name, tensor] : state.tensors) {
      if (tensor.is_floating_point()) tensor = tensor.to(at::kHalf);
    }
  });
  EXPECT_CONTAINS(output_of(evaluate + Words{at("half.safetensors")}), "top-1 ");

  write_state_dict(checkpoint, at("less.safetensors"), [](auto& state) {
    std::erase_if(state.tensors, [](const auto& item) { return item.first.starts_with("layer3.2.bn2."); });
  });
  EXPECT_EQ(refusal(evaluate + Words{at("less.safetensors")}),
            at("less.safetensors") +
                " does not fit the network: it has no tensor 'layer3.2.bn2.weight' (and 3 more like it)");

  EXPECT_CONTAINS(refusal(program({"--evaluate", at("same.safetensors")})), "--model is needed");
  EXPECT_CONTAINS(refusal(program({"--evaluate", checkpoint, "--model", "resnet56"})), "holds a resnet20");
  EXPECT_CONTAINS(refusal(program({"--evaluate", at("nothing.pt")})), at("nothing.pt"));

  write_tiny_cifar100(at("cifar100"), 8, 8);
  EXPECT_EQ(refusal(program({"--evaluate", checkpoint, "--dataset", "cifar100", "--data", at("cifar100")})),
            checkpoint + " distinguishes 10 classes, but cifar100 has 100");
}

TEST_F(MmaTrain, KeepsABfloat16RunInItsPrecision) {
  expect_success(run_into("run", {"--precision", "bf16", "--no-channels-last"}));
  const auto record = record_of(at("run/checkpoint.safetensors"));
  EXPECT_EQ(record.at("settings").at("precision"), "bf16");
  EXPECT_EQ(record.at("settings").at("channels_last"), false);
  const std::string checkpoint = at("run/checkpoint.safetensors");
  char expected[40];
  std::snprintf(expected, sizeof expected, ": top-1 %.2f %%,",
                record.at("history").back().at("top1_percent").get<double>());
  EXPECT_CONTAINS(output_of(program({"--evaluate", checkpoint})), expected);
  EXPECT_CONTAINS(output_of(program({"--evaluate", checkpoint, "--precision", "float32"})), "top-1 ");
  EXPECT_CONTAINS(refusal(resume("run", {"--precision", "float32"})),
                  "--precision float32 contradicts the run in " + at("run") + ", which has bf16");
  EXPECT_CONTAINS(refusal(resume("run", {"--cuda-graph"})), "--cuda-graph is for a GPU");
}

TEST_F(MmaTrain, TrainsOnCifar100) {
  write_tiny_cifar100(at("cifar100"), 16, 8);
  expect_success(program({"--model", "resnet20", "--dataset", "cifar100", "--data", at("cifar100"), "--epochs", "1",
                          "--batch", "8", "--threads", "1", "--out", at("run")}));
  EXPECT_EQ(record_of(at("run/checkpoint.safetensors")).at("classes"), 100);
}

/// Three classes by their brightness, a folder each.
void write_tree(const fs::path& root) {
  std::mt19937 random(1);
  for (const auto& [split, count] : {std::pair<std::string, int>{"train", 8}, {"val", 4}}) {
    for (int i = 0; i < 3 * count; ++i) {
      const fs::path image =
          root / split / std::string(1, static_cast<char>('a' + i % 3)) / (std::to_string(i) + ".pgm");
      fs::create_directories(image.parent_path());
      write_bytes(image, "P5 32 32 255\n" + picture(i % 3, 32 * 32, random));
    }
  }
}

TEST_F(MmaTrain, TrainsResumesEvaluatesAndComparesOnFoldersOfClasses) {
  write_tree(at("tree"));
  const Words words = {"--dataset", "folder", "--data", at("tree"), "--epochs", "3"};
  EXPECT_CONTAINS(output_of(run_into("whole", words)), "on folder: 24 training and 12 test images");
  ChildProcess child(run_into("cut", words));
  ASSERT_TRUE(child.wait_for_line("epoch 1/3")) << child.errors();
  child.send(SIGTERM);
  ASSERT_EQ(child.finish(), 128 + SIGTERM) << child.errors();
  expect_success(resume("cut"));
  expect_equal_runs(at("whole"), at("cut"));
  const auto record = record_of(at("whole/checkpoint.safetensors"));
  EXPECT_EQ(record.at("classes"), 3);
  char top1[32];
  std::snprintf(top1, sizeof top1, "top-1 %.2f %%", record.at("history").back().at("top1_percent").get<double>());
  EXPECT_CONTAINS(output_of(program({"--evaluate", at("whole/checkpoint.safetensors")})), top1);
  EXPECT_CONTAINS(output_of(program({"--compare", at("whole"), at("cut")})), "resnet20");
  fs::remove_all(at("tree/train/c"));
  fs::remove_all(at("tree/val/c"));
  ChildProcess resumed(resume("cut"));
  EXPECT_EQ(resumed.finish(), exit_bad_input);
  EXPECT_CONTAINS(resumed.errors(), "comes from 24 training images of 3 classes, but");
}

TEST_F(MmaTrain, TrainsARowOfThePapersTables) {
  write_tiny_cifar100(at("cifar100"), 16, 8);
  const Words words = program({"--recipe", "table5-resnet56-mma", "--data", at("cifar100"), "--epochs", "1", "--batch",
                               "8", "--autoaugment", "--cutout", "8", "--mean", "0.5,0.5,0.5", "--deviation",
                               "0.25,0.25,0.25", "--threads", "1", "--out", at("run")});
  expect_success(words);
  const auto settings = record_of(at("run/checkpoint.safetensors")).at("settings");
  EXPECT_EQ(settings.at("model"), "resnet56");
  EXPECT_EQ(settings.at("dataset"), "cifar100");
  EXPECT_EQ(settings.at("regularizer"), "mma");
  EXPECT_EQ(settings.at("autoaugment"), true);
  EXPECT_EQ(settings.at("cutout"), 8);
  EXPECT_EQ(settings.at("mean"), nlohmann::json({0.5, 0.5, 0.5}));
  expect_success(program({"--recipe", "table2-hidden", "--data", at("cifar100"), "--model", "vgg11-bn-narrow",
                          "--epochs", "1", "--batch", "8", "--threads", "1", "--out", at("hidden")}));
  EXPECT_EQ(record_of(at("hidden/checkpoint.safetensors")).at("settings").at("scope"), "hidden");
}

TEST_F(MmaTrain, RefusesImpossibleOptions) {
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"--batch", "0"}, "--batch 0: at least 1 is needed"},
      {{"--padding", "-1"}, "--padding -1: a finite number not below 0 is needed"},
      {{"--deterministic", "--cudnn-benchmark"}, "--deterministic and --cudnn-benchmark exclude each other"},
      {{"--batch", "41"}, "--batch 41 is larger than the 40 training images"},
      {{"--limit-train", "7"}, "--batch 8 is larger than the 7 training images"},
      {{"--limit-train", "0"}, "--limit-train 0: at least 1 is needed"},
      {{"--limit-test", "-3"}, "--limit-test -3: at least 1 is needed"},
      {{"--epochs", "0"}, "--epochs 0: at least 1 is needed"},
      {{"--threads", "0"}, "--threads 0: at least 1 is needed"},
      {{"--checkpoint-steps", "0"}, "--checkpoint-steps 0: at least 1 is needed"},
      {{"--lr", "-0.1"}, "--lr -0.1: a finite number not below 0 is needed"},
      {{"--lr", "nan"}, "--lr nan: a finite number not below 0 is needed"},
      {{"--weight-decay", "-1"}, "--weight-decay -1: a finite number not below 0 is needed"},
      {{"--momentum", "1"}, "--momentum 1: a number below 1 is needed"},
      {{"--momentum", "0", "--nesterov"}, "--nesterov needs a --momentum above 0"},
      {{"--milestones", "5,3"}, "--milestones: epochs from 1 on in rising order are needed"},
      {{"--coefficient", "-1"}, "--coefficient -1: a finite number not below 0 is needed"},
      {{"--regularizer", "none", "--coefficient", "0.1"},
       "--coefficient, --scope and --refresh-every belong to a regularizer, not to --regularizer none"},
      {{"--regularizer", "dropout"}, "--regularizer dropout: one of none, mma, mma-half-space, "},
      {{"--layers", "fc"}, "--layers belongs to --compare"},
      {{"--markdown"}, "--markdown belongs to --compare"},
      {{"--refresh-every", "0"}, "--refresh-every 0: at least 1 is needed"},
      {{"--scope", "inner"}, "--scope inner: one of hidden, output, all is needed"},
      {{"--recipe", "alexnet"}, "no recipe is called 'alexnet': the known ones are resnet, vgg-bn, wrn, "},
      {{"--dropout", "0.3"}, "resnet20 has no dropout"},
      {{"--dropout", "1"}, "--dropout 1: a share from 0 to below 1 is needed"},
      {{"--cutout", "-2"}, "--cutout -2: a finite number not below 0 is needed"},
      {{"--lr-divisor", "0"}, "--lr-divisor 0: a number not below 1 is needed"},
      {{"--mean", "0.5"}, "--mean and --deviation belong together"},
      {{"--mean", "0.5", "--deviation", "0"}, "--deviation 0: a number above 0 is needed"},
      {{"--mean", "0.5,0.5", "--deviation", "1,1"}, "have 2 numbers, but the images of fashion-mnist have 1 channels"},
      {{"--device", "tpu"}, "--device tpu: one of cpu, cuda is needed"},
      {{"--precision", "half"}, "--precision half: one of float32, bf16, fp16 is needed"},
      {{"--cuda-graph"}, "--cuda-graph is for a GPU: it needs --device cuda, not --device cpu"},
      {{"--channels-last", "--no-channels-last"}, "excludes"},
      {{"--seed", "-1"}, "--seed: -1, but a whole number not below 0 is needed"},
      {{"--epochs", "many"}, "--epochs"},
      {{"--plot", "p.png"}, "--plot belongs to --compare"},
      {{"--unheard-of"}, "--unheard-of"},
  };
  for (const auto& [words, sentence] : cases) {
    SCOPED_TRACE(testing::PrintToString(words));
    EXPECT_CONTAINS(refusal(run_into("run", words)), sentence);
  }
}

TEST_F(MmaTrain, ListsTheKnownNamesForAnUnknownOne) {
  EXPECT_EQ(refusal(program({"--model", "alexnet", "--dataset", "cifar100"})),
            "--model alexnet: one of resnet20, resnet56, vgg16-bn, vgg19-bn, wrn-16-8, wrn-28-10, densenet-40-12, "
            "vgg11-bn-narrow is needed");
  EXPECT_EQ(refusal(program({"--model", "resnet20", "--dataset", "imagenet"})),
            "--dataset imagenet: one of cifar100, cifar10, fashion-mnist, tiny-imagenet, folder is needed");
  EXPECT_CONTAINS(refusal(program({"--dataset", "cifar100"})), "--model is needed: one of resnet20");
  EXPECT_CONTAINS(refusal(program({"--model", "resnet20"})), "--dataset is needed: one of cifar100");
  EXPECT_CONTAINS(refusal(program({"--model", "resnet20", "--dataset", "cifar100"})), "--data is needed");
}

TEST_F(MmaTrain, RefusesAGpuThatIsNotThere) {
  const Words words = run_into("run", {"--device", "cuda", "--epochs", "1"});
  ChildProcess child(words);
  if (child.finish() == 0) GTEST_SKIP() << "this machine has a GPU";
  fs::remove_all(at("run"));
  EXPECT_CONTAINS(refusal(words), "--device cuda: this machine has no NVIDIA GPU");
}

TEST_F(MmaTrain, RefusesMissingOrTruncatedData) {
  const std::string images = "train-images-idx3-ubyte";
  const std::string bytes = read_bytes(folder_ / "data" / images);
  write_bytes(folder_ / "data" / images, bytes.substr(0, bytes.size() - 1));
  EXPECT_CONTAINS(refusal(run_into("run")), images + "' is truncated");
  fs::remove(folder_ / "data" / images);
  EXPECT_CONTAINS(refusal(run_into("run")), images);
  EXPECT_FALSE(fs::exists(at("run")));
}

TEST_F(MmaTrain, LeavesAnEarlierRunAlone) {
  expect_success(run_into("run", {"--epochs", "1"}));
  EXPECT_EQ(refusal(run_into("run")),
            at("run") + " already holds a run: go on with it by --resume, or choose another folder by --out");
}

TEST_F(MmaTrain, KeepsASecondProgramOutOfARunThatIsGoingOn) {
  const Words endless = {"--epochs", "100000"};
  const auto stop = [](ChildProcess& child, int signal, int exit_code) {
    child.send(signal);
    EXPECT_EQ(child.finish(), exit_code) << child.errors();
  };
  ChildProcess child(run_into("run", endless));
  ASSERT_TRUE(child.wait_for_line("epoch ")) << child.errors();
  const std::string sentence = at("run") + " is being written by process " + std::to_string(child.id()) +
                               ": wait for its end, or choose another folder by --out";
  EXPECT_EQ(sentence_of(run_into("run")), sentence);
  EXPECT_EQ(sentence_of(resume("run")), sentence);
  EXPECT_CONTAINS(output_of(program({"--compare", at("run")})), "resnet20");  // reading is free
  stop(child, SIGKILL, -SIGKILL);
  EXPECT_TRUE(fs::exists(at("run/.lock")));
  EXPECT_CONTAINS(sentence_of(run_into("run")), "already holds a run");
  ChildProcess again(resume("run"));
  ASSERT_TRUE(again.wait_for_line("epoch ")) << again.errors();
  EXPECT_EQ(sentence_of(resume("run")).substr(0, at("run").size() + 17), at("run") + " is being written");
  stop(again, SIGTERM, 128 + SIGTERM);
  EXPECT_FALSE(fs::exists(at("run/.lock")));
}

TEST_F(MmaTrain, OfTwoThatBeginAtOnceOneIsRefused) {
  ChildProcess one(run_into("run", {"--seed", "1"})), other(run_into("run", {"--seed", "2"}));
  const int code = one.finish(), other_code = other.finish();
  EXPECT_EQ(std::min(code, other_code), 0) << one.errors() << other.errors();
  EXPECT_EQ(std::max(code, other_code), exit_bad_input);
  const int seed = code == 0 ? 1 : 2;
  EXPECT_EQ(record_of(at("run/checkpoint.safetensors")).at("settings").at("seed"), seed);
  EXPECT_EQ(nlohmann::json::parse(read_bytes(at("run/config.json"))).at("settings").at("seed"), seed);
}

TEST_F(MmaTrain, RefusesAFolderThatCannotBeMade) {
  write_bytes(at("file"), "in the way");
  EXPECT_CONTAINS(refusal(run_into("file/run")), "cannot make the folder " + at("file/run"));
  EXPECT_CONTAINS(refusal(run_into("file")), "cannot make the folder " + at("file"));
}

TEST_F(MmaTrain, OnAFullDiskSaysSoAndKeepsTheLastCheckpoint) {
  const rlim_t too_little = 1 << 20;  // a checkpoint of ResNet20 takes twice that
  const std::string sentence = "cannot write " + at("run/checkpoint.safetensors") + ": ";
  EXPECT_CONTAINS(refusal(run_into("run"), too_little), sentence);
  EXPECT_TRUE(fs::is_empty(at("run")));

  const Words longer = {"--epochs", "4"};
  expect_success(run_into("whole", longer));
  ChildProcess child(run_into("run", longer));
  ASSERT_TRUE(child.wait_for_line("epoch 1/4"));
  child.send(SIGTERM);
  ASSERT_EQ(child.finish(), 128 + SIGTERM);
  EXPECT_CONTAINS(refusal(resume("run"), too_little), sentence);
  expect_success(resume("run"));  // with room again
  expect_equal_runs(at("whole"), at("run"));
}

TEST_F(MmaTrain, StopsAtALossThatIsNotFiniteAndKeepsTheLastGoodCheckpoint) {
  ChildProcess child(run_into("run", {"--lr", "1e30", "--checkpoint-steps", "1"}));
  EXPECT_EQ(child.finish(), exit_bad_input);
  EXPECT_TRUE(std::regex_match(child.errors(),
                               std::regex("mma-train: the (loss is not|weights are no longer) finite in epoch 1, step "
                                          "\\d of 5: a smaller --lr .*keeps the last good state\\)\n")))
      << child.errors();
  for (const auto& [name, tensor] : examples::read_tensor_file(at("run/checkpoint.safetensors")).tensors) {
    EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name;
  }
  EXPECT_FALSE(fs::exists(at("run/metrics.csv")));
}

TEST_F(MmaTrain, RefusesToExportWhatItCannot) {
  const Words weights = {"--export", at("weights.safetensors")};
  EXPECT_CONTAINS(refusal(program(weights + Words{"--out", at("nothing")})), at("nothing/checkpoint.safetensors"));
  EXPECT_CONTAINS(refusal(program(weights + Words{"--evaluate", at("x.pt")})), "--export belongs to a run");
  expect_success(run_into("run", {"--epochs", "1"}));
  EXPECT_CONTAINS(refusal(program({"--export", at("no/weights.safetensors"), "--out", at("run")})),
                  "cannot write " + at("no/weights.safetensors"));
  expect_success(program(weights + Words{"--out", at("run")}));
  fs::copy(at("weights.safetensors"), at("run/checkpoint.safetensors"), fs::copy_options::overwrite_existing);
  EXPECT_CONTAINS(refusal(program(weights + Words{"--out", at("run")})), "is not a checkpoint of a training");
}

TEST_F(MmaTrain, RefusesToResumeWhatItCannot) {
  EXPECT_EQ(refusal(resume("nothing")), "there is no run to resume in " + at("nothing"));
  EXPECT_CONTAINS(refusal(program({"--resume"})), "--resume needs --out");

  expect_success(run_into("run", {"--epochs", "1"}));
  const std::string checkpoint = at("run/checkpoint.safetensors");
  const std::vector<std::pair<Words, std::string>> contradictions = {
      {{"--model", "resnet56"}, "--model resnet56 contradicts the run in " + at("run") + ", which has resnet20"},
      {{"--epochs", "3"}, "--epochs 3 contradicts the run in " + at("run") + ", which has 1"},
      {{"--lr", "0.2"}, "--lr 0.2 contradicts"},
      {{"--milestones", "7,8"}, "--milestones 7,8 contradicts"},
      {{"--nesterov"}, "--nesterov yes contradicts"},
      {{"--seed", "9"}, "--seed 9 contradicts"},
      {{"--lr-divisor", "5"}, "--lr-divisor 5 contradicts"},
      {{"--dropout", "0.1"}, "--dropout 0.1 contradicts"},
      {{"--autoaugment"}, "--autoaugment yes contradicts"},
      {{"--cutout", "8"}, "--cutout 8 contradicts"},
      {{"--mean", "0.5"}, "--mean 0.5 contradicts"},
      {{"--deviation", "0.5"}, "--deviation 0.5 contradicts"},
      {{"--limit-train", "8"}, "--limit-train 8 contradicts"},
      {{"--precision", "bf16"}, "--precision bf16 contradicts the run in " + at("run") + ", which has float32"},
      {{"--no-channels-last"}, "--channels-last no contradicts the run in " + at("run") + ", which has yes"},
  };
  for (const auto& [words, sentence] : contradictions) {
    EXPECT_CONTAINS(refusal(resume("run", words)), sentence);
  }

  write_tiny_fashion_mnist(at("other"), 41, 30);
  EXPECT_CONTAINS(refusal(resume("run", {"--data", at("other")})), "comes from 40 training images");

  const examples::TensorFile whole = examples::read_tensor_file(checkpoint);
  const auto refused_with = [&](const std::function<void(examples::TensorFile&)>& edit) {
    examples::TensorFile edited = whole;
    edit(edited);
    examples::write_tensor_file(checkpoint, edited);
    return refusal(resume("run"));
  };
  EXPECT_CONTAINS(refused_with([](auto& file) { file.metadata.clear(); }), "is not a checkpoint of mma-train");
  EXPECT_CONTAINS(refused_with([](auto& file) { file.metadata["mma-train"] = "{}"; }),
                  checkpoint + ": in the record of its run, there is no 'settings'");
  EXPECT_CONTAINS(refused_with([](auto& file) { file.tensors.erase(file.tensors.begin()); }),
                  "it has no tensor 'conv1");
  EXPECT_CONTAINS(refused_with([](auto& file) {
                    std::erase_if(file.tensors, [](const auto& item) { return item.first == "optimizer.fc.bias"; });
                  }),
                  "it has no tensor 'fc.bias'");
  EXPECT_CONTAINS(refused_with([](auto& file) {
                    for (auto& [name, tensor] : file.tensors) tensor = tensor.reshape(-1);
                  }),
                  "has the shape");

  const std::string bytes = read_bytes(checkpoint);
  write_bytes(checkpoint, bytes.substr(0, bytes.size() / 2));
  EXPECT_CONTAINS(refusal(resume("run")), checkpoint);
  write_bytes(checkpoint, "not tensors at all");
  EXPECT_CONTAINS(refusal(resume("run")), checkpoint);
}

TEST_F(MmaTrain, JudgesTheRecordInACheckpointAsWhatIsTyped) {
  expect_success(run_into("run", {"--epochs", "1"}));
  const std::string checkpoint = at("run/checkpoint.safetensors");
  const examples::TensorFile whole = examples::read_tensor_file(checkpoint);
  const auto refused_with = [&](const std::string& record) {
    examples::TensorFile edited = whole;
    edited.metadata["mma-train"] = record;
    examples::write_tensor_file(checkpoint, edited);
    return refusal(resume("run"));
  };
  const auto patched = [&](const std::string& patch) {
    nlohmann::json record = nlohmann::json::parse(whole.metadata.at("mma-train"));
    record.merge_patch(nlohmann::json::parse(patch));
    return record.dump();
  };
  const std::string in_record = checkpoint + ": in the record of its run, ";
  const std::vector<std::pair<std::string, std::string>> patches = {
      {R"({"history": []})", "'history' has 0 epochs; expected 1, as 'epoch' says"},
      {R"({"epoch": 0})", "'history' has 1 epochs; expected 0, as 'epoch' says"},
      {R"({"history": null})", "there is no 'history'"},
      {R"({"history": {"1": 2}})", R"('history' is {"1":2}; expected a list)"},
      {R"({"history": [{"epoch": 7}]})", "in epoch 1 of 'history', 'epoch' is 7; expected 1"},
      {R"({"history": [{"epoch": 1}]})", "in epoch 1 of 'history', there is no 'learning_rate'"},
      {R"({"history": [3]})", "in epoch 1 of 'history', there is no 'epoch'"},
      {R"({"epoch": -3})", "'epoch' is -3; expected a whole number from 0 to 1"},
      {R"({"epoch": 2})", "'epoch' is 2; expected a whole number from 0 to 1"},
      {R"({"epoch": 0.5})", "'epoch' is 0.5; expected a whole number from 0 to 1"},
      {R"({"step": -1})", "'step' is -1; expected 0"},
      {R"({"epoch": 0, "history": [], "step": -1})", "'step' is -1; expected a whole number from 0 to 5"},
      {R"({"epoch": 0, "history": [], "step": 4611686018427387904})", "expected a whole number from 0 to 5"},
      {R"({"epoch": 0, "history": [], "step": 18446744073709551615})", "expected a whole number from 0 to 5"},
      {R"({"epoch": 0, "history": [], "step": 6})", "'step' is 6; expected a whole number from 0 to 5"},
      {R"({"train_images": 0})", "'train_images' is 0; expected a whole number from 1 to 1000000000"},
      {R"({"train_images": 1e30})", "'train_images' is 1e+30; expected a whole number from 1 to 1000000000"},
      {R"({"classes": -1})", "'classes' is -1; expected a whole number from 1 to 1000000000"},
      {R"({"classes": "ten"})", R"('classes' is "ten"; expected a whole number from 1 to 1000000000)"},
      {R"({"loss_sum": "much"})", R"('loss_sum' is "much"; expected a finite number)"},
      {R"({"loss_sum": [null]})", "'loss_sum' is [null]; expected a finite number"},
      {R"({"seconds": -1})", "'seconds' is -1; expected a finite number not below 0"},
      {R"({"program": 3})", "'program' is 3; expected a text"},
      {R"({"settings": {"epochs": 1.5}})", "'epochs' is 1.5; expected a whole number"},
      {R"({"settings": {"seed": -1}})", "'seed' is -1; expected a whole number not below 0"},
      {R"({"settings": {"milestones": [1.5]}})", "'milestones' is 1.5; expected a whole number"},
      {R"({"settings": {"batch": true}})", "'batch' is true; expected a whole number"},
      {R"({"settings": {"model": null}})", "there is no 'model'"},
  };
  for (const auto& [patch, sentence] : patches) {
    SCOPED_TRACE(patch);
    const std::string refused = refused_with(patched(patch));
    EXPECT_TRUE(refused.starts_with(in_record)) << refused;
    EXPECT_TRUE(refused.ends_with(sentence)) << refused;
  }
  EXPECT_EQ(refused_with("{"), checkpoint + ": the record of its run is not valid JSON");
  EXPECT_EQ(refused_with(patched(R"({"loss_sum": 0.5})").insert(1, "\"seconds\": 1e999,")),
            checkpoint + ": the record of its run is not valid JSON");
  for (const std::string level : {"[", "{\"a\":"}) {
    std::string deep;
    for (int k = 0; k < 100000; ++k) deep += level;
    EXPECT_EQ(refused_with(deep), checkpoint + ": the record of its run is nested more than 64 deep");
  }
  EXPECT_CONTAINS(refused_with(patched(R"({"settings": {"epochs": 0}})")), "--epochs 0: at least 1 is needed");
  examples::write_tensor_file(checkpoint, whole);
  expect_success(resume("run"));
}

TEST_F(MmaTrain, ComparesRuns) {
  expect_success(run_into("none", {"--epochs", "1", "--regularizer", "none"}));
  expect_success(run_into("mma", {"--epochs", "1"}));
  const std::string table = output_of(program({"--compare", at("none"), at("mma")}));
  EXPECT_CONTAINS(table, "mma 0.03");
  EXPECT_CONTAINS(table, "pairs");
}

TEST_F(MmaTrain, NeedsAnOutputForWhatItPrints) {
  for (const char* option : {"--help", "--version", "--list-models", "--list-recipes", "--list-regularizers"}) {
    expect_output_needed(program({option}), "mma-train");
  }
  expect_success(run_into("run", {"--epochs", "1"}));
  const std::string checkpoint = at("run/checkpoint.safetensors");
  expect_output_needed(program({"--compare", at("run")}), "mma-train");
  expect_output_needed(program({"--evaluate", checkpoint, "--data", data()}), "mma-train");
  // A training goes on to its end, and writes nothing that it would have printed into its files.
  const std::string before = read_bytes(checkpoint);
  expect_output_needed(resume("run"), "mma-train");
  EXPECT_EQ(read_bytes(checkpoint), before);
}

/// Root may read and write whatever its permissions say: these stand for all that the system refuses.
TEST_F(MmaTrain, NamesFilesThatTheSystemRefuses) {
  const std::string name(5000, 'n');
  fs::create_symlink(at("loop"), at("loop"));
  const std::string too_long = ": File name too long", loop = ": Too many levels of symbolic links";
  EXPECT_EQ(refusal(run_into(name)), "cannot make the folder " + at(name) + too_long);
  EXPECT_EQ(refusal(run_into("loop")), "cannot make the folder " + at("loop") + loop);
  EXPECT_CONTAINS(refusal(run_into("run", {"--data", at(name)})), at(name));
  EXPECT_CONTAINS(refusal(run_into("run", {"--data", at("loop")})), at("loop"));
  EXPECT_CONTAINS(refusal(run_into("run", {"--dataset", "folder", "--data", at(name)})), at(name));
  EXPECT_CONTAINS(refusal(resume(name)), at(name));
  EXPECT_CONTAINS(refusal(program({"--evaluate", at(name), "--model", "resnet20"})), at(name));
  EXPECT_CONTAINS(refusal(program({"--compare", at(name)})), at(name));
  EXPECT_CONTAINS(refusal(program({"--out", at("loop"), "--export", at("w.safetensors")})), at("loop"));
  expect_success(run_into("run", {"--epochs", "1"}));
  EXPECT_CONTAINS(refusal(program({"--out", at("run"), "--export", at(name)})), at(name) + too_long);
  EXPECT_CONTAINS(refusal(program({"--compare", at("run"), "--plot", at(name)})), at(name));
}

TEST_F(MmaTrain, HelpShowsEveryOptionAndAnExample) {
  const std::string help = output_of(program({"--help"}));
  for (const char* option : {"--model",         "--dataset",
                             "--data",          "--regularizer",
                             "--coefficient",   "--scope",
                             "--recipe",        "--epochs",
                             "--batch",         "--lr",
                             "--milestones",    "--momentum",
                             "--weight-decay",  "--nesterov",
                             "--seed",          "--threads",
                             "--limit-train",   "--limit-test",
                             "--device",        "--out",
                             "--resume",        "--checkpoint-steps",
                             "--evaluate",      "--compare",
                             "--plot",          "--list-models",
                             "--list-recipes",  "--precision",
                             "--channels-last", "--cuda-graph",
                             "--lr-divisor",    "--dropout",
                             "--autoaugment",   "--cutout",
                             "--mean",          "--deviation",
                             "Example"}) {
    EXPECT_CONTAINS(help, option);
  }
  EXPECT_EQ(help, output_of(program({})));
  EXPECT_CONTAINS(output_of(program({"--list-models"})), "vgg19-bn");
  EXPECT_CONTAINS(output_of(program({"--list-recipes"})), "after epochs 81,122");
}

}  // namespace
}  // namespace mma::tests
