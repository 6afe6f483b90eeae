#include "train/command_line.hpp"

#include <c10/util/StringUtil.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "mma/version.hpp"
#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "support/terminal/options.hpp"
#include "training/models/networks.hpp"
#include "training/settings/recipe.hpp"

namespace mma::examples {
namespace {

constexpr const char* about =
    "Trains image classifiers with and without MMA regularization, which spreads the weight vectors of each layer\n"
    "over the sphere by maximizing the angle between each of them and its nearest neighbour.";

constexpr const char* example =
    "Example (small enough for a laptop):\n"
    "  mma-train --model resnet20 --dataset fashion-mnist --limit-train 10000 --epochs 8 --out runs/with\n"
    "  mma-train --model resnet20 --dataset fashion-mnist --limit-train 10000 --epochs 8 --out runs/without "
    "--regularizer none\n"
    "  mma-train --compare runs/without runs/with --plot comparison.png\n"
    "\n"
    "Ctrl-C stops a run at the next step; mma-train --resume --out DIR goes on as if it had never stopped.";

[[noreturn]] void print_models_and_leave() {
  for (const Network& network : networks()) {
    std::printf("%-15s recipe %s\n", network.name, network.recipe);
  }
  throw CLI::Success();
}

std::string words_of(const Settings& values) {
  std::string words = c10::str(values.epochs, " epochs, batches of ", values.batch, ", rate ", values.learning_rate);
  words += values.schedule == "cosine"
               ? ", by a cosine to 0"
               : c10::str(", divided by ", values.rate_divisor, " after epochs ", text(values.milestones));
  if (values.warm_up > 0) words += c10::str(", warm-up ", values.warm_up, " epochs");
  words += c10::str(", momentum ", values.momentum, ", weight decay ", values.weight_decay);
  if (values.decay_filters_only) words += " of filters only";
  if (values.label_smoothing > 0) words += c10::str(", label smoothing ", values.label_smoothing);
  if (values.dropout > 0) words += c10::str(", dropout ", values.dropout);
  if (values.nesterov) words += ", nesterov";
  if (values.autoaugment) words += ", AutoAugment";
  if (values.cutout > 0) words += c10::str(", Cutout ", values.cutout);
  if (values.regularizer == "mma")
    return words + c10::str(", MMA coefficient ", values.coefficient, " on ", values.scope, " layers");
  return words + ", regularizer " + values.regularizer;
}

[[noreturn]] void print_recipes_and_leave() {
  for (const Recipe& recipe : recipes()) {
    std::printf("%s: %s\n    %s\n", recipe.name.c_str(), recipe.about.c_str(), words_of(recipe.values).c_str());
  }
  throw CLI::Success();
}

[[noreturn]] void print_regularizers_and_leave() {
  for (const NamedObjective& objective : objectives()) {
    const std::string coefficient = objective.coefficient ? c10::str(*objective.coefficient) : "the recipe's";
    std::printf("%-18s coefficient %-12s  %s\n", objective.name.c_str(), coefficient.c_str(), objective.about.c_str());
  }
  throw CLI::Success();
}

void add_other_jobs(CLI::App& app, Arguments& arguments) {
  OptionSection section(app, "Instead of training");
  section.option("--evaluate", "FILE", arguments.evaluate,
                 "Print the test accuracy of weights: a checkpoint of mma-train, or with --model and\n"
                 "--dataset a state dict in safetensors or by torch.save, or a module by torch::save");
  section.option("--key", "KEY", arguments.key,
                 "With --evaluate: where the tensors lie in a file with several dictionaries of them: a.b");
  section.option("--compare", "DIR", arguments.compare, "Print a table of runs, given by their folders");
  section.option("--plot", "FILE.png", arguments.plot, "With --compare: draw their accuracy and angles");
  section
      .option("--layers", "NAME,NAME", arguments.layers,
              "With --compare: also the minimal angles of these layers after the last epoch")
      ->delimiter(',');
  section.flag(
      "--markdown", [&arguments] { arguments.markdown = true; }, "With --compare: print the table as Markdown");
  section.flag("--list-models", print_models_and_leave, "Print the networks");
  section.flag("--list-recipes", print_recipes_and_leave, "Print the recipes with their values");
  section.flag("--list-regularizers", print_regularizers_and_leave, "Print the regularizers with their coefficients");
}

}  // namespace

std::optional<Arguments> read_command_line(int argc, char** argv) {
  Arguments arguments;
  arguments.run.words.assign(argv, argv + argc);
  CLI::App app{about, "mma-train"};
  app.footer(example);
  app.get_formatter()->column_width(26);
  app.set_version_flag("--version", std::string(version));
  add_run_options(app, section::trained, arguments.run);
  add_common_options(app, arguments.run,
                     "runs/MODEL-DATASET-REGULARIZER-seedN,\nfor a row of the paper's tables runs/RECIPE-seedN");
  add_other_jobs(app, arguments);
  if (argc <= 1) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  }
  if (!parsed(app, argc, argv)) return std::nullopt;
  if (arguments.compare.empty()) {
    if (arguments.plot) throw UserError("--plot belongs to --compare");
    if (!arguments.layers.empty()) throw UserError("--layers belongs to --compare");
    if (arguments.markdown) throw UserError("--markdown belongs to --compare");
  }
  if (arguments.run.exported && (arguments.evaluate || !arguments.compare.empty())) {
    throw UserError("--export belongs to a run: --evaluate and --compare write no weights");
  }
  if (arguments.key && !arguments.evaluate) throw UserError("--key belongs to --evaluate");
  if (arguments.evaluate && arguments.run.resume) throw UserError("--evaluate and --resume exclude each other");
  return arguments;
}

}  // namespace mma::examples
