// The paper's recipes, and the learning rate by epoch.
#include "train/recipe.hpp"

#include <gtest/gtest.h>

#include "common/error.hpp"
#include "train/models.hpp"

namespace mma::examples {
namespace {

using Epochs = std::vector<int64_t>;

TEST(Recipe, IsThePapersForEachNetwork) {
  for (const std::string& model : model_names()) {
    const bool vgg = model.substr(0, 3) == "vgg";
    const Recipe& recipe = recipe_for_model(model);
    EXPECT_EQ(recipe.epochs, 164) << model;
    EXPECT_EQ(recipe.milestones, (Epochs{81, 122})) << model;
    EXPECT_EQ(recipe.batch, 128) << model;
    EXPECT_EQ(recipe.learning_rate, 0.1) << model;
    EXPECT_EQ(recipe.momentum, 0.9) << model;
    EXPECT_EQ(recipe.weight_decay, vgg ? 5e-4 : 1e-4) << model;
    EXPECT_EQ(recipe.coefficient, vgg ? 0.07 : 0.03) << model;
  }
}

TEST(Recipe, IsFoundByItsName) {
  for (const Recipe& recipe : recipes()) EXPECT_EQ(&recipe_named(recipe.name), &recipe);
}

TEST(Recipe, OfAnUnknownNameListsTheKnownOnes) {
  try {
    recipe_named("alexnet");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "no recipe is called 'alexnet': the known ones are resnet, vgg-bn");
  }
}

TEST(Schedule, FallsToATenthAtEachMilestone) {
  const auto rate = [](int64_t epoch) { return scheduled_learning_rate(0.1, {81, 122}, epoch); };
  EXPECT_EQ(rate(0), 0.1);
  EXPECT_EQ(rate(80), 0.1);
  EXPECT_EQ(rate(81), 0.01);
  EXPECT_EQ(rate(121), 0.01);
  EXPECT_EQ(rate(122), 0.001);
  EXPECT_EQ(rate(163), 0.001);
}

TEST(Schedule, WithoutMilestonesStays) { EXPECT_EQ(scheduled_learning_rate(0.1, {}, 1000), 0.1); }

TEST(Schedule, MovesMilestonesToTheSameFractionRoundedUp) {
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 164), (Epochs{81, 122}));
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 328), (Epochs{162, 244}));
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 8), (Epochs{4, 6}));  // 3.95 and 5.95
  EXPECT_EQ(scaled_milestones({81, 122}, 164, 1), (Epochs{1, 1}));  // never within the one epoch
}

}  // namespace
}  // namespace mma::examples
