// Recipes: the optimizer's settings that the paper's networks are trained with, and the learning rate of each epoch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mma::examples {

struct Recipe {
  std::string name;
  std::string about;
  int64_t epochs = 164;
  int64_t batch = 128;
  double learning_rate = 0.1;
  std::vector<int64_t> milestones = {81, 122};  ///< finished epochs after which the rate falls to a tenth
  double momentum = 0.9;
  double weight_decay = 0;
  bool nesterov = false;
  double coefficient = 0;  ///< of MMA regularization
};

const std::vector<Recipe>& recipes();

/// Throws UserError for an unknown name; the sentence lists the known ones.
const Recipe& recipe_named(const std::string& name);

/// The recipe that a network gets when none is named.
const Recipe& recipe_for_model(const std::string& model);

/// Milestones of a run of `from` epochs moved to the same fractions of a run of `to` epochs, rounded up.
std::vector<int64_t> scaled_milestones(const std::vector<int64_t>& milestones, int64_t from, int64_t to);

/// The learning rate of an epoch (counted from 0): the first one, divided by ten at each milestone reached.
double scheduled_learning_rate(double first, const std::vector<int64_t>& milestones, int64_t epoch);

}  // namespace mma::examples
