// What a run measures: top-1 and top-5, the figures of each epoch, and the files metrics.csv, metrics.jsonl and, for
// TensorBoard, events.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

struct Hits {
  int64_t top1 = 0;
  int64_t top5 = 0;
  int64_t images = 0;

  double top1_percent() const;
  double top5_percent() const;
};

/// Hits counted over any number of batches, where the logits are.
class HitCounter {
 public:
  /// Adds a batch: logits [B, classes], labels int64 [B]. A label's rank counts every class whose logit is not smaller,
  /// so that constant or NaN logits score nothing.
  void add(const at::Tensor& logits, const at::Tensor& labels);

  /// So far; waits for a GPU.
  Hits hits() const;

 private:
  at::Tensor top1_and_top5_;  ///< int64 [2]; undefined before the first batch
  int64_t images_ = 0;
};

/// The angles of a network's layers at one time; a layer with fewer than two usable rows has NaN.
struct AngleSummary {
  std::vector<std::pair<std::string, double>> minimal_angles;  ///< by layer, in degrees
  double mean_nearest_angle = 0;                               ///< degrees, the mean over layers of the layer's mean
  int64_t pairs_above = 0;                                     ///< pairs with a cosine above 0.2, all layers together

  double smallest_minimal_angle() const;
  double mean_minimal_angle() const;
};

struct EpochMetrics {
  int64_t epoch = 0;  ///< from 1
  double learning_rate = 0;
  double loss = 0;                 ///< cross entropy, mean over the epoch's images
  double regularization_loss = 0;  ///< coefficient times MMA loss, mean over the epoch's steps
  double top1 = 0;                 ///< percent of the test images; NaN where there are none
  double top5 = 0;
  AngleSummary angles;
  int64_t skipped_steps = 0;       ///< left out because a gradient in float16 overflowed
  double seconds = 0;              ///< of the epoch, evaluation included
  double seconds_per_step = 0;     ///< of training, mean over the epoch
  double communication_share = 0;  ///< of those seconds, in which a process waited for others; 0 for one alone
  double peak_memory_mib = 0;      ///< so far: of the GPU's allocator, on a CPU of the whole process
  double finished_at = 0;          ///< seconds since 1970
};

nlohmann::ordered_json to_json(const EpochMetrics& metrics);

/// Of this epoch, from 1. Throws BadJson for a member that is missing or that no epoch can have.
EpochMetrics epoch_metrics_from_json(const nlohmann::ordered_json& json, int64_t epoch);

/// One line of names, then one an epoch; what differs between repetitions of a run, seconds, memory and date, stands
/// last.
void write_metrics_csv(std::ostream& stream, const std::vector<EpochMetrics>& history);

/// One JSON object a line and epoch.
void write_metrics_jsonl(std::ostream& stream, const std::vector<EpochMetrics>& history);

/// One epoch as a record of a TensorBoard event file; its step is the epoch.
std::string event_record(const EpochMetrics& metrics);

/// A whole event file of at least one epoch.
void write_event_file(std::ostream& stream, const std::vector<EpochMetrics>& history);

/// False for a run without test images.
bool was_tested(const std::vector<EpochMetrics>& history);

/// The paper's figure of merit: the mean of top-1 or top-5 over the last five epochs, or over all when there are fewer.
double mean_of_last_five(const std::vector<EpochMetrics>& history, double EpochMetrics::*member);
double mean_top1_of_last_five(const std::vector<EpochMetrics>& history);

}  // namespace mma::examples
