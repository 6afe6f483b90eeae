// The test accuracy of a file of weights, ours or Python's.
#pragma once

#include <ostream>

#include "training/settings/command_line.hpp"

namespace mma::examples {

/// Prints top-1 and top-5 of the weights that --evaluate names. A checkpoint of mma-train brings its model and data
/// set; for other files --model and --dataset are needed. Throws UserError when weights, network and data do not fit.
void evaluate_weights(const Arguments& arguments, std::ostream& stream);

}  // namespace mma::examples
