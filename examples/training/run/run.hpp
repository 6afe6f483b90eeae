// A training run in its folder: from nothing or from its checkpoint, until it is finished or interrupted.
#pragma once

#include <string>

#include "training/run/checkpoint.hpp"
#include "training/run/progress.hpp"
#include "training/run/trainer.hpp"

namespace mma::examples {

/// The files of a run.
struct RunFolder {
  std::filesystem::path path;

  std::filesystem::path config() const { return path / "config.json"; }
  std::filesystem::path checkpoint() const { return path / "checkpoint.safetensors"; }
  std::filesystem::path metrics_csv() const { return path / "metrics.csv"; }
  std::filesystem::path metrics_jsonl() const { return path / "metrics.jsonl"; }
  std::filesystem::path events() const { return path / "events.out.tfevents.mma"; }  ///< TensorBoard's
  std::filesystem::path accuracy_plot() const { return path / "accuracy.png"; }
  std::filesystem::path angles_plot() const { return path / "angles.png"; }

  bool holds_a_run() const;
};

/// What is wanted of a run beside its settings.
struct RunOrder {
  RunFolder folder;
  std::optional<std::filesystem::path> exported;  ///< where the weights go when it is finished
  std::vector<std::string> words;                 ///< the command line, for the record
};

/// Begins a run or goes on with one; `change` may change the settings that its checkpoint records, or throw UserError.
/// Both return 0 when the run is finished, 128 + signal when it was interrupted; everything needed to go on is then in
/// its checkpoint. Both throw UserError for bad input; the files that were there stay as they were. Meanwhile the
/// folder is locked: a second program that would write there is refused.
int start_run(const Settings& settings, const RunOrder& order, const Trainer& trainer, Progress& progress);
int resume_run(const RunOrder& order, const std::function<void(Settings&)>& change, const Trainer& trainer,
               Progress& progress);

/// Writes a checkpoint's network alone, under the names and in the shapes of Python's state dicts, as safetensors.
void export_weights(const std::filesystem::path& checkpoint, const std::filesystem::path& path);

}  // namespace mma::examples
