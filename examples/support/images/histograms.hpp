// The paper's Figure 1 for every layer: histograms of the cosines of all pairs of weight vectors.
#pragma once

#include <filesystem>

#include "mma/report.hpp"

namespace mma::examples {

/// Draws one panel for each layer that has angles, all over the same range of cosines. Throws UserError when there is
/// none, or when the picture cannot be drawn or written.
void plot_histograms(const Report& report, const std::filesystem::path& path);

}  // namespace mma::examples
