#include "training/run/metrics.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/le.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/files/event_file.hpp"
#include "support/files/json.hpp"
#include "support/terminal/table.hpp"

namespace mma::examples {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double percent(int64_t part, int64_t whole) { return 100.0 * static_cast<double>(part) / static_cast<double>(whole); }

constexpr double full_turn = 360;  // an angle of 180 degrees may be rounded up
constexpr int64_t most = std::numeric_limits<int64_t>::max();

}  // namespace

double Hits::top1_percent() const { return percent(top1, images); }
double Hits::top5_percent() const { return percent(top5, images); }

void HitCounter::add(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor of_label = logits.gather(1, labels.unsqueeze(1));
  const at::Tensor rank = logits.lt(of_label).logical_not().sum(1);  // NaN compares false: it stands above
  const at::Tensor counts = at::stack({rank.le(1).sum(), rank.le(5).sum()});
  top1_and_top5_ = top1_and_top5_.defined() ? top1_and_top5_ + counts : counts;
  images_ += labels.size(0);
}

Hits HitCounter::hits() const {
  if (!top1_and_top5_.defined()) return {};
  const at::Tensor counts = top1_and_top5_.cpu();
  return {counts[0].item<int64_t>(), counts[1].item<int64_t>(), images_};
}

double AngleSummary::smallest_minimal_angle() const {
  double smallest = not_a_number;
  for (const auto& [layer, angle] : minimal_angles) smallest = std::fmin(smallest, angle);
  return smallest;
}

double AngleSummary::mean_minimal_angle() const {
  double sum = 0;
  int64_t count = 0;
  for (const auto& [layer, angle] : minimal_angles) {
    if (std::isnan(angle)) continue;
    sum += angle;
    ++count;
  }
  return sum / static_cast<double>(count);
}

nlohmann::ordered_json to_json(const EpochMetrics& metrics) {
  nlohmann::ordered_json json;
  json["epoch"] = metrics.epoch;
  json["learning_rate"] = metrics.learning_rate;
  json["loss"] = metrics.loss;
  json["regularization_loss"] = metrics.regularization_loss;
  json["top1_percent"] = metrics.top1;
  json["top5_percent"] = metrics.top5;
  json["mean_nearest_angle_degrees"] = metrics.angles.mean_nearest_angle;
  json["pairs_above_0.2"] = metrics.angles.pairs_above;
  nlohmann::ordered_json& angles = json["minimal_angle_degrees"] = nlohmann::ordered_json::object();
  for (const auto& [layer, angle] : metrics.angles.minimal_angles) angles[layer] = angle;
  json["skipped_steps"] = metrics.skipped_steps;
  json["seconds"] = metrics.seconds;
  json["seconds_per_step"] = metrics.seconds_per_step;
  json["communication_share"] = metrics.communication_share;
  json["peak_memory_mib"] = metrics.peak_memory_mib;
  json["finished_at"] = metrics.finished_at;
  return json;
}

EpochMetrics epoch_metrics_from_json(const nlohmann::ordered_json& json, int64_t epoch) {
  EpochMetrics metrics;
  metrics.epoch = whole_number(json, "epoch", epoch, epoch);
  metrics.learning_rate = finite_number(json, "learning_rate", 0);
  metrics.loss = number_or_nan(json, "loss");
  metrics.regularization_loss = number_or_nan(json, "regularization_loss");
  metrics.top1 = number_or_nan(json, "top1_percent", 0, 100);
  metrics.top5 = number_or_nan(json, "top5_percent", 0, 100);
  metrics.angles.mean_nearest_angle = number_or_nan(json, "mean_nearest_angle_degrees", 0, full_turn);
  metrics.angles.pairs_above = whole_number(json, "pairs_above_0.2", 0, most);
  const nlohmann::ordered_json& angles = member_of(json, "minimal_angle_degrees");
  if (!angles.is_object()) refuse_member("minimal_angle_degrees", angles, "an object with an angle for each layer");
  for (const auto& [layer, angle] : angles.items()) {
    metrics.angles.minimal_angles.emplace_back(layer, number_or_nan(angles, layer, 0, full_turn));
  }
  if (json.contains("skipped_steps")) metrics.skipped_steps = whole_number(json, "skipped_steps", 0, most);
  metrics.seconds = finite_number(json, "seconds", 0);
  const auto since_0_2 = [&](const char* name) {
    return json.contains(name) ? number_or_nan(json, name, 0) : not_a_number;
  };
  metrics.seconds_per_step = since_0_2("seconds_per_step");
  if (json.contains("communication_share")) {
    metrics.communication_share = finite_number(json, "communication_share", 0, 1);
  }
  metrics.peak_memory_mib = since_0_2("peak_memory_mib");
  if (json.contains("finished_at")) metrics.finished_at = finite_number(json, "finished_at", 0);
  return metrics;
}

