// A program's options by CLI11: sections of its help, and reading them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "support/process/error.hpp"

namespace mma::examples {

/// The options of one section of the help.
class OptionSection {
 public:
  OptionSection(CLI::App& app, std::string title) : app_(app), title_(std::move(title)) {}

  template <class T>
  CLI::Option* option(const char* name, const char* type, T& value, const std::string& text) {
    return app_.add_option(name, value, text)->type_name(type)->group(title_);
  }
  /// What is read is handed to `take`.
  template <class T>
  CLI::Option* taken_option(const char* name, const char* type, const std::function<void(const T&)>& take,
                            const std::string& text) {
    return app_.add_option_function<T>(name, take, text)->type_name(type)->group(title_);
  }
  CLI::Option* flag(const char* name, const std::function<void()>& raised, const std::string& text) {
    return app_.add_flag_callback(name, raised, text)->group(title_);
  }

 private:
  CLI::App& app_;
  std::string title_;
};

/// Of any program: more threads, or processes at a time, are a mistake, and each costs memory.
inline constexpr int64_t most_at_a_time = 4096;

/// Throws UserError: "--threads 0: at least 1 is needed", "--threads 5000: at most 4096 is needed".
inline void require_within(const std::string& option, int64_t value, int64_t lowest, int64_t highest) {
  require(value >= lowest,
          option + ' ' + std::to_string(value) + ": at least " + std::to_string(lowest) + " is needed");
  require(value <= highest,
          option + ' ' + std::to_string(value) + ": at most " + std::to_string(highest) + " is needed");
}

/// Reads the command line. False when all that was asked for was help, the version or a list, which is printed then.
/// Throws UserError with CLI11's sentence when it is not understood.
inline bool parsed(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::Success& asked) {  // help, version and lists come as exceptions
    app.exit(asked);
    return false;
  } catch (const CLI::ParseError& error) {
    throw UserError(std::string(error.what()) + " (see --help)");
  }
}

}  // namespace mma::examples
