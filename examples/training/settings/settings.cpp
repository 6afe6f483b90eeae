#include "training/settings/settings.hpp"

#include <c10/util/StringUtil.h>

#include "support/process/error.hpp"
#include "training/settings/table.hpp"

namespace mma::examples {
namespace {

void check_milestones(const std::vector<int64_t>& milestones) {
  int64_t lowest = 1;
  for (int64_t milestone : milestones) {
    require(milestone >= lowest, "--milestones: epochs from 1 on in rising order are needed");
    lowest = milestone;
  }
}

}  // namespace

nlohmann::ordered_json to_json(const Settings& settings) {
  nlohmann::ordered_json json = to_json(run_options(), settings);
  for (const auto& [name, own] : settings.of_program) json[name] = own;
  return json;
}

Settings settings_from_json(const nlohmann::ordered_json& json) {
  Settings settings;
  read_json(run_options(), json, settings);
  for (const auto& [name, member] : json.items()) {
    if (member.is_object()) settings.of_program[name] = member;
  }
  return settings;
}

void refuse_unknown_settings(const nlohmann::ordered_json& json) {
  for (const auto& [name, member] : json.items()) {
    if (member.is_object() || has_key(run_options(), name)) continue;
    throw BadJson("'" + name + "' is a setting that this version does not know");
  }
}

void check(const Settings& settings) {
  check_values(run_options(), settings);
  check_milestones(settings.milestones);
  require(settings.warm_up < settings.epochs || settings.warm_up == 0,
          c10::str("--warm-up ", settings.warm_up, ": fewer epochs than the run's ", settings.epochs, " are needed"));
  require(!settings.nesterov || settings.momentum > 0, "--nesterov needs a --momentum above 0");
  require(settings.mean.size() == settings.deviation.size(),
          "--mean and --deviation belong together, one number a channel each");
  require(!(settings.deterministic && settings.cudnn_benchmark),
          "--deterministic and --cudnn-benchmark exclude each other: cuDNN's choice differs from run to run");
  require(!settings.cuda_graph || settings.device == "cuda",
          "--cuda-graph is for a GPU: it needs --device cuda, not --device " + settings.device);
}

}  // namespace mma::examples
