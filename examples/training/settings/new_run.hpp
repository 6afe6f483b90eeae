// How what was given becomes the settings of a new run, or fits those of an old one.
#pragma once

#include <optional>
#include <string>

#include "training/settings/recipe.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {

/// The settings of a new run on images of classes: what was given, else the recipe's values; checked.
Settings settings_of_new_run(const Given& given);

/// The same for a program with networks and data of its own: what was given, else the recipe's. Checked.
Settings settings_by_recipe(const Given& given, const Recipe& recipe);

/// Where a new run goes when no --out is given.
std::string default_out(const Settings& settings);

/// Takes over what may change between the parts of a run; throws UserError that names the first option that
/// contradicts the run in folder `out`.
void apply_to_resumed_run(const Given& given, const std::string& out, Settings& settings);

/// The folder of a data set: the one given, else where Debian's package puts Fashion-MNIST. Throws UserError.
std::string data_folder(const std::optional<std::string>& given, const std::string& dataset);

}  // namespace mma::examples
