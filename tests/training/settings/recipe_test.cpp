// The paper's recipes, and the learning rate by epoch.
#include "training/settings/recipe.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "training/data/datasets.hpp"
#include "training/models/networks.hpp"
#include "training/settings/new_run.hpp"
#include "training/settings/schedule.hpp"

namespace mma::examples {
namespace {

using Epochs = std::vector<int64_t>;

struct Row {
  const char *name, *model, *dataset, *regularizer, *scope;
  int64_t epochs, batch;
  Epochs milestones;
  double divisor, weight_decay;
  bool nesterov;
  double coefficient;
  bool autoaugment;
};

/// What the paper and the networks' papers say, row by row.
const Row rows[] = {
    // clang-format off
    {"resnet", "", "", "mma", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.03, false},
    {"vgg-bn", "", "", "mma", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"wrn", "", "", "mma", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, false},
    {"densenet", "", "", "mma", "all", 300, 64, {150, 225}, 10, 1e-4, true, 0.03, false},
    {"resnet-tiny-imagenet", "", "", "mma", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.01, false},
    {"strong-vgg19-bn", "vgg19-bn", "cifar100", "mma", "all", 200, 128, {}, 10, 5e-4, true, 0.07, false},
    {"strong-resnet56", "resnet56", "cifar100", "mma", "all", 200, 128, {}, 10, 5e-4, true, 0.03, false},
    {"strong-wrn-28-10", "wrn-28-10", "cifar100", "mma", "all", 200, 128, {}, 5, 5e-4, true, 0.03, false},
    {"strong-densenet-40-12", "densenet-40-12", "cifar100", "mma", "all", 300, 64, {}, 10, 1e-4, true, 0.03, false},
    {"table2-baseline", "vgg19-bn", "cifar100", "none", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table2-hidden", "vgg19-bn", "cifar100", "mma", "hidden", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table2-hidden-output", "vgg19-bn", "cifar100", "mma", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table3-baseline", "vgg19-bn", "cifar100", "none", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table3-mma", "vgg19-bn", "cifar100", "mma", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table3-mhe-s2", "vgg19-bn", "cifar100", "mhe-s2-batch", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table3-mhe-s0", "vgg19-bn", "cifar100", "mhe-s0-batch", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table3-orthogonal", "vgg19-bn", "cifar100", "orthogonal", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table4-wrn-28-10", "wrn-28-10", "cifar100", "none", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, false},
    {"table4-wrn-28-10-autoaugment", "wrn-28-10", "cifar100", "none", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, true},
    {"table4-wrn-28-10-autoaugment-mma", "wrn-28-10", "cifar100", "mma", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, true},
    {"table5-resnet56", "resnet56", "cifar100", "none", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.03, false},
    {"table5-resnet56-mma", "resnet56", "cifar100", "mma", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.03, false},
    {"table5-vgg19-bn", "vgg19-bn", "cifar100", "none", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table5-vgg19-bn-mma", "vgg19-bn", "cifar100", "mma", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table5-wrn-16-8", "wrn-16-8", "cifar100", "none", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, false},
    {"table5-wrn-16-8-mma", "wrn-16-8", "cifar100", "mma", "all", 200, 128, {60, 120, 160}, 5, 5e-4, true, 0.03, false},
    {"table5-densenet-40-12", "densenet-40-12", "cifar100", "none", "all", 300, 64, {150, 225}, 10, 1e-4, true, 0.03, false},
    {"table5-densenet-40-12-mma", "densenet-40-12", "cifar100", "mma", "all", 300, 64, {150, 225}, 10, 1e-4, true, 0.03, false},
    {"table6-resnet56", "resnet56", "tiny-imagenet", "none", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.01, false},
    {"table6-resnet56-mma", "resnet56", "tiny-imagenet", "mma", "all", 164, 128, {81, 122}, 10, 1e-4, false, 0.01, false},
    {"table6-vgg16-bn", "vgg16-bn", "tiny-imagenet", "none", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    {"table6-vgg16-bn-mma", "vgg16-bn", "tiny-imagenet", "mma", "all", 164, 128, {81, 122}, 10, 5e-4, false, 0.07, false},
    // clang-format on
};

TEST(Recipe, IsThereForEachNetworkAndEachRowOfTables2To6) {
  ASSERT_EQ(recipes().size(), std::size(rows));
  for (size_t i = 0; i < std::size(rows); ++i) {
    const Recipe& recipe = recipes()[i];
    const Row& row = rows[i];
    EXPECT_EQ(recipe.name, row.name);
    EXPECT_EQ(recipe.values.model, row.model) << row.name;
    EXPECT_EQ(recipe.values.dataset, row.dataset) << row.name;
    EXPECT_EQ(recipe.values.regularizer, row.regularizer) << row.name;
    EXPECT_EQ(recipe.values.scope, row.scope) << row.name;
    EXPECT_EQ(recipe.values.epochs, row.epochs) << row.name;
    EXPECT_EQ(recipe.values.batch, row.batch) << row.name;
    EXPECT_EQ(recipe.values.milestones, row.milestones) << row.name;
    EXPECT_EQ(recipe.values.rate_divisor, row.divisor) << row.name;
    EXPECT_EQ(recipe.values.weight_decay, row.weight_decay) << row.name;
    EXPECT_EQ(recipe.values.nesterov, row.nesterov) << row.name;
    EXPECT_EQ(recipe.values.coefficient, row.coefficient) << row.name;
    EXPECT_EQ(recipe.values.autoaugment, row.autoaugment) << row.name;
    EXPECT_EQ(recipe.values.cutout, row.autoaugment ? 16 : 0) << row.name;
    EXPECT_EQ(recipe.values.learning_rate, 0.1) << row.name;
    EXPECT_EQ(recipe.values.momentum, 0.9) << row.name;
    const bool strong = recipe.name.starts_with("strong");
    EXPECT_EQ(recipe.values.dropout, recipe.name == "strong-wrn-28-10" ? 0.3 : 0) << row.name;
    EXPECT_EQ(recipe.values.schedule, strong ? "cosine" : "multi-step") << row.name;
    EXPECT_EQ(recipe.values.warm_up, strong ? 5 : 0) << row.name;
    EXPECT_EQ(recipe.values.label_smoothing, strong ? 0.1 : 0) << row.name;
    EXPECT_EQ(recipe.values.decay_filters_only, strong) << row.name;
    EXPECT_EQ(recipe.values.average, 0) << row.name;
  }
}

TEST(Recipe, NamesModelsDataSetsAndRegularizersThatThereAre) {
  const auto known = [](const std::vector<std::string>& names, const std::string& name) {
    return name.empty() || std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const Recipe& recipe : recipes()) {
    EXPECT_TRUE(known(model_names(), recipe.values.model)) << recipe.name;
    EXPECT_TRUE(known(dataset_names(), recipe.values.dataset)) << recipe.name;
    if (recipe.values.regularizer == "none") continue;
    EXPECT_NO_THROW(objective_named(recipe.values.regularizer, "")) << recipe.name;
  }
}

/// Section 5.2: "1.0 for MHE and 0.0001 for orthogonal regularization".
TEST(Recipe, OfTable3HasThePapersCoefficients) {
  EXPECT_EQ(objective_named("mhe-s2-batch", "").coefficient, 1.0);
  EXPECT_EQ(objective_named("mhe-s0-batch", "").coefficient, 1.0);
  EXPECT_EQ(objective_named("orthogonal", "").coefficient, 1e-4);
}

TEST(Recipe, OfANetworkIsChosenByItsNameAndTheDataSet) {
  for (const char* model : {"resnet20", "resnet56"}) {
    EXPECT_EQ(recipe_for(model, "cifar100").name, "resnet");
    EXPECT_EQ(recipe_for(model, "tiny-imagenet").name, "resnet-tiny-imagenet");
  }
  for (const char* dataset : {"cifar10", "tiny-imagenet"}) {
    for (const char* model : {"vgg16-bn", "vgg19-bn", "vgg11-bn-narrow"}) {
      EXPECT_EQ(recipe_for(model, dataset).name, "vgg-bn");
    }
    EXPECT_EQ(recipe_for("wrn-16-8", dataset).name, "wrn");
    EXPECT_EQ(recipe_for("wrn-28-10", dataset).name, "wrn");
    EXPECT_EQ(recipe_for("densenet-40-12", dataset).name, "densenet");
  }
}

TEST(Recipe, OfAnUnknownNetworkIsNone) {
  EXPECT_THROW(recipe_for("alexnet", "cifar100"), UserError);
  for (const Network& network : networks()) EXPECT_NO_THROW(recipe_named(network.recipe)) << network.name;
}

TEST(Recipe, OfATablesRowNamesTheRunsFolder) {
  Given given = {{"data", "data"}, {"recipe", "table2-hidden"}};
  EXPECT_EQ(default_out(settings_of_new_run(given)), "runs/table2-hidden-seed1");
  given["regularizer"] = "none";
  EXPECT_EQ(default_out(settings_of_new_run(given)), "runs/vgg19-bn-cifar100-none-seed1");
}

TEST(Recipe, IsFoundByItsName) {
  for (const Recipe& recipe : recipes()) EXPECT_EQ(&recipe_named(recipe.name), &recipe);
}

TEST(Recipe, OfAnUnknownNameListsTheKnownOnes) {
  try {
    recipe_named("alexnet");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_TRUE(std::string(error.what())
                    .starts_with("no recipe is called 'alexnet': the known ones are resnet, vgg-bn, wrn, densenet, "))
        << error.what();
  }
}

TEST(Schedule, FallsToATenthAtEachMilestone) {
  const auto rate = [](int64_t epoch) { return scheduled_learning_rate(0.1, {81, 122}, 10, epoch); };
  EXPECT_EQ(rate(0), 0.1);
  EXPECT_EQ(rate(80), 0.1);
  EXPECT_EQ(rate(81), 0.01);
  EXPECT_EQ(rate(121), 0.01);
  EXPECT_EQ(rate(122), 0.001);
  EXPECT_EQ(rate(163), 0.001);
}

TEST(Schedule, FallsToAFifthForAWideResNet) {
  const auto rate = [](int64_t epoch) { return scheduled_learning_rate(0.1, {60, 120, 160}, 5, epoch); };
  EXPECT_EQ(rate(59), 0.1);
  EXPECT_EQ(rate(60), 0.02);
  EXPECT_EQ(rate(120), 0.004);
  EXPECT_EQ(rate(199), 0.0008);
}

TEST(Schedule, WithoutMilestonesStays) { EXPECT_EQ(scheduled_learning_rate(0.1, {}, 10, 1000), 0.1); }

TEST(Schedule, MovesMilestonesToTheSameFractionRoundedUp) {
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 164), (Epochs{81, 122}));
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 328), (Epochs{162, 244}));
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 8), (Epochs{4, 6}));  // 3.95 and 5.95
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 1), (Epochs{1, 1}));  // never within the one epoch
}

