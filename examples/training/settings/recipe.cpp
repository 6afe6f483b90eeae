#include "training/settings/recipe.hpp"

#include <algorithm>

#include "support/process/error.hpp"
#include "training/models/networks.hpp"

namespace mma::examples {
namespace {

/// What the networks' papers have in common.
Recipe common() {
  Recipe recipe;
  recipe.values.epochs = 164;
  recipe.values.batch = 128;
  recipe.values.learning_rate = 0.1;
  recipe.values.milestones = {81, 122};
  recipe.values.momentum = 0.9;
  return recipe;
}

Recipe vgg_bn() {
  Recipe recipe = common();
  recipe.name = "vgg-bn";
  recipe.about = "VGG with batch normalization";
  recipe.values.weight_decay = 5e-4;
  recipe.values.coefficient = 0.07;
  return recipe;
}

Recipe resnet() {
  Recipe recipe = common();
  recipe.name = "resnet";
  recipe.about = "ResNet20 and ResNet56";
  recipe.values.weight_decay = 1e-4;
  recipe.values.coefficient = 0.03;
  return recipe;
}

Recipe resnet_on_tiny_imagenet() {
  Recipe recipe = resnet();
  recipe.name = "resnet-tiny-imagenet";
  recipe.about = "ResNet56 on TinyImageNet";
  recipe.values.coefficient = 0.01;
  return recipe;
}

Recipe wrn() {
  Recipe recipe = common();
  recipe.name = "wrn";
  recipe.about = "wide residual networks";
  recipe.values.epochs = 200;
  recipe.values.milestones = {60, 120, 160};
  recipe.values.rate_divisor = 5;
  recipe.values.weight_decay = 5e-4;
  recipe.values.nesterov = true;
  recipe.values.coefficient = 0.03;
  return recipe;
}

Recipe densenet() {
  Recipe recipe = common();
  recipe.name = "densenet";
  recipe.about = "DenseNet";
  recipe.values.epochs = 300;
  recipe.values.batch = 64;
  recipe.values.milestones = {150, 225};
  recipe.values.weight_decay = 1e-4;
  recipe.values.nesterov = true;
  recipe.values.coefficient = 0.03;
  return recipe;
}

/// The tricks of He et al. 2019 that cost nothing and change neither network nor images: warm-up, a cosine, no decay of
/// normalisation and biases, smoothed labels. Nesterov's momentum as in the public zoos.
Recipe strong(const std::string& model, Recipe recipe) {
  recipe.name = "strong-" + model;
  recipe.about = "a strong baseline: " + model + " on cifar100";
  recipe.values.model = model;
  recipe.values.dataset = "cifar100";
  recipe.values.epochs = std::max<int64_t>(recipe.values.epochs, 200);
  recipe.values.schedule = "cosine";
  recipe.values.milestones = {};
  recipe.values.warm_up = 5;
  recipe.values.nesterov = true;
  recipe.values.label_smoothing = 0.1;
  recipe.values.decay_filters_only = true;
  return recipe;
}

/// The values in which a strong recipe differs from its network's own come from the public baselines (docs/recipes.md).
void add_strong(std::vector<Recipe>& all) {
  all.push_back(strong("vgg19-bn", vgg_bn()));
  all.push_back(strong("resnet56", resnet()));
  all.back().values.weight_decay = 5e-4;
  all.push_back(strong("wrn-28-10", wrn()));
  all.back().values.dropout = 0.3;
  all.push_back(strong("densenet-40-12", densenet()));
}

/// A row of a table: a network's recipe on a data set with a regularizer.
Recipe row(int table, const std::string& what, Recipe recipe, const std::string& model, const std::string& dataset,
           const std::string& regularizer) {
  recipe.name = "table" + std::to_string(table) + "-" + what;
  recipe.about = "the paper's Table " + std::to_string(table) + ": " + model + " on " + dataset;
  recipe.values.model = model;
  recipe.values.dataset = dataset;
  recipe.values.regularizer = regularizer;
  return recipe;
}

/// Which layers are regularized.
void add_table_2(std::vector<Recipe>& all) {
  const auto vgg = [&](const std::string& what, const std::string& regularizer) -> Recipe& {
    return all.emplace_back(row(2, what, vgg_bn(), "vgg19-bn", "cifar100", regularizer));
  };
  vgg("baseline", "none");
  vgg("hidden", "mma").values.scope = "hidden";
  vgg("hidden-output", "mma");
}

/// By which regularizer; MHE on a random 30 % of the rows, as the paper had to.
void add_table_3(std::vector<Recipe>& all) {
  const std::pair<const char*, const char*> rows[] = {{"baseline", "none"},
                                                      {"mma", "mma"},
                                                      {"mhe-s2", "mhe-s2-batch"},
                                                      {"mhe-s0", "mhe-s0-batch"},
                                                      {"orthogonal", "orthogonal"}};
  for (const auto& [what, regularizer] : rows)
    all.push_back(row(3, what, vgg_bn(), "vgg19-bn", "cifar100", regularizer));
}

/// With AutoAugment, whose paper cuts squares of 16 x 16 out of its images too.
void add_table_4(std::vector<Recipe>& all) {
  Recipe augmented = wrn();
  augmented.values.autoaugment = true;
  augmented.values.cutout = 16;
  all.push_back(row(4, "wrn-28-10", wrn(), "wrn-28-10", "cifar100", "none"));
  all.push_back(row(4, "wrn-28-10-autoaugment", augmented, "wrn-28-10", "cifar100", "none"));
  all.push_back(row(4, "wrn-28-10-autoaugment-mma", augmented, "wrn-28-10", "cifar100", "mma"));
}

void add_without_and_with_mma(std::vector<Recipe>& all, int table, const Recipe& recipe, const std::string& model,
                              const std::string& dataset) {
  all.push_back(row(table, model, recipe, model, dataset, "none"));
  all.push_back(row(table, model + "-mma", recipe, model, dataset, "mma"));
}

}  // namespace

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = [] {
    std::vector<Recipe> result = {resnet(), vgg_bn(), wrn(), densenet(), resnet_on_tiny_imagenet()};
    add_strong(result);
    add_table_2(result);
    add_table_3(result);
    add_table_4(result);
    add_without_and_with_mma(result, 5, resnet(), "resnet56", "cifar100");
    add_without_and_with_mma(result, 5, vgg_bn(), "vgg19-bn", "cifar100");
    add_without_and_with_mma(result, 5, wrn(), "wrn-16-8", "cifar100");
    add_without_and_with_mma(result, 5, densenet(), "densenet-40-12", "cifar100");
    add_without_and_with_mma(result, 6, resnet_on_tiny_imagenet(), "resnet56", "tiny-imagenet");
    add_without_and_with_mma(result, 6, vgg_bn(), "vgg16-bn", "tiny-imagenet");
    return result;
  }();
  return all;
}

const Recipe& recipe_named(const std::string& name) {
  std::string known;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name) return recipe;
    known += (known.empty() ? "" : ", ") + recipe.name;
  }
  throw UserError("no recipe is called '" + name + "': the known ones are " + known);
}

const Recipe& recipe_for(const std::string& model, const std::string& dataset) {
  const std::string& name = network_named(model).recipe;
  const auto of_dataset = std::ranges::find(recipes(), name + "-" + dataset, &Recipe::name);
  return of_dataset != recipes().end() ? *of_dataset : recipe_named(name);
}

}  // namespace mma::examples
