#include "training/run/checkpoint.hpp"

#include <c10/util/StringUtil.h>

#include <mma/version.hpp>

#include "support/files/json.hpp"
#include "support/process/error.hpp"
#include "training/run/recorded_run.hpp"
#include "training/settings/schedule.hpp"

namespace mma::examples {
namespace {

nlohmann::ordered_json to_json(const RunRecord& record) {
  nlohmann::ordered_json json;
  json["program"] = record.program;
  json["version"] = version;
  json["settings"] = to_json(record.settings);
  json["train_images"] = record.train_images;
  json["classes"] = record.classes;
  json["epoch"] = record.position.epoch;
  json["step"] = record.position.step;
  json["loss_sum"] = record.position.loss_sum;
  json["regularization_sum"] = record.position.regularization_sum;
  json["seconds"] = record.position.seconds;
  json["skipped_steps"] = record.position.skipped_steps;
  json["communication_seconds"] = record.position.communication_seconds;
  json["history"] = nlohmann::ordered_json::array();
  for (const EpochMetrics& metrics : record.history) json["history"].push_back(to_json(metrics));
  return json;
}

constexpr int64_t many = 1'000'000'000;  // images and classes: what fits into memory is told by the data

Settings settings_in(const nlohmann::ordered_json& json) {
  Settings settings = settings_from_json(member_of(json, "settings"));
  refuse_unknown_settings(member_of(json, "settings"));
  check(settings);  // as if somebody had typed them
  return settings;
}

/// Where no run can stand no run can go on from.
Position position_in(const nlohmann::ordered_json& json, const RunRecord& record) {
  const Settings& settings = record.settings;
  Position position;
  position.epoch = whole_number(json, "epoch", 0, settings.epochs);
  const bool is_finished = position.epoch == settings.epochs;
  position.step = whole_number(json, "step", 0, is_finished ? 0 : steps_in_epoch(record.train_images, settings.batch));
  position.loss_sum = finite_number(json, "loss_sum");
  position.regularization_sum = finite_number(json, "regularization_sum");
  position.seconds = finite_number(json, "seconds", 0);
  if (json.contains("skipped_steps")) {  // older ones do not say
    position.skipped_steps = whole_number(json, "skipped_steps", 0, position.step);
    position.communication_seconds = finite_number(json, "communication_seconds", 0);
  }
  return position;
}

/// Of as many epochs as are finished.
std::vector<EpochMetrics> history_in(const nlohmann::ordered_json& json, int64_t epochs) {
  const nlohmann::ordered_json& list = member_of(json, "history");
  if (!list.is_array()) refuse_member("history", list, "a list");
  if (std::ssize(list) != epochs) {
    throw BadJson(c10::str("'history' has ", list.size(), " epochs; expected ", epochs, ", as 'epoch' says"));
  }
  std::vector<EpochMetrics> history;
  for (const nlohmann::ordered_json& metrics : list) {
    const int64_t epoch = std::ssize(history) + 1;
    try {
      history.push_back(epoch_metrics_from_json(metrics, epoch));
    } catch (const BadJson& error) {
      throw BadJson(error.about(c10::str("epoch ", epoch, " of 'history'")));
    }
  }
  return history;
}

RunRecord record_from_json(const nlohmann::ordered_json& json) {
  RunRecord record;
  if (json.contains("program")) record.program = word(json, "program");  // older ones do not say
  record.settings = settings_in(json);
  record.train_images = whole_number(json, "train_images", 1, many);
  record.classes = whole_number(json, "classes", 1, many);
  record.position = position_in(json, record);
  record.history = history_in(json, record.position.epoch);
  return record;
}

}  // namespace

std::string text_of(const RunRecord& record) { return to_json(record).dump(); }

RunRecord record_from_text(const std::string& text) { return record_from_json(parse_ordered_json(text)); }

void write_checkpoint(const std::filesystem::path& path, const RunRecord& record, TensorFile tensors) {
  tensors.metadata[checkpoint_record_key] = text_of(record);
  write_tensor_file(path, tensors);
}

NamedTensors tested_weights(const TensorFile& file, const Settings& settings) {
  return tensors_under(file, settings.average > 0 ? checkpoint_average_prefix : checkpoint_model_prefix);
}

std::optional<RunRecord> record_in(const TensorFile& file, const std::filesystem::path& path) {
  const auto entry = file.metadata.find(checkpoint_record_key);
  if (entry == file.metadata.end()) return std::nullopt;
  nlohmann::ordered_json record;
  try {
    record = parse_ordered_json(entry->second);
    return record_from_json(record);
  } catch (const BadJson& error) {
    throw UserError(path.string() + ": " + error.about("the record of its run") + of_another_version(record));
  } catch (const UserError& error) {
    throw UserError(path.string() + " holds settings that no run can have: " + error.what());
  }
}

}  // namespace mma::examples
