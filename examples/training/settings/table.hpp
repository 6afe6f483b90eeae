// The options of a run, a row each; a new one is a row here and a member of Settings.
#pragma once

#include "training/settings/option_row.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// In the order of the help and of config.json.
const OptionRows<Settings>& run_options();

/// The row of a key, "cutout".
const OptionRow<Settings>& run_option(const std::string& key);

/// The sections of the help that the training programs share.
namespace section {
inline constexpr const char* trained = "What is trained";
inline constexpr const char* regularization = "Regularization";
inline constexpr const char* optimization = "Optimization by SGD (default: the recipe's values)";
inline constexpr const char* run = "The run";
}  // namespace section

}  // namespace mma::examples
