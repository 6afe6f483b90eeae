// What has come out of an experiment so far, beside the paper's figures, as Markdown and as CSV. A cell without a
// finished run says "not run".
#pragma once

#include <string>

#include "reproduce/first_layer.hpp"
#include "reproduce/results.hpp"
#include "support/terminal/table.hpp"

namespace mma::examples {

struct ExperimentReport {
  std::string markdown;
  TableLines csv;  ///< what differs between repetitions, seconds and memory, stands last
};

ExperimentReport report_of(const Experiment& experiment, const Standing& standing, FirstLayers& first_layers);

/// A paragraph: which of the runs are finished, and which programs on which machines made them.
std::string provenance_of(const Experiment& experiment, const Standing& standing);

}  // namespace mma::examples
