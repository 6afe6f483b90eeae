// mma-train: trains image classifiers with and without MMA regularization, resumes, evaluates and compares them.
#include <iostream>

#include "support/process/environment.hpp"
#include "support/process/error.hpp"
#include "train/command_line.hpp"
#include "train/compare.hpp"
#include "train/evaluate.hpp"
#include "train/train.hpp"
#include "training/run/run.hpp"

namespace {

using namespace mma::examples;

int run(int argc, char** argv) {
  const std::optional<Arguments> arguments = read_command_line(argc, argv);
  if (!arguments) return 0;
  if (!arguments->compare.empty()) {
    compare_runs(arguments->compare, {arguments->layers, arguments->markdown, arguments->plot}, std::cout);
    return 0;
  }
  if (exports_without_training(arguments->run)) {
    export_weights(RunFolder{*arguments->run.out}.checkpoint(), *arguments->run.exported);
    return 0;
  }
  restart_for_training(argv);
  if (!arguments->evaluate) return train(arguments->run, *progress_on_stdout());
  evaluate_weights(*arguments, std::cout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return mma::examples::run_program("mma-train", [&] { return run(argc, argv); });
}
