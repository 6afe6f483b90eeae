// Which runs a table needs: each once, named readably, with the words that mma-train gets; and what a folder holds.
#include "reproduce/plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "../temporary_folder.hpp"
#include "made_runs.hpp"
#include "reproduce/run_state.hpp"
#include "reproduce/time_left.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

PlanOptions options(Scale scale, std::vector<uint64_t> seeds) {
  PlanOptions options;
  options.scale = scale;
  options.seeds = std::move(seeds);
  options.out = "out";
  options.data = {{"cifar100", "cifar"}, {"tiny-imagenet", "tiny"}};
  return options;
}

Plan plan_of(const Words& names, Scale scale = Scale::full, std::vector<uint64_t> seeds = {123}) {
  return make_plan(experiments_named(names), options(scale, std::move(seeds)));
}

Words names_of(const Plan& plan) {
  Words names;
  for (const PlannedRun& run : plan.runs) names.push_back(run.name);
  return names;
}

template <class Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Plan, NamesItsRunsReadably) {
  EXPECT_EQ(names_of(plan_of({"table2"})),
            (Words{"vgg19-bn-cifar100-none-seed123", "vgg19-bn-cifar100-mma-0.07-hidden-seed123",
                   "vgg19-bn-cifar100-mma-0.07-all-seed123"}));
  EXPECT_EQ(names_of(plan_of({"table4"})),
            (Words{"wrn-28-10-cifar100-none-seed123", "wrn-28-10-cifar100-none-autoaugment-cutout16-seed123",
                   "wrn-28-10-cifar100-mma-0.03-all-autoaugment-cutout16-seed123"}));
  EXPECT_EQ(names_of(plan_of({"study"})),
            (Words{"vgg11-bn-narrow-cifar100-none-seed123", "vgg11-bn-narrow-cifar100-mma-seed123",
                   "vgg11-bn-narrow-cifar100-orthogonal-seed123", "vgg11-bn-narrow-cifar100-mhe-s2-seed123"}));
}

TEST(Plan, TrainsWhatSeveralTablesShareOnce) {
  const Plan plan = plan_of({"all"}, Scale::full, {123, 223});
  const Words names = names_of(plan);
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
  // Tables 2 to 6: 3 + 5 + 3 + 8 + 4 rows, of which 2 of Table 3 and 2 of Table 5 stand in Table 2 already; Figures 3
  // and 4: 5 coefficients that are in no table, and 7; figures 1, 5, 6 add nothing.
  EXPECT_EQ(names.size(), 2u * (23 - 4 + 5 + 7));
  const auto experiments = experiments_named({"all"});
  const auto index = [&](const std::string& name, size_t row) {
    const auto found = std::ranges::find(experiments, name, &Experiment::name);
    return plan.index(*found, row, 223);
  };
  const size_t mma = index("table2", 2);
  EXPECT_EQ(index("table3", 1), mma);
  EXPECT_EQ(index("table5", 3), mma);
  EXPECT_EQ(index("figure1", 3), mma);
  EXPECT_EQ(index("figure3", 3), mma);
  EXPECT_EQ(index("figure5", 1), mma);
  EXPECT_EQ(plan.runs[mma].experiments, (Words{"table2", "table3", "table5", "figure1", "figure3", "figure5"}));
  EXPECT_EQ(index("figure3", 0), index("table2", 0));
  EXPECT_EQ(index("figure6", 1), index("table5", 1));
  EXPECT_NE(index("table2", 1), mma);
}

