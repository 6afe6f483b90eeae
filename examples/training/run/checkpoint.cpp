#include "training/run/checkpoint.hpp"

#include <nlohmann/json.hpp>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

nlohmann::ordered_json to_json(const RunRecord& record) {
  nlohmann::ordered_json json;
  json["program"] = record.program;
  json["settings"] = to_json(record.settings);
  json["train_images"] = record.train_images;
  json["classes"] = record.classes;
  json["epoch"] = record.position.epoch;
  json["step"] = record.position.step;
  json["loss_sum"] = record.position.loss_sum;
  json["regularization_sum"] = record.position.regularization_sum;
  json["seconds"] = record.position.seconds;
  json["history"] = nlohmann::ordered_json::array();
  for (const EpochMetrics& metrics : record.history) json["history"].push_back(to_json(metrics));
  return json;
}

RunRecord record_from_json(const nlohmann::ordered_json& json) {
  RunRecord record;
  record.program = json.value("program", record.program);  // older ones do not say
  record.settings = settings_from_json(json.at("settings"));
  json.at("train_images").get_to(record.train_images);
  json.at("classes").get_to(record.classes);
  json.at("epoch").get_to(record.position.epoch);
  json.at("step").get_to(record.position.step);
  json.at("loss_sum").get_to(record.position.loss_sum);
  json.at("regularization_sum").get_to(record.position.regularization_sum);
  json.at("seconds").get_to(record.position.seconds);
  for (const auto& metrics : json.at("history")) record.history.push_back(epoch_metrics_from_json(metrics));
  return record;
}

}  // namespace

void write_checkpoint(const std::filesystem::path& path, const RunRecord& record, TensorFile tensors) {
  tensors.metadata[checkpoint_record_key] = to_json(record).dump();
  write_tensor_file(path, tensors);
}

NamedTensors tested_weights(const TensorFile& file, const Settings& settings) {
  return tensors_under(file, settings.average > 0 ? checkpoint_average_prefix : checkpoint_model_prefix);
}

std::optional<RunRecord> record_in(const TensorFile& file, const std::filesystem::path& path) {
  const auto entry = file.metadata.find(checkpoint_record_key);
  if (entry == file.metadata.end()) return std::nullopt;
  try {
    RunRecord record = record_from_json(nlohmann::ordered_json::parse(entry->second));
    check(record.settings);  // as if somebody had typed them
    return record;
  } catch (const UserError& error) {
    throw UserError(path.string() + " holds settings that no run can have: " + error.what());
  } catch (const nlohmann::json::exception&) {
    throw UserError(path.string() + " holds a record of its run that this version of mma-train cannot read.");
  }
}

}  // namespace mma::examples
