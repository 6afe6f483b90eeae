// metrics.csv of a run, read with suspicion: it may have come from another machine, cut off on its way or edited.
#pragma once

#include <filesystem>
#include <vector>

#include "training/run/metrics.hpp"

namespace mma::examples {

/// Epoch by epoch, from 1 on without a gap; empty where no epoch is finished. Columns that an older version did not
/// write are NaN, those that this one does not know are passed over. Throws UserError that names file and line: for a
/// file that is cut off, a column that is missing, a cell that is no number or none that a run can have.
std::vector<EpochMetrics> read_metrics_csv(const std::filesystem::path& file);

}  // namespace mma::examples
