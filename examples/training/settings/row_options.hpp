// Options of the command line (CLI11) made from the rows of a table.
#pragma once

#include <string>

#include "support/terminal/options.hpp"
#include "training/settings/option_row.hpp"

namespace mma::examples {

/// A negative number, which the conversion would wrap around.
std::string refuse_sign(const std::string& text);

/// What is given ends in `given`, which must live until the command line was read.
template <class S>
void add_option(CLI::App& app, const OptionRow<S>& row, Given& given) {
  OptionSection section(app, row.section);
  const std::string key = row.key;
  if (row.is_flag()) {
    const bool is_number = std::holds_alternative<int64_t S::*>(row.member);
    const Given raised = is_number ? Given(row.raised) : Given(true);
    CLI::Option* flag = section.flag(
        row.name, [&given, key, raised] { given[key] = raised; }, row.help);
    if (*row.opposite == '\0') return;
    section
        .flag(
            row.opposite, [&given, key] { given[key] = false; }, row.opposite_help)
        ->excludes(flag);
    return;
  }
  std::visit(
      [&]<class T>(T S::*) {
        const auto take = [&given, key](const T& value) { given[key] = value; };
        CLI::Option* option = section.taken_option<T>(row.name, row.type, take, row.help);
        if constexpr (CLI::detail::is_mutable_container<T>::value) option->delimiter(',');
        if constexpr (std::is_same_v<T, uint64_t>) option->check(refuse_sign);
      },
      row.member);
}

}  // namespace mma::examples
