// mma-reproduce: the paper's tables and figures, trained by mma-train and reported beside the paper's figures; and
// reports on runs gathered from anywhere.
#include <filesystem>
#include <iostream>
#include <string_view>

#include "reproduce/command_line.hpp"
#include "reproduce/gather.hpp"
#include "reproduce/reproduction.hpp"
#include "support/process/error.hpp"

namespace {

using namespace mma::examples;

int run_gather(int argc, char** argv) {
  if (const std::optional<GatherArguments> arguments = read_gather_command_line(argc, argv)) {
    gather(*arguments, std::cout);
  }
  return 0;
}

int run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "gather") return run_gather(argc, argv);
  const std::optional<ReproduceArguments> arguments = read_reproduce_command_line(argc, argv);
  if (!arguments) return 0;
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return reproduce(*arguments, here / "mma-train", std::cout);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-reproduce", [&] { return run(argc, argv); });
}
