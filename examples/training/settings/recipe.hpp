// Recipes: what each network is trained with, one for each row of the paper's Tables 2 to 6. docs/recipes.md says where
// each value comes from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "training/settings/settings.hpp"

namespace mma::examples {

struct Recipe {
  std::string name;
  std::string about;
  /// The values of the options whose rows say that a recipe has them; and of a row of a table its model, data set and
  /// regularizer, else empty. `coefficient` is that of MMA.
  Settings values;
};

/// The networks' own first, then the tables' rows.
const std::vector<Recipe>& recipes();

/// Throws UserError for an unknown name; the sentence lists the known ones.
const Recipe& recipe_named(const std::string& name);

/// The recipe that a network gets on a data set when none is named: the one that its registration names, or that of
/// this name and the data set's, such as resnet-tiny-imagenet.
const Recipe& recipe_for(const std::string& model, const std::string& dataset);

}  // namespace mma::examples
