// Recipes: what each network is trained with, one for each row of the paper's Tables 2 to 6, and the learning rate of
// each epoch. docs/recipes.md says where each value comes from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mma::examples {

struct Recipe {
  std::string name;
  std::string about;
  std::string model;    ///< of a row of a table; empty: any
  std::string dataset;  ///< the same
  int64_t epochs = 164;
  int64_t batch = 128;
  double learning_rate = 0.1;
  std::vector<int64_t> milestones = {81, 122};  ///< finished epochs after which the rate falls
  double rate_divisor = 10;                     ///< what it is divided by there
  double momentum = 0.9;
  double weight_decay = 0;
  bool nesterov = false;
  double dropout = 0;
  bool autoaugment = false;
  int64_t padding = 4;  ///< images are moved by up to so many pixels
  int64_t cutout = 0;   ///< the square's side in pixels; 0: none
  std::string regularizer = "mma";
  std::string scope = "all";
  double coefficient = 0;  ///< of MMA regularization
};

/// The networks' own first, then the tables' rows.
const std::vector<Recipe>& recipes();

/// Throws UserError for an unknown name; the sentence lists the known ones.
const Recipe& recipe_named(const std::string& name);

/// The recipe that a network gets on a data set when none is named.
const Recipe& recipe_for(const std::string& model, const std::string& dataset);

/// Milestones of a run of `from` epochs moved to the same fractions of a run of `to` epochs, rounded up.
std::vector<int64_t> scaled_milestones(const std::vector<int64_t>& milestones, int64_t from, int64_t to);

/// The learning rate of an epoch (counted from 0): the first one, divided at each milestone reached.
double scheduled_learning_rate(double first, const std::vector<int64_t>& milestones, double divisor, int64_t epoch);

}  // namespace mma::examples
