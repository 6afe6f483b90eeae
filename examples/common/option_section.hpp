// One section of a program's --help: its options, with CLI11.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>

namespace mma::examples {

class OptionSection {
 public:
  OptionSection(CLI::App& app, std::string title) : app_(app), title_(std::move(title)) {}

  template <class T>
  CLI::Option* option(const char* name, const char* type, T& value, const std::string& text) {
    return app_.add_option(name, value, text)->type_name(type)->group(title_);
  }
  CLI::Option* flag(const char* name, const std::function<void()>& raised, const std::string& text) {
    return app_.add_flag_callback(name, raised, text)->group(title_);
  }

 private:
  CLI::App& app_;
  std::string title_;
};

}  // namespace mma::examples
