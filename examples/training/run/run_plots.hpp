// The pictures of runs: accuracy by epoch, minimal angle by layer.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/run/metrics.hpp"

namespace mma::examples {

/// One run: top-1 and top-5 by epoch.
void plot_accuracy(const std::vector<EpochMetrics>& history, const std::filesystem::path& path);

/// One run: the layers' minimal angles over the training, after up to six of its epochs.
void plot_angles(const std::vector<EpochMetrics>& history, const std::filesystem::path& path);

struct NamedHistory {
  std::string name;
  std::vector<EpochMetrics> history;
};

/// Several runs in one picture: top-1 by epoch, minimal angle by layer after the last epoch; of up to four runs also
/// the angles over the training.
void plot_comparison(const std::vector<NamedHistory>& runs, const std::filesystem::path& path);

}  // namespace mma::examples
