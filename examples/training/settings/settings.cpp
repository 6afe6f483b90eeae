#include "training/settings/settings.hpp"

#include <c10/util/StringUtil.h>
#include <torch/cuda.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "training/run/captured_step.hpp"
#include "training/run/precision.hpp"

namespace mma::examples {
namespace {

/// Calls visit(name, member) for every member, in the order of the file.
template <class AnySettings, class Visit>
void visit_members(AnySettings& settings, const Visit& visit) {
  visit("model", settings.model);
  visit("dataset", settings.dataset);
  visit("data", settings.data);
  visit("recipe", settings.recipe);
  visit("regularizer", settings.regularizer);
  visit("coefficient", settings.coefficient);
  visit("scope", settings.scope);
  visit("refresh_every", settings.refresh_every);
  visit("epochs", settings.epochs);
  visit("batch", settings.batch);
  visit("learning_rate", settings.learning_rate);
  visit("milestones", settings.milestones);
  visit("momentum", settings.momentum);
  visit("weight_decay", settings.weight_decay);
  visit("nesterov", settings.nesterov);
  visit("rate_divisor", settings.rate_divisor);
  visit("dropout", settings.dropout);
  visit("autoaugment", settings.autoaugment);
  visit("cutout", settings.cutout);
  visit("mean", settings.mean);
  visit("deviation", settings.deviation);
  visit("seed", settings.seed);
  visit("limit_train", settings.limit_train);
  visit("limit_test", settings.limit_test);
  visit("device", settings.device);
  visit("precision", settings.precision);
  visit("channels_last", settings.channels_last);
  visit("cuda_graph", settings.cuda_graph);
  visit("threads", settings.threads);
  visit("checkpoint_steps", settings.checkpoint_steps);
}

/// The same for the members that older files do not have.
template <class AnySettings, class Visit>
void visit_newer_members(AnySettings& settings, const Visit& visit) {
  visit("padding", settings.padding);
  visit("deterministic", settings.deterministic);
  visit("cudnn_benchmark", settings.cudnn_benchmark);
}

template <class AnyFaceSettings, class Visit>
void visit_face_members(AnyFaceSettings& settings, const Visit& visit) {
  visit("channels", settings.channels);
  visit("embedding", settings.embedding);
  visit("angle_factor", settings.angle_factor);
  visit("angular_margin", settings.angular_margin);
  visit("cosine_margin", settings.cosine_margin);
  visit("scale", settings.scale);
  visit("minimum_images", settings.minimum_images);
  visit("hold_out", settings.hold_out);
  visit("exclude_pairs", settings.exclude_pairs);
  visit("exclude_folds", settings.exclude_folds);
  visit("skip_bad", settings.skip_bad);
}

void require(bool condition, const std::string& sentence) {
  if (!condition) throw UserError(sentence);
}

void require_at_least_zero(const char* flag, double value) {
  require(std::isfinite(value) && value >= 0, c10::str(flag, " ", value, ": a finite number not below 0 is needed"));
}

void require_at_least_one(const char* flag, int64_t value) {
  require(value >= 1, c10::str(flag, " ", value, ": at least 1 is needed"));
}

void check_choice(const char* flag, const std::string& value, const std::vector<std::string>& known) {
  std::string list;
  for (const std::string& name : known) {
    if (name == value) return;
    list += (list.empty() ? "" : ", ") + name;
  }
  throw UserError(c10::str(flag, " ", value, ": one of ", list, " is needed"));
}

void check_milestones(const std::vector<int64_t>& milestones) {
  int64_t lowest = 1;
  for (int64_t milestone : milestones) {
    require(milestone >= lowest, "--milestones: epochs from 1 on in rising order are needed");
    lowest = milestone;
  }
}

void check_normalisation(const std::vector<double>& mean, const std::vector<double>& deviation) {
  require(mean.size() == deviation.size(), "--mean and --deviation belong together, one number a channel each");
  for (double number : mean) require_at_least_zero("--mean", number);
  for (double number : deviation) {
    require(std::isfinite(number) && number > 0, c10::str("--deviation ", number, ": a number above 0 is needed"));
  }
}

std::vector<std::string> regularizer_names() {
  std::vector<std::string> names = {"none"};
  for (const NamedObjective& objective : objectives()) names.push_back(objective.name);
  return names;
}

}  // namespace

nlohmann::ordered_json to_json(const Settings& settings) {
  nlohmann::ordered_json json;
  const auto write = [&](const char* name, const auto& member) { json[name] = member; };
  visit_members(settings, write);
  visit_newer_members(settings, write);
  if (settings.faces) {
    nlohmann::ordered_json& faces = json["faces"];
    visit_face_members(*settings.faces, [&](const char* name, const auto& member) { faces[name] = member; });
  }
  return json;
}

Settings settings_from_json(const nlohmann::ordered_json& json) {
  Settings settings;
  visit_members(settings, [&](const char* name, auto& member) { json.at(name).get_to(member); });
  visit_newer_members(settings, [&](const char* name, auto& member) {
    if (json.contains(name)) json[name].get_to(member);
  });
  if (json.contains("faces")) {
    const auto& faces = json["faces"];
    visit_face_members(settings.faces.emplace(),
                       [&](const char* name, auto& member) { faces.at(name).get_to(member); });
  }
  return settings;
}

void check(const Settings& settings) {
  check_choice("--regularizer", settings.regularizer, regularizer_names());
  check_choice("--scope", settings.scope, {"hidden", "output", "all"});
  check_choice("--device", settings.device, {"cpu", "cuda"});
  check_choice("--precision", settings.precision, precision_names());
  require_at_least_one("--epochs", settings.epochs);
  require_at_least_one("--batch", settings.batch);
  require_at_least_one("--threads", settings.threads);
  require_at_least_zero("--lr", settings.learning_rate);
  require_at_least_zero("--momentum", settings.momentum);
  require_at_least_zero("--weight-decay", settings.weight_decay);
  require_at_least_zero("--coefficient", settings.coefficient);
  require_at_least_one("--refresh-every", settings.refresh_every);
  require(settings.momentum < 1, c10::str("--momentum ", settings.momentum, ": a number below 1 is needed"));
  require(!settings.nesterov || settings.momentum > 0, "--nesterov needs a --momentum above 0");
  check_milestones(settings.milestones);
  require(std::isfinite(settings.rate_divisor) && settings.rate_divisor >= 1,
          c10::str("--lr-divisor ", settings.rate_divisor, ": a number not below 1 is needed"));
  require(settings.dropout >= 0 && settings.dropout < 1,
          c10::str("--dropout ", settings.dropout, ": a share from 0 to below 1 is needed"));
  require_at_least_zero("--cutout", static_cast<double>(settings.cutout));
  require_at_least_zero("--padding", static_cast<double>(settings.padding));
  check_normalisation(settings.mean, settings.deviation);
  require(!(settings.deterministic && settings.cudnn_benchmark),
          "--deterministic and --cudnn-benchmark exclude each other: cuDNN's choice differs from run to run");
  require(!settings.cuda_graph || settings.device == "cuda",
          "--cuda-graph is for a GPU: it needs --device cuda, not --device " + settings.device);
  require(!settings.cuda_graph || cuda_graphs_are_built_in(),
          "--cuda-graph: this mma-train was built without CUDA's headers or LibTorch's CUDA half; build it again where "
          "CMake finds both, or leave the option out");
  if (settings.device == "cuda") {
    require(torch::cuda::is_available(),
            "--device cuda: this machine has no NVIDIA GPU that LibTorch can use, or LibTorch was built without CUDA");
  }
}

}  // namespace mma::examples
