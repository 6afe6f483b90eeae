// mma-reproduce's command line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reproduce/experiments.hpp"
#include "reproduce/plan.hpp"

namespace mma::examples {

struct ReproduceArguments {
  std::vector<Experiment> experiments;
  PlanOptions plan;
  bool resume = false, dry_run = false, report_only = false;
  int64_t jobs = 1;
  std::vector<std::string> words;  ///< argv, for the record
};

/// Empty when all that was asked for was help or the version, which it has printed. Throws UserError.
std::optional<ReproduceArguments> read_reproduce_command_line(int argc, char** argv);

}  // namespace mma::examples
