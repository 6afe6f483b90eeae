// The options that every training program has, on its command line.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "training/settings/table.hpp"

namespace CLI {
class App;
}

namespace mma::examples {

/// The command line of a training as given; what was left out is not there.
struct RunArguments {
  Given given = Given::object();  ///< of run_options()
  std::optional<std::string> out, exported;
  bool resume = false;
  std::vector<std::string> words;  ///< argv, for the record

  /// The text of an option, where it was given.
  std::optional<std::string> word(const std::string& key) const;
};

/// The options of a section of the help, by their rows.
void add_run_options(CLI::App& app, const char* section, RunArguments& arguments);

/// One of them, with other words of help.
void add_run_option(CLI::App& app, const std::string& key, const std::string& help, RunArguments& arguments);

/// Regularization, optimization, and the run with its folder, which `default_folder` describes.
void add_common_options(CLI::App& app, RunArguments& arguments, const std::string& default_folder);

/// What the words of mma-train's command line mean that say what is run. Throws UserError with CLI11's sentence when
/// they are not understood.
RunArguments run_arguments_of(const std::vector<std::string>& words);

/// True when all that is wanted are the weights of the run in --out.
bool exports_without_training(const RunArguments& arguments);

}  // namespace mma::examples
