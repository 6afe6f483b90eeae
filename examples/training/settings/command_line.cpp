#include "training/settings/command_line.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "mma/version.hpp"
#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"
#include "support/terminal/options.hpp"
#include "training/data/datasets.hpp"
#include "training/models/models.hpp"
#include "training/run/precision.hpp"
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

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

std::string text(const std::string& value) { return value; }
std::string text(bool value) { return value ? "yes" : "no"; }
template <class T>
std::string text(const T& value) {
  return c10::str(value);
}
template <class T>
std::string text(const std::vector<T>& values) {
  std::string list;
  for (const T& value : values) list += (list.empty() ? "" : ",") + c10::str(value);
  return list;
}

[[noreturn]] void print_models_and_leave() {
  for (const std::string& model : model_names()) {
    std::printf("%-15s recipe %s\n", model.c_str(), recipe_for(model, "").name.c_str());
  }
  throw CLI::Success();
}

std::string values_of(const Recipe& recipe) {
  std::string values = c10::str(recipe.epochs, " epochs, batches of ", recipe.batch, ", rate ", recipe.learning_rate,
                                ", divided by ", recipe.rate_divisor, " after epochs ", text(recipe.milestones),
                                ", momentum ", recipe.momentum, ", weight decay ", recipe.weight_decay);
  if (recipe.nesterov) values += ", nesterov";
  if (recipe.autoaugment) values += ", AutoAugment";
  if (recipe.cutout > 0) values += c10::str(", Cutout ", recipe.cutout);
  if (recipe.regularizer == "mma")
    return values + c10::str(", MMA coefficient ", recipe.coefficient, " on ", recipe.scope, " layers");
  return values + ", regularizer " + recipe.regularizer;
}

