#include "train/recipe.hpp"

#include "common/error.hpp"

namespace mma::examples {

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = [] {
    Recipe vgg;
    vgg.name = "vgg-bn";
    vgg.about = "the paper's VGG networks with batch normalization";
    vgg.weight_decay = 5e-4;
    vgg.coefficient = 0.07;
    Recipe resnet;
    resnet.name = "resnet";
    resnet.about = "the paper's networks with skip connections";
    resnet.weight_decay = 1e-4;
    resnet.coefficient = 0.03;
    return std::vector<Recipe>{resnet, vgg};
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

const Recipe& recipe_for_model(const std::string& model) {
  return recipe_named(model.starts_with("vgg") ? "vgg-bn" : "resnet");
}

std::vector<int64_t> scaled_milestones(const std::vector<int64_t>& milestones, int64_t from, int64_t to) {
  std::vector<int64_t> scaled;
  for (int64_t milestone : milestones) scaled.push_back((milestone * to + from - 1) / from);
  return scaled;
}

double scheduled_learning_rate(double first, const std::vector<int64_t>& milestones, int64_t epoch) {
  double divisor = 1;  // 0.1 has no exact binary form: a division gives 0.01 where two products do not
  for (int64_t milestone : milestones) {
    if (epoch >= milestone) divisor *= 10;
  }
  return first / divisor;
}

}  // namespace mma::examples
