// mma-reproduce gather: from folders of finished runs, whatever machine they are of, to a report.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace mma::examples {

struct GatherArguments {
  std::vector<std::string> folders;
  std::string out = "gathered";
  std::string baseline = "none";
  std::string command;  ///< as typed, for the record
};

/// argv begins with the program's name and "gather". Empty when all that was asked for was help, which it has printed.
/// Throws UserError.
std::optional<GatherArguments> read_gather_command_line(int argc, char** argv);

/// Writes report.md, report.json and, where gnuplot is there, report.png; says on the stream what it counted. Throws
/// UserError for bad input; what was there stays.
void gather(const GatherArguments& arguments, std::ostream& stream);

}  // namespace mma::examples
