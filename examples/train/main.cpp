// mma-train: trains image classifiers with and without MMA regularization, resumes, evaluates and compares them.
#include <iostream>

#include "common/error.hpp"
#include "train/command_line.hpp"
#include "train/compare.hpp"
#include "train/evaluate.hpp"
#include "train/run.hpp"

namespace {

using namespace mma::examples;

int run(int argc, char** argv) {
  const std::optional<Arguments> arguments = read_command_line(argc, argv);
  if (!arguments) return 0;
  if (!arguments->compare.empty()) {
    compare_runs(arguments->compare, arguments->plot, std::cout);
  } else if (arguments->evaluate) {
    evaluate_weights(*arguments, std::cout);
  } else {
    return train(*arguments, *progress_on_stdout());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return mma::examples::run_program("mma-train", [&] { return run(argc, argv); });
}
