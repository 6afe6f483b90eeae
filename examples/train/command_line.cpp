#include "train/command_line.hpp"

#include <ATen/Parallel.h>
#include <c10/util/StringUtil.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "common/error.hpp"
#include "mma/version.hpp"
#include "train/datasets.hpp"
#include "train/models.hpp"
#include "train/recipe.hpp"

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
std::string text(const std::vector<int64_t>& values) {
  std::string list;
  for (int64_t value : values) list += (list.empty() ? "" : ",") + std::to_string(value);
  return list;
}

[[noreturn]] void print_models_and_leave() {
  for (const std::string& model : model_names()) {
    std::printf("%-10s recipe %s\n", model.c_str(), recipe_for_model(model).name.c_str());
  }
  throw CLI::Success();
}

[[noreturn]] void print_recipes_and_leave() {
  for (const Recipe& recipe : recipes()) {
    std::printf(
        "%-8s %s:\n         %lld epochs, batches of %lld, rate %g, a tenth of it after epochs %s, momentum %g, "
        "weight decay %g, %sMMA coefficient %g\n",
        recipe.name.c_str(), recipe.about.c_str(), static_cast<long long>(recipe.epochs),
        static_cast<long long>(recipe.batch), recipe.learning_rate, text(recipe.milestones).c_str(), recipe.momentum,
        recipe.weight_decay, recipe.nesterov ? "nesterov, " : "", recipe.coefficient);
  }
  throw CLI::Success();
}

void add_run_options(CLI::App& app, Arguments& arguments) {
  const auto group = app.add_option_group("What is trained");
  group->add_option("--model", arguments.model, "The network: " + joined(model_names()))->type_name("NAME");
  group->add_option("--dataset", arguments.dataset, "The images: " + joined(dataset_names()))->type_name("NAME");
  group
      ->add_option("--data", arguments.data,
                   "The folder of the data set's files: train.bin and test.bin (CIFAR-100), data_batch_1.bin ... "
                   "(CIFAR-10), or the IDX files (Fashion-MNIST; where Debian's package dataset-fashion-mnist puts "
                   "them if left out)")
      ->type_name("DIR");
  group->add_option("--limit-train", arguments.limit_train, "Train on so many images, drawn by the seed")
      ->type_name("N");
  group->add_option("--limit-test", arguments.limit_test, "Test on so many images, drawn by the seed")->type_name("N");
}

void add_regularizer_options(CLI::App& app, Arguments& arguments) {
  const auto group = app.add_option_group("Regularization");
  group->add_option("--regularizer", arguments.regularizer, "mma (default) or none")->type_name("NAME");
  group
      ->add_option("--coefficient", arguments.coefficient,
                   "Weight of the MMA loss (the recipe's if left out: 0.07, with skip connections 0.03)")
      ->type_name("X");
  group->add_option("--scope", arguments.scope, "The layers it takes: hidden, output, all (default)")
      ->type_name("NAME");
}

void add_optimizer_options(CLI::App& app, Arguments& arguments) {
  const auto group = app.add_option_group("Optimization (SGD; values left out come from the recipe)");
  group->add_option("--recipe", arguments.recipe, "A named set of values (--list-recipes); the model's if left out")
      ->type_name("NAME");
  group->add_option("--epochs", arguments.epochs, "Passes over the training images")->type_name("N");
  group->add_option("--batch", arguments.batch, "Images a step")->type_name("N");
  group->add_option("--lr", arguments.learning_rate, "First learning rate")->type_name("X");
  group
      ->add_option("--milestones", arguments.milestones,
                   "Epochs after which the rate falls to a tenth, such as 81,122. Left out when --epochs is given: "
                   "the recipe's, at the same fractions of the run")
      ->delimiter(',')
      ->type_name("N,N...");
  group->add_option("--momentum", arguments.momentum, "Momentum")->type_name("X");
  group->add_option("--weight-decay", arguments.weight_decay, "Weight decay of all parameters")->type_name("X");
  group->add_flag("--nesterov,!--no-nesterov", arguments.nesterov, "Nesterov's momentum, or not");
}

void add_machine_options(CLI::App& app, Arguments& arguments) {
  const auto group = app.add_option_group("The run");
  group->add_option("--out", arguments.out, "The run's folder (default: runs/MODEL-DATASET-REGULARIZER-seedN)")
      ->type_name("DIR");
  group->add_flag("--resume", arguments.resume, "Go on with the run in --out; needs no other option");
  group
      ->add_option("--checkpoint-steps", arguments.checkpoint_steps,
                   "Write a checkpoint after each N steps too, not only at the end of each epoch")
      ->type_name("N");
  group->add_option("--seed", arguments.seed, "Seed of every random number (default 1)")->type_name("N");
  group
      ->add_option("--threads", arguments.threads,
                   "CPU threads; the same seed and count give the same numbers bit for bit (default: all cores)")
      ->type_name("N");
  group->add_option("--device", arguments.device, "cpu (default) or cuda")->type_name("NAME");
}

void add_other_jobs(CLI::App& app, Arguments& arguments) {
  const auto group = app.add_option_group("Instead of training");
  group
      ->add_option("--evaluate", arguments.evaluate,
                   "Print the test accuracy of a weights file: a checkpoint of mma-train (which knows its --model and "
                   "--dataset), safetensors, or what Python's torch.save wrote")
      ->type_name("FILE");
  group->add_option("--compare", arguments.compare, "Print a table of finished runs")->type_name("DIR DIR...");
  group->add_option("--plot", arguments.plot, "With --compare: draw the runs' curves and angles")
      ->type_name("FILE.png");
  group->add_flag_callback("--list-models", print_models_and_leave, "Print the known networks");
  group->add_flag_callback("--list-recipes", print_recipes_and_leave, "Print the recipes with their values");
}

