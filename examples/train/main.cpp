// mma-train: trains image classifiers with and without MMA regularization, resumes, evaluates and compares them.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "common/error.hpp"
#include "train/command_line.hpp"
#include "train/compare.hpp"
#include "train/evaluate.hpp"
#include "train/run.hpp"

namespace {

using namespace mma::examples;

/// LibTorch's threads wait for each other by spinning. Where another program wants a core too, that makes a step
/// several times slower (measured: 26 s instead of 8 s). OpenMP reads the choice only when it is loaded: so load it
/// anew.
void wait_without_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::execv("/proc/self/exe", argv);  // returns only when it fails: then this goes on as it is
}

int run(int argc, char** argv) {
  const std::optional<Arguments> arguments = read_command_line(argc, argv);
  if (!arguments) return 0;
  if (!arguments->compare.empty()) {
    compare_runs(arguments->compare, {arguments->layers, arguments->markdown, arguments->plot}, std::cout);
    return 0;
  }
  if (exports_without_training(*arguments)) {
    export_weights(RunFolder{*arguments->out}.checkpoint(), *arguments->exported);
    return 0;
  }
  wait_without_spinning(argv);
  if (!arguments->evaluate) return train(*arguments, *progress_on_stdout());
  evaluate_weights(*arguments, std::cout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return mma::examples::run_program("mma-train", [&] { return run(argc, argv); });
}
