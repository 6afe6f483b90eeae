// The table that sets runs side by side, and their common picture.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace mma::examples {

/// Prints a line for each run folder; draws the picture when a path is given. Throws UserError for a folder without a
/// run's config.json and metrics.jsonl, or when no epoch of it is finished.
void compare_runs(const std::vector<std::string>& folders, const std::optional<std::string>& picture,
                  std::ostream& stream);

}  // namespace mma::examples