template <class T>
T given_or(const std::optional<T>& given, const T& otherwise) {
  return given ? *given : otherwise;
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

std::optional<Arguments> read_command_line(int argc, char** argv) {
  Arguments arguments;
  arguments.words.assign(argv, argv + argc);
  CLI::App app{about, "mma-train"};
  app.footer(example);
  app.get_formatter()->column_width(28);
  app.set_version_flag("--version", std::string(version));
  add_run_options(app, arguments);
  add_regularizer_options(app, arguments);
  add_optimizer_options(app, arguments);
  add_machine_options(app, arguments);
  add_other_jobs(app, arguments);
  if (argc <= 1) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // help, version and lists come as exceptions
    app.exit(asked);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UserError(std::string(error.what()) + " (see --help)");
  }
  if (arguments.plot && arguments.compare.empty()) throw UserError("--plot belongs to --compare");
  if (arguments.evaluate && arguments.resume) throw UserError("--evaluate and --resume exclude each other");
  return arguments;
}

std::string data_folder(const std::optional<std::string>& given, const std::string& dataset) {
  if (given) return *given;
  if (dataset == "fashion-mnist") return "/usr/share/datasets/fashion-mnist";
  throw UserError("--data is needed: the folder that holds the files of " + dataset);
}

Settings settings_of_new_run(const Arguments& arguments) {
  Settings settings;
  settings.model = required(arguments.model, "--model", model_names());
  check_known("--model", settings.model, model_names());
  settings.dataset = required(arguments.dataset, "--dataset", dataset_names());
  check_known("--dataset", settings.dataset, dataset_names());
  settings.data = data_folder(arguments.data, settings.dataset);

  const Recipe& recipe = arguments.recipe ? recipe_named(*arguments.recipe) : recipe_for_model(settings.model);
  settings.recipe = recipe.name;
  settings.epochs = given_or(arguments.epochs, recipe.epochs);
  settings.batch = given_or(arguments.batch, recipe.batch);
  settings.learning_rate = given_or(arguments.learning_rate, recipe.learning_rate);
  settings.milestones =
      given_or(arguments.milestones, scaled_milestones(recipe.milestones, recipe.epochs, settings.epochs));
  settings.momentum = given_or(arguments.momentum, recipe.momentum);
  settings.weight_decay = given_or(arguments.weight_decay, recipe.weight_decay);
  settings.nesterov = given_or(arguments.nesterov, recipe.nesterov);

  settings.regularizer = given_or(arguments.regularizer, settings.regularizer);
  if (settings.regularizer == "none" && (arguments.coefficient || arguments.scope)) {
    throw UserError("--coefficient and --scope belong to --regularizer mma, not to none");
  }
  settings.coefficient = settings.regularizer == "none" ? 0 : given_or(arguments.coefficient, recipe.coefficient);
  settings.scope = given_or(arguments.scope, settings.scope);

  check_at_least_one("--limit-train", arguments.limit_train);
  check_at_least_one("--limit-test", arguments.limit_test);
  check_at_least_one("--checkpoint-steps", arguments.checkpoint_steps);
  settings.limit_train = arguments.limit_train.value_or(0);
  settings.limit_test = arguments.limit_test.value_or(0);
  settings.checkpoint_steps = arguments.checkpoint_steps.value_or(0);
  settings.seed = arguments.seed.value_or(settings.seed);
  settings.threads = arguments.threads.value_or(at::get_num_threads());
  settings.device = given_or(arguments.device, settings.device);
  check(settings);
  return settings;
}

std::string default_out(const Settings& settings) {
  return c10::str("runs/", settings.model, "-", settings.dataset, "-", settings.regularizer, "-seed", settings.seed);
}

void apply_to_resumed_run(const Arguments& arguments, const std::string& out, Settings& settings) {
  refuse_contradiction("--model", arguments.model, settings.model, out);
  refuse_contradiction("--dataset", arguments.dataset, settings.dataset, out);
  refuse_contradiction("--recipe", arguments.recipe, settings.recipe, out);
  refuse_contradiction("--regularizer", arguments.regularizer, settings.regularizer, out);
  refuse_contradiction("--coefficient", arguments.coefficient, settings.coefficient, out);
  refuse_contradiction("--scope", arguments.scope, settings.scope, out);
  refuse_contradiction("--epochs", arguments.epochs, settings.epochs, out);
  refuse_contradiction("--batch", arguments.batch, settings.batch, out);
  refuse_contradiction("--lr", arguments.learning_rate, settings.learning_rate, out);
  refuse_contradiction("--milestones", arguments.milestones, settings.milestones, out);
  refuse_contradiction("--momentum", arguments.momentum, settings.momentum, out);
  refuse_contradiction("--weight-decay", arguments.weight_decay, settings.weight_decay, out);
  refuse_contradiction("--nesterov", arguments.nesterov, settings.nesterov, out);
  refuse_contradiction("--seed", arguments.seed, settings.seed, out);
  refuse_contradiction("--limit-train", arguments.limit_train, settings.limit_train, out);
  refuse_contradiction("--limit-test", arguments.limit_test, settings.limit_test, out);
  check_at_least_one("--checkpoint-steps", arguments.checkpoint_steps);
  settings.data = given_or(arguments.data, settings.data);
  settings.device = given_or(arguments.device, settings.device);
  settings.threads = given_or(arguments.threads, settings.threads);
  settings.checkpoint_steps = given_or(arguments.checkpoint_steps, settings.checkpoint_steps);
  check(settings);
}

}  // namespace mma::examples