[[noreturn]] void print_recipes_and_leave() {
  for (const Recipe& recipe : recipes()) {
    std::printf("%s: %s\n    %s\n", recipe.name.c_str(), recipe.about.c_str(), values_of(recipe).c_str());
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

void add_run_options(CLI::App& app, Arguments& arguments) {
  OptionSection section(app, "What is trained");
  section.option("--model", "NAME", arguments.model, "The network: " + joined(model_names()));
  section.option("--dataset", "NAME", arguments.dataset, "The images: " + joined(dataset_names()));
  section.option("--data", "DIR", arguments.data,
                 "The folder of the images' files, or the one above it: train.bin and test.bin (CIFAR-100),\n"
                 "data_batch_1.bin ... (CIFAR-10), or of both torchvision's pickles; wnids.txt, train and val\n"
                 "(TinyImageNet, also after the usual scripts); train-images-idx3-ubyte ... (Fashion-MNIST;\n"
                 "left out: /usr/share/datasets/fashion-mnist, where Debian has them);\n"
                 "train/<class>/<image> and val/<class>/<image>, all of one square size (folder)");
  section.option("--recipe", "NAME", arguments.recipe,
                 "A set of values, or a row of the paper's tables with its network, data set and regularizer,\n"
                 "see --list-recipes (default: the model's)");
  CLI::Option* autoaugment = section.flag(
      "--autoaugment", [&arguments] { arguments.autoaugment = true; },
      "Also change training images by AutoAugment's policy for CIFAR");
  section
      .flag(
          "--no-autoaugment", [&arguments] { arguments.autoaugment = false; }, "Only crop and mirror them")
      ->excludes(autoaugment);
  section.option("--padding", "N", arguments.padding, "Move training images by up to N pixels (default: 4)");
  section.option("--cutout", "N", arguments.cutout, "Also cut a square of N x N pixels out of each training image");
  section
      .option("--mean", "X,X,X", arguments.mean,
              "With --deviation: what normalisation subtracts, a number a channel of pixels in [0, 1]\n"
              "(default: the data set's)")
      ->delimiter(',');
  section.option("--deviation", "X,X,X", arguments.deviation, "With --mean: what it divides by")->delimiter(',');
  section.option("--dropout", "X", arguments.dropout, "Share of activations that a WRN drops (default: 0)");
  section.option("--limit-train", "N", arguments.limit_train, "Train on only N images, drawn by the seed");
  section.option("--limit-test", "N", arguments.limit_test, "Test on only N images, drawn by the seed");
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

/// The objective's own, or the recipe's; an unknown name is refused later, with the other settings.
double default_coefficient(const std::string& regularizer, const Recipe& recipe) {
  for (const NamedObjective& objective : objectives()) {
    if (objective.name == regularizer) return objective.coefficient.value_or(recipe.coefficient);
  }
  return 0;
}

template <class T>
T given_or(const std::optional<T>& given, const T& otherwise) {
  return given ? *given : otherwise;
}

/// Measured on CPUs: ResNet20 and VGG11. On a GPU tensor cores read bfloat16 in that order.
bool channels_last_is_faster(const Settings& settings) {
  return settings.device == "cpu" || settings.precision == "bf16";
}

const std::string& required(const std::optional<std::string>& given, const char* flag,
                            const std::vector<std::string>& known) {
  if (!given) throw UserError(c10::str(flag, " is needed: one of ", joined(known)));
  return *given;
}

void check_known(const char* flag, const std::string& name, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    throw UserError(c10::str(flag, " ", name, ": one of ", joined(known), " is needed"));
  }
}

void check_at_least_one(const char* flag, const std::optional<int64_t>& given) {
  if (given && *given < 1) throw UserError(c10::str(flag, " ", *given, ": at least 1 is needed"));
}

template <class T>
void refuse_contradiction(const char* flag, const std::optional<T>& given, const T& settled, const std::string& out) {
  if (given && *given != settled) {
    throw UserError(c10::str(flag, " ", text(*given), " contradicts the run in ", out, ", which has ", text(settled),
                             ": leave it out to resume, or choose another --out"));
  }
}

}  // namespace

void add_regularizer_options(CLI::App& app, Arguments& arguments) {
  OptionSection section(app, "Regularization");
  section.option("--regularizer", "NAME", arguments.regularizer,
                 "mma (default), none, or one of mma-train --list-regularizers");
  section.option("--coefficient", "X", arguments.coefficient,
                 "Weight of its loss (default: for mma the recipe's, 0.07, with skip connections 0.03;\n"
                 "for the others see that list)");
  section.option("--scope", "NAME", arguments.scope, "Its layers: all, hidden, output (default: the recipe's)");
  section.option("--refresh-every", "N", arguments.refresh_every,
                 "Search nearest filters every N steps (default: 1); angles and gradients are exact in between");
}

void add_optimizer_options(CLI::App& app, Arguments& arguments) {
  OptionSection section(app, "Optimization by SGD (default: the recipe's values)");
  section.option("--epochs", "N", arguments.epochs, "Passes over the training images");
  section.option("--batch", "N", arguments.batch, "Images a step");
  section.option("--lr", "X", arguments.learning_rate, "Learning rate of the first epoch");
  section
      .option("--milestones", "N,N", arguments.milestones,
              "Epochs after which the rate falls, such as 81,122\n"
              "(default: the recipe's; with --epochs at the same fractions of the run)")
      ->delimiter(',');
  section.option("--lr-divisor", "X", arguments.rate_divisor, "What it is divided by there");
  section.option("--momentum", "X", arguments.momentum, "Momentum");
  section.option("--weight-decay", "X", arguments.weight_decay, "Weight decay, of all parameters");
  CLI::Option* nesterov = section.flag(
      "--nesterov", [&arguments] { arguments.nesterov = true; }, "Nesterov's form of momentum");
  section
      .flag(
          "--no-nesterov", [&arguments] { arguments.nesterov = false; }, "The plain form")
      ->excludes(nesterov);
}

void add_machine_options(CLI::App& app, Arguments& arguments, const std::string& default_folder) {
  OptionSection section(app, "The run");
  section.option("--out", "DIR", arguments.out, "The run's folder (default: " + default_folder + ")");
  section.flag(
      "--resume", [&arguments] { arguments.resume = true; },
      "Go on with the interrupted run in --out; needs no other option");
  section.option("--export", "FILE.safetensors", arguments.exported,
                 "When the run is finished, write its weights alone, for Python's safetensors and PyTorch;\n"
                 "with --out alone: those of the run there, instead of training");
  section.option("--checkpoint-steps", "N", arguments.checkpoint_steps,
                 "Write a checkpoint also after each N steps, not only after each epoch");
  section.option("--seed", "N", arguments.seed, "Seed of all random numbers (default: 1)")
      ->check([](const std::string& text) {  // which the conversion would wrap around
        return text.starts_with('-') ? text + ", but a whole number not below 0 is needed" : std::string();
      });
  section.option("--threads", "N", arguments.threads,
                 "CPU threads (default: all cores); the same seed and threads give\n"
                 "the same numbers, bit for bit");
  section.option("--device", "NAME", arguments.device, "cpu (default), cuda");
  section.option("--precision", "NAME", arguments.precision,
                 "Of convolutions and matrix products: float32 (default), bf16 (autocast; the weights,\n"
                 "their gradients, the loss and the regularizer stay in float32)");
  CLI::Option* channels_last = section.flag(
      "--channels-last", [&arguments] { arguments.channels_last = true; },
      "Keep a pixel's channels side by side in memory (default on a CPU, where it measured 1.1 to\n"
      "1.3 times as fast for ResNet20 and VGG11, and with bf16; not measured on a GPU)");
  section
      .flag(
          "--no-channels-last", [&arguments] { arguments.channels_last = false; },
          "Keep each channel's pixels side by side")
      ->excludes(channels_last);
  section.flag(
      "--deterministic", [&arguments] { arguments.deterministic = true; },
      "Refuse every operation whose numbers may differ from run to run (default: only cuDNN is held to that)");
  section.flag(
      "--cudnn-benchmark", [&arguments] { arguments.cudnn_benchmark = true; },
      "Let cuDNN try its algorithms and take the fastest; two runs then differ in their last bits");
  section.flag(
      "--cuda-graph", [&arguments] { arguments.cuda_graph = true; },
      "With --device cuda: capture the step in a CUDA graph and replay it");
}

std::optional<Arguments> read_command_line(int argc, char** argv) {
  Arguments arguments;
  arguments.words.assign(argv, argv + argc);
  CLI::App app{about, "mma-train"};
  app.footer(example);
  app.get_formatter()->column_width(26);
  app.set_version_flag("--version", std::string(version));
  add_run_options(app, arguments);
  add_regularizer_options(app, arguments);
  add_optimizer_options(app, arguments);
  add_machine_options(app, arguments,
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
  if (arguments.exported && (arguments.evaluate || !arguments.compare.empty())) {
    throw UserError("--export belongs to a run: --evaluate and --compare write no weights");
  }
  if (arguments.key && !arguments.evaluate) throw UserError("--key belongs to --evaluate");
  if (arguments.evaluate && arguments.resume) throw UserError("--evaluate and --resume exclude each other");
  return arguments;
}

bool exports_without_training(const Arguments& arguments) {
  return arguments.exported && arguments.out && !arguments.model && !arguments.recipe && !arguments.resume;
}

std::string data_folder(const std::optional<std::string>& given, const std::string& dataset) {
  if (given) return *given;
  if (dataset == "fashion-mnist") return "/usr/share/datasets/fashion-mnist";
  if (dataset == "folder") {
    throw UserError("--data is needed: the folder that holds train/<class>/<image> and val/<class>/<image>");
  }
  throw UserError("--data is needed: the folder that holds the files of " + dataset);
}

/// What was given, else the recipe's.
std::optional<std::string> given_or_recipes(const std::optional<std::string>& given, const std::string& recipes) {
  return given || recipes.empty() ? given : recipes;
}

Settings settings_of_new_run(const Arguments& arguments) {
  const Recipe named = arguments.recipe ? recipe_named(*arguments.recipe) : Recipe();
  Settings settings;
  settings.model = required(given_or_recipes(arguments.model, named.model), "--model", model_names());
  check_known("--model", settings.model, model_names());
  settings.dataset = required(given_or_recipes(arguments.dataset, named.dataset), "--dataset", dataset_names());
  check_known("--dataset", settings.dataset, dataset_names());
  settings.data = data_folder(arguments.data, settings.dataset);

  complete(settings, arguments, arguments.recipe ? named : recipe_for(settings.model, settings.dataset));
  return settings;
}

void complete(Settings& settings, const Arguments& arguments, const Recipe& recipe) {
  settings.recipe = recipe.name;
  settings.epochs = given_or(arguments.epochs, recipe.epochs);
  settings.batch = given_or(arguments.batch, recipe.batch);
  settings.learning_rate = given_or(arguments.learning_rate, recipe.learning_rate);
  settings.milestones =
      given_or(arguments.milestones, scaled_milestones(recipe.milestones, recipe.epochs, settings.epochs));
  settings.momentum = given_or(arguments.momentum, recipe.momentum);
  settings.weight_decay = given_or(arguments.weight_decay, recipe.weight_decay);
  settings.nesterov = given_or(arguments.nesterov, recipe.nesterov);
  settings.rate_divisor = given_or(arguments.rate_divisor, recipe.rate_divisor);
  settings.dropout = given_or(arguments.dropout, recipe.dropout);
  settings.autoaugment = given_or(arguments.autoaugment, recipe.autoaugment);
  settings.cutout = given_or(arguments.cutout, recipe.cutout);
  settings.padding = given_or(arguments.padding, recipe.padding);
  settings.mean = given_or(arguments.mean, settings.mean);
  settings.deviation = given_or(arguments.deviation, settings.deviation);

  settings.regularizer = given_or(arguments.regularizer, recipe.regularizer);
  if (settings.regularizer == "none" && (arguments.coefficient || arguments.scope || arguments.refresh_every)) {
    throw UserError("--coefficient, --scope and --refresh-every belong to a regularizer, not to --regularizer none");
  }
  if (settings.regularizer != "none") {
    settings.coefficient = given_or(arguments.coefficient, default_coefficient(settings.regularizer, recipe));
  }
  settings.scope = given_or(arguments.scope, recipe.scope);
  settings.refresh_every = given_or(arguments.refresh_every, settings.refresh_every);

  check_at_least_one("--limit-train", arguments.limit_train);
  check_at_least_one("--limit-test", arguments.limit_test);
  check_at_least_one("--checkpoint-steps", arguments.checkpoint_steps);
  settings.limit_train = arguments.limit_train.value_or(0);
  settings.limit_test = arguments.limit_test.value_or(0);
  settings.checkpoint_steps = arguments.checkpoint_steps.value_or(0);
  settings.seed = arguments.seed.value_or(settings.seed);
  settings.threads = arguments.threads.value_or(at::get_num_threads());
  settings.device = given_or(arguments.device, settings.device);
  settings.precision = given_or(arguments.precision, settings.precision);
  settings.channels_last = given_or(arguments.channels_last, channels_last_is_faster(settings));
  settings.cuda_graph = given_or(arguments.cuda_graph, settings.cuda_graph);
  settings.deterministic = given_or(arguments.deterministic, settings.deterministic);
  settings.cudnn_benchmark = given_or(arguments.cudnn_benchmark, settings.cudnn_benchmark);
  check(settings);
}

std::string default_out(const Settings& settings) {
  const Recipe& recipe = recipe_named(settings.recipe);
  const bool is_row = recipe.model == settings.model && recipe.dataset == settings.dataset;
  if (is_row && recipe.regularizer == settings.regularizer) {
    return c10::str("runs/", recipe.name, "-seed", settings.seed);
  }
  return c10::str("runs/", settings.model, "-", settings.dataset, "-", settings.regularizer, "-seed", settings.seed);
}

void apply_to_resumed_run(const Arguments& arguments, const std::string& out, Settings& settings) {
  refuse_contradiction("--model", arguments.model, settings.model, out);
  refuse_contradiction("--dataset", arguments.dataset, settings.dataset, out);
  refuse_contradiction("--recipe", arguments.recipe, settings.recipe, out);
  refuse_contradiction("--regularizer", arguments.regularizer, settings.regularizer, out);
  refuse_contradiction("--coefficient", arguments.coefficient, settings.coefficient, out);
  refuse_contradiction("--scope", arguments.scope, settings.scope, out);
  refuse_contradiction("--refresh-every", arguments.refresh_every, settings.refresh_every, out);
  refuse_contradiction("--epochs", arguments.epochs, settings.epochs, out);
  refuse_contradiction("--batch", arguments.batch, settings.batch, out);
  refuse_contradiction("--lr", arguments.learning_rate, settings.learning_rate, out);
  refuse_contradiction("--milestones", arguments.milestones, settings.milestones, out);
  refuse_contradiction("--momentum", arguments.momentum, settings.momentum, out);
  refuse_contradiction("--weight-decay", arguments.weight_decay, settings.weight_decay, out);
  refuse_contradiction("--nesterov", arguments.nesterov, settings.nesterov, out);
  refuse_contradiction("--lr-divisor", arguments.rate_divisor, settings.rate_divisor, out);
  refuse_contradiction("--dropout", arguments.dropout, settings.dropout, out);
  refuse_contradiction("--autoaugment", arguments.autoaugment, settings.autoaugment, out);
  refuse_contradiction("--cutout", arguments.cutout, settings.cutout, out);
  refuse_contradiction("--padding", arguments.padding, settings.padding, out);
  refuse_contradiction("--mean", arguments.mean, settings.mean, out);
  refuse_contradiction("--deviation", arguments.deviation, settings.deviation, out);
  refuse_contradiction("--seed", arguments.seed, settings.seed, out);
  refuse_contradiction("--limit-train", arguments.limit_train, settings.limit_train, out);
  refuse_contradiction("--limit-test", arguments.limit_test, settings.limit_test, out);
  refuse_contradiction("--precision", arguments.precision, settings.precision, out);
  refuse_contradiction("--deterministic", arguments.deterministic, settings.deterministic, out);
  refuse_contradiction("--cudnn-benchmark", arguments.cudnn_benchmark, settings.cudnn_benchmark, out);
  refuse_contradiction("--channels-last", arguments.channels_last, settings.channels_last, out);
  check_at_least_one("--checkpoint-steps", arguments.checkpoint_steps);
  settings.data = given_or(arguments.data, settings.data);
  settings.device = given_or(arguments.device, settings.device);
  settings.cuda_graph = given_or(arguments.cuda_graph, settings.cuda_graph && settings.device == "cuda");
  settings.threads = given_or(arguments.threads, settings.threads);
  settings.checkpoint_steps = given_or(arguments.checkpoint_steps, settings.checkpoint_steps);
  check(settings);
}

}  // namespace mma::examples
