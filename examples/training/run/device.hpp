// Whether this machine and this build can do what a run wants.
#pragma once

#include "training/settings/settings.hpp"

namespace mma::examples {

/// Throws UserError for a GPU that is not there, or CUDA graphs that were not built in.
void check_device(const Settings& settings);

}  // namespace mma::examples
