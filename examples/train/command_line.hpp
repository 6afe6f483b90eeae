// mma-train's command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "training/settings/run_arguments.hpp"

namespace mma::examples {

/// As given; what was left out stays empty.
struct Arguments {
  RunArguments run;
  std::optional<std::string> evaluate, key;
  std::vector<std::string> compare;
  std::optional<std::string> plot;
  std::vector<std::string> layers;  ///< of --compare
  bool markdown = false;
};

/// Reads the command line. Empty when all that was asked for was help, the version or a list, which it has printed.
/// Throws UserError with CLI11's sentence when it is not understood.
std::optional<Arguments> read_command_line(int argc, char** argv);

}  // namespace mma::examples
