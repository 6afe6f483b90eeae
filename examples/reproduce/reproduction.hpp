// From a command line to reports: looks at what is there, trains what is missing, writes what has come out.
#pragma once

#include <ostream>

#include "reproduce/command_line.hpp"

namespace mma::examples {

/// Returns 0 when everything is there, 1 when runs failed, 128 + signal when it was interrupted; the reports tell what
/// is there in any case. `mma_train` is the program that trains. Throws UserError for bad input; what was there stays.
int reproduce(const ReproduceArguments& arguments, const std::filesystem::path& mma_train, std::ostream& stream);

}  // namespace mma::examples
