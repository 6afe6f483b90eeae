// mma-reproduce: the paper's tables and figures, trained by mma-train and reported beside the paper's figures.
#include <filesystem>
#include <iostream>

#include "reproduce/command_line.hpp"
#include "reproduce/reproduction.hpp"
#include "support/process/error.hpp"

namespace {

using namespace mma::examples;

int run(int argc, char** argv) {
  const std::optional<ReproduceArguments> arguments = read_reproduce_command_line(argc, argv);
  if (!arguments) return 0;
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return reproduce(*arguments, here / "mma-train", std::cout);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-reproduce", [&] { return run(argc, argv); });
}
