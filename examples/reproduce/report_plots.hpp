// The pictures of reports.
#pragma once

#include <filesystem>

#include "reproduce/first_layer.hpp"
#include "reproduce/results.hpp"

namespace mma::examples {

/// Draws the experiment as the paper does, from the runs that are finished. False when there are none: nothing is drawn
/// then. Throws UserError when gnuplot is missing or fails.
bool plot_experiment(const Experiment& experiment, const Standing& standing, FirstLayers& first_layers,
                     const std::filesystem::path& path);

}  // namespace mma::examples
