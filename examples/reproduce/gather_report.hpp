// The report on gathered runs: as Markdown for people, as JSON for tools, as panels of a picture.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reproduce/arms.hpp"
#include "support/images/plot.hpp"

namespace mma::examples {

struct Gathered {
  GatheredRuns found;
  std::vector<ArmResults> arms;  ///< the baseline first
};

/// One sentence for each arm beside the baseline; without any, one that says so.
std::vector<std::string> verdicts_on(const Gathered& gathered);

/// `picture` is the file beside the report, or empty where none was drawn.
std::string markdown_of(const Gathered& gathered, const std::string& command, const std::string& picture);

nlohmann::ordered_json json_of(const Gathered& gathered, const std::string& command);

/// Top-1 by epoch, differences to the baseline with their intervals, top-1 against angle.
std::vector<Plot> panels_of(const Gathered& gathered);

}  // namespace mma::examples