TEST(Plan, BringsOneSeedOfEverythingFirst) {
  const Words names = names_of(plan_of({"table2"}, Scale::full, {5, 6}));
  ASSERT_EQ(names.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(names[i].ends_with(i < 3 ? "-seed5" : "-seed6")) << names[i];
}

TEST(Plan, AtFullScaleIsTheRecipe) {
  const PlannedRun run = plan_of({"table2"}).runs[1];
  EXPECT_EQ(run.begin, (Words{"--recipe", "table2-hidden", "--seed", "123", "--threads", "1", "--data", "cifar",
                              "--out", "out/runs/vgg19-bn-cifar100-mma-0.07-hidden-seed123"}));
  EXPECT_EQ(run.resume,
            (Words{"--resume", "--out", "out/runs/vgg19-bn-cifar100-mma-0.07-hidden-seed123", "--data", "cifar"}));
  EXPECT_EQ(run.settings.epochs, 164);
  EXPECT_EQ(run.settings.batch, 128);
  EXPECT_EQ(run.settings.limit_train, 0);
  EXPECT_EQ(run.settings.scope, "hidden");
}

TEST(Plan, AtSmokeScaleIsTheSameButTiny) {
  for (const PlannedRun& run : plan_of({"all", "study"}, Scale::smoke).runs) {
    SCOPED_TRACE(run.name);
    EXPECT_EQ(run.settings.epochs, 2);
    EXPECT_EQ(run.settings.batch, 8);
    EXPECT_EQ(run.settings.limit_train, 24);
    EXPECT_EQ(run.settings.limit_test, 64);
  }
}

TEST(Plan, TrainsTheStudyOnOneThread) {
  PlanOptions with = options(Scale::full, {223});
  with.threads_of_new_runs = 2;
  const PlannedRun run = make_plan(experiments_named({"study"}), with).runs[3];
  EXPECT_EQ(run.begin, (Words{"--model",       "vgg11-bn-narrow",
                              "--dataset",     "cifar100",
                              "--regularizer", "mhe-s2",
                              "--limit-train", "5000",
                              "--limit-test",  "5000",
                              "--epochs",      "15",
                              "--batch",       "64",
                              "--seed",        "223",
                              "--threads",     "1",
                              "--data",        "cifar",
                              "--out",         "out/runs/vgg11-bn-narrow-cifar100-mhe-s2-seed223"}));
}

TEST(Plan, PassesTheMachineOn) {
  PlanOptions with = options(Scale::full, {1});
  with.device = "cpu";
  with.precision = "bf16";
  with.threads = 3;
  with.channels_last = false;
  const PlannedRun run = make_plan(experiments_named({"table6"}), with).runs[0];
  EXPECT_EQ(run.begin, (Words{"--recipe", "table6-resnet56", "--seed", "1", "--device", "cpu", "--threads", "3",
                              "--precision", "bf16", "--no-channels-last", "--data", "tiny", "--out",
                              "out/runs/resnet56-tiny-imagenet-none-seed1"}));
  EXPECT_EQ(run.resume, (Words{"--resume", "--out", "out/runs/resnet56-tiny-imagenet-none-seed1", "--data", "tiny",
                               "--device", "cpu", "--threads", "3"}));  // what a run has for good is not said again
  EXPECT_EQ(run.settings.precision, "bf16");
}

TEST(Plan, OfStrongBaselinesScalesWithTheEpochs) {
  PlanOptions shorter = options(Scale::full, {1});
  shorter.epochs = 40;
  const Plan plan = make_plan(experiments_named({"strong"}), shorter);
  ASSERT_EQ(plan.runs.size(), 24u);  // four networks: none, three coefficients of MMA, orthogonal, MHE
  const Settings& none = plan.runs[0].settings;
  EXPECT_EQ(plan.runs[0].name, "strong-vgg19-bn-none-seed1");
  EXPECT_EQ(plan.runs[1].name, "strong-vgg19-bn-mma-0.03-seed1");
  EXPECT_EQ(none.epochs, 40);
  EXPECT_EQ(none.warm_up, 1);
  EXPECT_EQ(none.schedule, "cosine");
  for (const PlannedRun& run : plan.runs) EXPECT_EQ(std::ranges::count(run.begin, "--epochs"), 1) << run.name;
}

TEST(Plan, OfWeightDecayIsAGridOfNine) {
  const Plan plan = make_plan(experiments_named({"weight-decay"}), options(Scale::full, {123}));
  ASSERT_EQ(plan.runs.size(), 9u);
  std::set<std::pair<double, double>> seen;
  for (const PlannedRun& run : plan.runs) {
    const Settings& settings = run.settings;
    seen.emplace(settings.weight_decay, settings.regularizer == "none" ? 0 : settings.coefficient);
    EXPECT_EQ(settings.limit_train, 5000) << run.name;
  }
  std::set<std::pair<double, double>> expected;
  for (const double decay : {1e-4, 5e-4, 2.5e-3}) {
    for (const double coefficient : {0.0, 0.07, 0.2}) expected.emplace(decay, coefficient);
  }
  EXPECT_EQ(seen, expected);
}

TEST(Plan, RefusesAnUnknownTable) {
  EXPECT_EQ(error_of([] {
              experiments_named({"table2", "table9"});
            }),
            "'table9' is none of what can be repeated: table2, table3, table4, table5, table6, figure1, figure3, "
            "figure4, figure5, figure6, study, study-resnet20, weight-decay, strong, all");
}

TEST(Plan, HasAllOfThePaperWithoutWhatIsOurs) {
  const auto all = experiments_named({"all"});
  EXPECT_EQ(all.size(), experiments().size() - 4);
  EXPECT_EQ(experiments_named({"all", "table2", "study", "study-resnet20", "weight-decay", "strong"}).size(),
            experiments().size());
}

TEST(TimeLeft, GrowsWithTheCostOfTheSameNetwork) {
  const Plan plan = plan_of({"table5", "table4", "figure4"});
  const auto run = [&](const std::string& name) {
    return *std::ranges::find(plan.runs, name + "-seed123", &PlannedRun::name);
  };
  TimeLeft left;
  EXPECT_EQ(left.seconds(run("resnet56-cifar100-none")), std::nullopt);
  EXPECT_EQ(duration_or_unknown(left.seconds(run("resnet56-cifar100-none"))), "unknown");
  left.learn(run("resnet56-cifar100-none"), 1000);
  EXPECT_NEAR(*left.seconds(run("resnet56-cifar100-mma-0.03-all")), 1000, 1e-6);
  EXPECT_NEAR(*left.seconds(run("resnet56-cifar100-mma-0.03-all"), 0.25), 250, 1e-6);
  // Multiply-adds of one image: 41 and 126 millions; the number of epochs and images is the same.
  EXPECT_NEAR(*left.seconds(run("resnet20-cifar100-none")), 1000 * 41.0 / 126, 1e-6);
  // 5243 millions, and 200 epochs instead of 164.
  EXPECT_NEAR(*left.seconds(run("wrn-28-10-cifar100-none")), 1000 * 5243.0 / 126 * 200 / 164, 1e-6);
  left.learn(run("resnet20-cifar100-none"), 500);  // its own speed counts from now on
  EXPECT_NEAR(*left.seconds(run("resnet20-cifar100-mma-0.03-all")), 500, 1e-6);
}

class RunFolders : public testing::Test {
 protected:
  RunFolders() {
    PlanOptions with = options(Scale::smoke, {1});
    with.out = folder_.path();
    run_ = make_plan(experiments_named({"table2"}), with).runs[2];
  }

  RunState look() const { return look_at(run_.folder, run_.settings); }
  std::string refusal() const {
    return error_of([&] { look(); });
  }

  mma::tests::TemporaryFolder folder_;
  PlannedRun run_;
};

TEST_F(RunFolders, TellWhetherARunIsThereBegunOrFinished) {
  EXPECT_EQ(look().status, RunStatus::missing);
  mma::tests::write_config(run_);
  EXPECT_EQ(look().status, RunStatus::begun);
  mma::tests::write_metrics(run_, {{10, 20, {}}});
  EXPECT_EQ(look().status, RunStatus::begun);
  EXPECT_EQ(look().history.size(), 1u);
  mma::tests::write_metrics(run_, {{10, 20, {}}, {11, 21, {}}});
  EXPECT_EQ(look().status, RunStatus::finished);
  EXPECT_EQ(look().seconds(), 200);
}

TEST_F(RunFolders, AdoptWhatWasTrainedElsewhere) {
  mma::tests::write_config(run_, {{"data", "/elsewhere"},
                                  {"recipe", "table3-mma"},
                                  {"device", "cuda"},
                                  {"threads", 64},
                                  {"channels_last", false},
                                  {"cuda_graph", true},
                                  {"checkpoint_steps", 100}});
  EXPECT_EQ(look().status, RunStatus::begun);
}

TEST_F(RunFolders, AdoptARunOfAnOlderVersionThatLacksASetting) {
  nlohmann::ordered_json config;
  config["settings"] = to_json(run_.settings);
  config["settings"].erase("refresh_every");  // its default is 1
  fs::create_directories(run_.folder);
  mma::tests::write_bytes(run_.folder / "config.json", config.dump());
  EXPECT_EQ(look().status, RunStatus::begun);
}

TEST_F(RunFolders, RefuseAnotherRun) {
  const std::pair<const char*, nlohmann::ordered_json> changes[] = {
      {"coefficient", 0.5}, {"scope", "hidden"}, {"seed", 2},    {"epochs", 3},         {"batch", 16},
      {"limit_train", 0},   {"cutout", 16},      {"model", "x"}, {"precision", "bf16"}, {"milestones", {1}}};
  for (const auto& [name, value] : changes) {
    SCOPED_TRACE(name);
    mma::tests::write_config(run_, {{name, value}});
    const std::string expected = run_.folder.string() + " holds another run than the one wanted (its " + name + " is " +
                                 value.dump() + ", not " + to_json(run_.settings)[name].dump() +
                                 "): move it away, or choose another --out";
    EXPECT_EQ(refusal(), expected);
  }
}

TEST_F(RunFolders, RefuseForeignFiles) {
  fs::create_directories(run_.folder);
  mma::tests::write_bytes(run_.folder / "config.json", "{}");
  EXPECT_EQ(refusal(), "the config.json in " + run_.folder.string() +
                           " is not one that mma-train wrote: in it, there is no 'settings'");
  mma::tests::write_config(run_);
  mma::tests::write_bytes(run_.folder / "metrics.jsonl", "{\"epoch\": 1}\n");
  EXPECT_EQ(refusal(), "the metrics.jsonl in " + run_.folder.string() +
                           " is not one that mma-train wrote: in line 1, there is no 'learning_rate'");
}

}  // namespace
}  // namespace mma::examples
