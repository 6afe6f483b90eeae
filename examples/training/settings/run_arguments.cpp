#include "training/settings/run_arguments.hpp"

#include <cstring>

#include "support/process/error.hpp"
#include "training/settings/row_options.hpp"

namespace mma::examples {

std::string refuse_sign(const std::string& text) {
  return text.starts_with('-') ? text + ", but a whole number not below 0 is needed" : std::string();
}

std::optional<std::string> RunArguments::word(const std::string& key) const {
  return given.contains(key) ? std::optional(given[key].get<std::string>()) : std::nullopt;
}

void add_run_options(CLI::App& app, const char* section, RunArguments& arguments) {
  for (const OptionRow<Settings>& row : run_options()) {
    if (std::strcmp(row.section, section) == 0) add_option(app, row, arguments.given);
  }
}

void add_run_option(CLI::App& app, const std::string& key, const std::string& help, RunArguments& arguments) {
  OptionRow<Settings> row = run_option(key);
  row.help = help;
  add_option(app, row, arguments.given);
}

void add_common_options(CLI::App& app, RunArguments& arguments, const std::string& default_folder) {
  add_run_options(app, section::regularization, arguments);
  add_run_options(app, section::optimization, arguments);
  OptionSection section(app, section::run);
  section.option("--out", "DIR", arguments.out, "The run's folder (default: " + default_folder + ")");
  section.flag(
      "--resume", [&arguments] { arguments.resume = true; },
      "Go on with the interrupted run in --out; needs no other option");
  section.option("--export", "FILE.safetensors", arguments.exported,
                 "When the run is finished, write its weights alone, for Python's safetensors and PyTorch;\n"
                 "with --out alone: those of the run there, instead of training");
  add_run_options(app, section::run, arguments);
}

RunArguments run_arguments_of(const std::vector<std::string>& words) {
  RunArguments arguments;
  arguments.words = words;
  CLI::App app;
  add_run_options(app, section::trained, arguments);
  add_common_options(app, arguments, "");
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::ParseError& error) {
    throw UserError(error.what());
  }
  return arguments;
}

bool exports_without_training(const RunArguments& arguments) {
  const bool begins_a_run = arguments.given.contains("model") || arguments.given.contains("recipe");
  return arguments.exported && arguments.out && !begins_a_run && !arguments.resume;
}

}  // namespace mma::examples
