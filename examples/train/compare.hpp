// The table that sets runs side by side, and their common picture.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace mma::examples {

/// What to show beside the figures of each run.
struct Comparison {
  std::vector<std::string> layers = {};  ///< a column with the minimal angle of each
  bool markdown = false;
  std::optional<std::string> picture = {};  ///< a path
};

/// Prints a line for each run folder. Throws UserError for a folder without a run's config.json and metrics.jsonl, when
/// no epoch of it is finished, or when it has no layer of a wanted name.
void compare_runs(const std::vector<std::string>& folders, const Comparison& wanted, std::ostream& stream);

}  // namespace mma::examples
