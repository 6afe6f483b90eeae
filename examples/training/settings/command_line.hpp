// mma-train's command line: what was given, and how it becomes the settings of a new run or fits those of an old one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "training/settings/recipe.hpp"
#include "training/settings/settings.hpp"

namespace CLI {
class App;
}

namespace mma::examples {

/// The command line as given; what was left out stays empty.
struct Arguments {
  std::optional<std::string> model, dataset, data, recipe, regularizer, scope, device, precision;
  std::optional<double> coefficient, learning_rate, momentum, weight_decay, rate_divisor, dropout;
  std::optional<int64_t> epochs, batch, limit_train, limit_test, threads, checkpoint_steps, cutout, padding,
      refresh_every;
  std::optional<uint64_t> seed;
  std::optional<bool> autoaugment, nesterov, channels_last, cuda_graph, deterministic, cudnn_benchmark;
  std::optional<std::vector<int64_t>> milestones;
  std::optional<std::vector<double>> mean, deviation;
  std::optional<std::string> out, exported;
  bool resume = false;
  std::optional<std::string> evaluate, key;
  std::vector<std::string> compare;
  std::optional<std::string> plot;
  std::vector<std::string> layers;  ///< of --compare
  bool markdown = false;
  std::vector<std::string> words;  ///< argv, for the record
};

/// Reads the command line. Empty when all that was asked for was help, the version or a list, which it has printed.
/// Throws UserError with CLI11's sentence when it is not understood.
std::optional<Arguments> read_command_line(int argc, char** argv);

/// True when all that is wanted are the weights of the run in --out.
bool exports_without_training(const Arguments& arguments);

/// The options that every training program has, as sections of its help.
void add_regularizer_options(CLI::App& app, Arguments& arguments);
void add_optimizer_options(CLI::App& app, Arguments& arguments);
void add_machine_options(CLI::App& app, Arguments& arguments, const std::string& default_folder);

/// Fills in all but the model, the data set and its folder: what was given, else the recipe's; checked.
void complete(Settings& settings, const Arguments& arguments, const Recipe& recipe);

/// The settings of a new run: the recipe's values where nothing was given, checked.
Settings settings_of_new_run(const Arguments& arguments);

/// Where a new run goes when no --out is given.
std::string default_out(const Settings& settings);

/// Takes over what may change between the parts of a run (device, CUDA graph, threads, the data's folder,
/// checkpoints);
/// throws UserError that names the first argument that contradicts the run in folder `out`.
void apply_to_resumed_run(const Arguments& arguments, const std::string& out, Settings& settings);

/// The folder of a data set: the one given, else where Debian's package puts Fashion-MNIST. Throws UserError.
std::string data_folder(const std::optional<std::string>& given, const std::string& dataset);

}  // namespace mma::examples