/// Loshchilov and Hutter's Eq 5 without restarts, Goyal et al's warm-up, at hand-made values.
TEST(Schedule, ByACosineFallsToHalfInTheMiddleAndNearZeroAtTheEnd) {
  Settings settings;
  settings.learning_rate = 0.2;
  settings.epochs = 10;
  settings.schedule = "cosine";
  const auto rate = [&](int64_t epoch, int64_t step) { return learning_rate_at(settings, epoch, step, 4); };
  EXPECT_DOUBLE_EQ(rate(0, 0), 0.2);
  EXPECT_NEAR(rate(5, 0), 0.1, 1e-15);
  EXPECT_NEAR(rate(2, 2), 0.2 * 0.8535533905932737, 1e-15);     // (1 + cos(pi / 4)) / 2
  EXPECT_NEAR(rate(9, 3), 0.2 * 0.0015413331334360182, 1e-15);  // (1 + cos(39 pi / 40)) / 2
}

TEST(Schedule, WarmsUpStepByStep) {
  Settings settings;
  settings.learning_rate = 0.1;
  settings.epochs = 10;
  settings.warm_up = 2;
  settings.milestones = {3};
  const auto rate = [&](int64_t epoch, int64_t step) { return learning_rate_at(settings, epoch, step, 4); };
  EXPECT_DOUBLE_EQ(rate(0, 0), 0.1 / 8);
  EXPECT_DOUBLE_EQ(rate(1, 3), 0.1);
  EXPECT_DOUBLE_EQ(rate(2, 0), 0.1);
  EXPECT_DOUBLE_EQ(rate(3, 0), 0.01);
  settings.schedule = "cosine";
  EXPECT_DOUBLE_EQ(rate(2, 0), 0.1);  // the cosine begins where the warm-up ends
  EXPECT_NEAR(rate(6, 0), 0.05, 1e-15);
}

TEST(Schedule, IsShortenedWithTheRun) {
  const Given given = {{"recipe", "strong-vgg19-bn"}, {"data", "here"}, {"epochs", 80}};
  EXPECT_EQ(settings_of_new_run(given).warm_up, 2);
  const Given whole = {{"recipe", "strong-vgg19-bn"}, {"data", "here"}};
  EXPECT_EQ(settings_of_new_run(whole).warm_up, 5);
}

TEST(Schedule, ByACosineHasNoMilestones) {
  const Given given = {{"recipe", "strong-vgg19-bn"}, {"data", "here"}, {"milestones", {1, 2}}};
  try {
    settings_of_new_run(given);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "--milestones and --lr-divisor belong to --schedule multi-step, not to cosine");
  }
}

}  // namespace
}  // namespace mma::examples
