// mma-train's two ways: a new run, or with --resume an old one.
#pragma once

#include "training/run/progress.hpp"
#include "training/settings/run_arguments.hpp"

namespace mma::examples {

/// As start_run and resume_run.
int train(const RunArguments& arguments, Progress& progress);

}  // namespace mma::examples
