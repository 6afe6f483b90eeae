// A training run in its folder: from nothing or from its checkpoint, until it is finished or interrupted.
#pragma once

#include <string>

#include "train/checkpoint.hpp"
#include "train/command_line.hpp"
#include "train/progress.hpp"

namespace mma::examples {

/// The files of a run.
struct RunFolder {
  std::filesystem::path path;

  std::filesystem::path config() const { return path / "config.json"; }
  std::filesystem::path checkpoint() const { return path / "checkpoint.safetensors"; }
  std::filesystem::path metrics_csv() const { return path / "metrics.csv"; }
  std::filesystem::path metrics_jsonl() const { return path / "metrics.jsonl"; }
  std::filesystem::path accuracy_plot() const { return path / "accuracy.png"; }
  std::filesystem::path angles_plot() const { return path / "angles.png"; }

  bool holds_a_run() const;
};

/// Trains as the arguments say, a new run or with --resume an old one. Returns 0 when the run is finished, 128 + signal
/// when it was interrupted; everything needed to go on is then in its checkpoint.
/// Throws UserError for bad input; the files that were there stay as they were.
int train(const Arguments& arguments, Progress& progress);

}  // namespace mma::examples
