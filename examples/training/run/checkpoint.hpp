// One file from which a run goes on: its tensors, its settings, where it stands and what it has measured.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "support/files/tensor_file.hpp"
#include "training/run/metrics.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// Where a run stands: `epoch` epochs are finished, and `step` steps of the next one.
struct Position {
  int64_t epoch = 0;
  int64_t step = 0;
  double loss_sum = 0;  ///< of the running epoch, see LossSums
  double regularization_sum = 0;
  double seconds = 0;         ///< spent on the running epoch
  int64_t skipped_steps = 0;  ///< of the running epoch, see StepCounts
  double communication_seconds = 0;
};

/// What a checkpoint says beside its tensors.
struct RunRecord {
  std::string program = "mma-train";  ///< the words that start it
  Settings settings;
  int64_t train_images = 0;
  int64_t classes = 0;
  Position position;
  std::vector<EpochMetrics> history;  ///< of the finished epochs
};

/// Writes both as one safetensors file, atomically.
void write_checkpoint(const std::filesystem::path& path, const RunRecord& record, TensorFile tensors);

/// Beside the network's tensors and the optimizer's: the moving average of the weights, where a run has one.
inline constexpr const char* checkpoint_average_prefix = "average.";

/// What the run tests: the network's tensors, or their moving average.
NamedTensors tested_weights(const TensorFile& file, const Settings& settings);

/// The record as it lies in the file, for the processes that do not see it. Throws BadJson or UserError as record_in.
std::string text_of(const RunRecord& record);
RunRecord record_from_text(const std::string& text);

/// The record inside a file read by read_tensor_file; empty when mma-train did not write it.
/// Throws UserError that names the path when the record is damaged.
std::optional<RunRecord> record_in(const TensorFile& file, const std::filesystem::path& path);

}  // namespace mma::examples
