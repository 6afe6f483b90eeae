// The test accuracy of a file of weights, ours or Python's.
#pragma once

#include <optional>
#include <ostream>

#include "train/command_line.hpp"
#include "training/run/checkpoint.hpp"

namespace mma::examples {

/// What the command line says, and where it is silent, what a checkpoint knows about itself. Throws UserError for the
/// name of another model.
Settings settings_of_evaluation(const Arguments& arguments, const std::optional<RunRecord>& record);

/// Prints top-1 and top-5 of the weights that --evaluate names. A checkpoint of mma-train brings its model and data
/// set; for other files --model and --dataset are needed. Throws UserError when weights, network and data do not fit.
void evaluate_weights(const Arguments& arguments, std::ostream& stream);

}  // namespace mma::examples
