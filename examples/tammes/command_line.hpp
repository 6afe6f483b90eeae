// The options of mma-tammes.
#pragma once

#include <optional>
#include <variant>

#include "tammes/solve.hpp"
#include "tammes/table1.hpp"

namespace mma::examples {

struct GradientsArguments {
  std::string out;
  std::string plot;
};

using TammesArguments = std::variant<SolveArguments, Table1Arguments, GradientsArguments>;

/// std::nullopt when help or version was asked for and printed; UserError for options that make no sense.
std::optional<TammesArguments> read_tammes_command_line(int argc, char** argv);

}  // namespace mma::examples