void write_metrics_csv(std::ostream& stream, const std::vector<EpochMetrics>& history) {
  stream << "epoch,learning_rate,loss,regularization_loss,top1_percent,top5_percent,mean_nearest_angle_degrees,"
            "pairs_above_0.2";
  if (!history.empty()) {
    for (const auto& [layer, angle] : history.front().angles.minimal_angles) {
      stream << ",minimal_angle_degrees:" << layer;
    }
  }
  stream << ",skipped_steps,seconds,seconds_per_step,communication_share,peak_memory_mib,finished_at\n";
  for (const EpochMetrics& metrics : history) {
    stream << metrics.epoch << ',' << exact(metrics.learning_rate) << ',' << exact(metrics.loss) << ','
           << exact(metrics.regularization_loss) << ',' << exact(metrics.top1) << ',' << exact(metrics.top5) << ','
           << exact(metrics.angles.mean_nearest_angle) << ',' << metrics.angles.pairs_above;
    for (const auto& [layer, angle] : metrics.angles.minimal_angles) stream << ',' << exact(angle);
    stream << ',' << metrics.skipped_steps << ',' << exact(metrics.seconds) << ',' << exact(metrics.seconds_per_step)
           << ',' << exact(metrics.communication_share) << ',' << exact(metrics.peak_memory_mib) << ','
           << exact(metrics.finished_at) << '\n';
  }
}

void write_metrics_jsonl(std::ostream& stream, const std::vector<EpochMetrics>& history) {
  for (const EpochMetrics& metrics : history) stream << to_json(metrics).dump() << '\n';
}

std::string event_record(const EpochMetrics& metrics) {
  Scalars scalars = {{"loss/cross_entropy", metrics.loss},
                     {"loss/regularization", metrics.regularization_loss},
                     {"accuracy/top1_percent", metrics.top1},
                     {"accuracy/top5_percent", metrics.top5},
                     {"learning_rate", metrics.learning_rate},
                     {"angles/mean_minimal_degrees", metrics.angles.mean_minimal_angle()},
                     {"angles/mean_nearest_degrees", metrics.angles.mean_nearest_angle},
                     {"angles/pairs_above_0.2", static_cast<double>(metrics.angles.pairs_above)},
                     {"cost/seconds_per_step", metrics.seconds_per_step},
                     {"cost/communication_share", metrics.communication_share},
                     {"cost/peak_memory_mib", metrics.peak_memory_mib}};
  for (const auto& [layer, angle] : metrics.angles.minimal_angles) {
    scalars.emplace_back("minimal_angle_degrees/" + layer, angle);
  }
  return event_record(metrics.finished_at, metrics.epoch, scalars);
}

void write_event_file(std::ostream& stream, const std::vector<EpochMetrics>& history) {
  stream << event_file_beginning(history.front().finished_at);
  for (const EpochMetrics& metrics : history) stream << event_record(metrics);
}

bool was_tested(const std::vector<EpochMetrics>& history) { return !std::isnan(history.back().top1); }

double mean_of_last_five(const std::vector<EpochMetrics>& history, double EpochMetrics::*member) {
  const size_t count = std::min<size_t>(5, history.size());
  double sum = 0;
  for (size_t i = history.size() - count; i < history.size(); ++i) sum += history[i].*member;
  return sum / static_cast<double>(count);
}

double mean_top1_of_last_five(const std::vector<EpochMetrics>& history) {
  return mean_of_last_five(history, &EpochMetrics::top1);
}

}  // namespace mma::examples
