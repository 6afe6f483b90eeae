#include "training/settings/new_run.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "training/data/datasets.hpp"
#include "training/distributed/launch.hpp"
#include "training/models/networks.hpp"
#include "training/settings/capturable.hpp"
#include "training/settings/schedule.hpp"

namespace mma::examples {
namespace {

bool is_known_regularizer(const std::string& name) {
  return name == "none" ||
         std::ranges::any_of(objectives(), [&](const NamedObjective& objective) { return objective.name == name; });
}

/// The objective's own, or the recipe's; an unknown name is refused later, with the other settings.
double default_coefficient(const std::string& regularizer, const Recipe& recipe) {
  for (const NamedObjective& objective : objectives()) {
    if (objective.name == regularizer) return objective.coefficient.value_or(recipe.values.coefficient);
  }
  return 0;
}

/// Measured on CPUs: ResNet20 and VGG11. On a GPU tensor cores read 16-bit numbers in that order.
bool channels_last_is_faster(const Settings& settings) {
  return settings.device == "cpu" || settings.precision != "float32";
}

/// Measured on an H100: 1.6 times for VGG19-BN, 1.7 for ResNet56. Of one process; with fp16 nobody has tried it. An
/// unknown regularizer is refused later.
bool graph_is_faster(const Settings& settings) {
  return settings.device == "cuda" && settings.precision != "fp16" && cuda_graphs_are_built_in() &&
         !launch_of_environment() && is_known_regularizer(settings.regularizer) && why_not_captured(settings).empty();
}

/// What was given, else the recipe's: one of those known.
std::string name_of(const char* key, const Given& given, const std::string& recipes, const Choices& known) {
  const OptionRow<Settings>& row = run_option(key);
  const std::string name = given.value(key, recipes);
  if (name.empty()) throw UserError(c10::str(row.name, " is needed: one of ", c10::Join(", ", known)));
  check_value(row.name, name, known);
  return name;
}

void refuse_options_of_no_regularizer(const Given& given) {
  if (given.contains("coefficient") || given.contains("scope") || given.contains("refresh_every")) {
    throw UserError("--coefficient, --scope and --refresh-every belong to a regularizer, not to --regularizer none");
  }
}

/// What a table cannot say: values that depend on others, or on the machine.
void work_out(const Given& given, const Recipe& recipe, Settings& settings) {
  const auto silent = [&](const char* key) { return !given.contains(key); };
  if (settings.schedule == "cosine") {
    require(silent("milestones") && silent("rate_divisor"),
            "--milestones and --lr-divisor belong to --schedule multi-step, not to cosine");
    settings.milestones = {};
  } else if (silent("milestones")) {
    settings.milestones = scaled_milestones(recipe.values.milestones, recipe.values.epochs, settings.epochs);
  }
  if (silent("warm_up")) {
    settings.warm_up = scaled_epochs(recipe.values.warm_up, recipe.values.epochs, settings.epochs);
  }
  if (settings.regularizer == "none") refuse_options_of_no_regularizer(given);
  if (silent("coefficient")) settings.coefficient = default_coefficient(settings.regularizer, recipe);
  if (silent("threads")) settings.threads = at::get_num_threads();
  if (silent("channels_last")) settings.channels_last = channels_last_is_faster(settings);
  if (silent("cuda_graph")) settings.cuda_graph = graph_is_faster(settings);
}

}  // namespace

std::string data_folder(const std::optional<std::string>& given, const std::string& dataset) {
  if (given) return *given;
  if (dataset == "fashion-mnist") return "/usr/share/datasets/fashion-mnist";
  if (dataset == "folder") {
    throw UserError("--data is needed: the folder that holds train/<class>/<image> and val/<class>/<image>");
  }
  throw UserError("--data is needed: the folder that holds the files of " + dataset);
}

Settings settings_of_new_run(const Given& given) {
  const bool is_named = given.contains("recipe");
  const Recipe named = is_named ? recipe_named(given["recipe"].get<std::string>()) : Recipe();
  Given whole = given;
  const std::string model = name_of("model", given, named.values.model, model_names());
  const std::string dataset = name_of("dataset", given, named.values.dataset, dataset_names());
  const auto data = given.contains("data") ? std::optional(given["data"].get<std::string>()) : std::nullopt;
  whole["model"] = model;
  whole["dataset"] = dataset;
  whole["data"] = data_folder(data, dataset);
  return settings_by_recipe(whole, is_named ? named : recipe_for(model, dataset));
}

Settings settings_by_recipe(const Given& given, const Recipe& recipe) {
  Settings settings;
  for (const OptionRow<Settings>& row : run_options()) {
    if (row.when_silent == WhenSilent::recipes) set(row, value_of(row, recipe.values), settings);
  }
  check_given(run_options(), given);
  apply(run_options(), given, settings);
  settings.recipe = recipe.name;
  work_out(given, recipe, settings);
  check(settings);
  return settings;
}

std::string default_out(const Settings& settings) {
  const Recipe& recipe = recipe_named(settings.recipe);
  const bool is_row = recipe.values.model == settings.model && recipe.values.dataset == settings.dataset;
  if (is_row && recipe.values.regularizer == settings.regularizer) {
    return c10::str("runs/", recipe.name, "-seed", settings.seed);
  }
  return c10::str("runs/", settings.model, "-", settings.dataset, "-", settings.regularizer, "-seed", settings.seed);
}

void apply_to_resumed_run(const Given& given, const std::string& out, Settings& settings) {
  check_given(run_options(), given);
  apply_on_resume(run_options(), given, out, settings);
  // Where a run moves from a GPU to a CPU its graph stays behind.
  if (!given.contains("cuda_graph")) settings.cuda_graph = settings.cuda_graph && settings.device == "cuda";
  check(settings);
}

}  // namespace mma::examples
