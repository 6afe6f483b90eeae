// What is known of an option, in one row of a table: its name and help, the member that it sets, where its value comes
// from when it is not given, what values there are, its key in config.json, and what --resume and --evaluate make of
// it. Whatever has to do with options is made from such rows, so that a new one cannot be forgotten anywhere.
#pragma once

#include <c10/util/StringUtil.h>

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "support/files/json.hpp"

namespace mma::examples {

/// What the command line says, by the options' keys: what is not there was not given.
using Given = nlohmann::ordered_json;

/// The numbers that an option takes, of a list each.
struct Range {
  double lowest = std::numeric_limits<double>::lowest();
  double highest = std::numeric_limits<double>::max();  ///< for more, "at most" is said
  bool without_lowest = false, without_highest = false;
  std::string expected;  ///< "a number above 0 is needed"

  static Range at_least(int64_t lowest, int64_t most) {
    return {static_cast<double>(lowest), static_cast<double>(most), false, false,
            c10::str("at least ", lowest, " is needed")};
  }
  static Range not_below_zero(double most = std::numeric_limits<double>::max()) {
    return {0, most, false, false, "a finite number not below 0 is needed"};
  }

  /// What is needed instead of a value, or nothing when it will do.
  std::string needed_instead_of(double value) const;
};

/// The words that an option takes.
using Choices = std::vector<std::string>;

enum class WhenSilent {
  stays,      ///< the member's own default
  recipes,    ///< the recipe's value
  worked_out  ///< from other settings or the machine, in new_run.cpp
};

enum class OnResume {
  must_agree,  ///< another value contradicts the run
  may_change
};

template <class S>
struct OptionRow {
  using Member = std::variant<std::string S::*, bool S::*, int64_t S::*, uint64_t S::*, double S::*,
                              std::vector<int64_t> S::*, std::vector<double> S::*>;

  const char* section = "";  ///< of the help
  const char* name = "";     ///< "--cutout"
  const char* type = "";     ///< "N"; of a flag empty
  std::string help;
  const char* key = "";  ///< "cutout", in config.json and in checkpoints
  Member member = {};
  WhenSilent when_silent = WhenSilent::stays;
  OnResume on_resume = OnResume::must_agree;
  bool for_evaluation = false;  ///< --evaluate takes it over from a checkpoint
  bool of_machine = false;      ///< decides where and how a run is computed, not what
  std::variant<std::monostate, Range, Choices> allowed = {};
  bool zero_is_none = false;  ///< 0 is what it is when it was not given, and cannot be given
  const char* opposite = "";  ///< the flag that lowers this one
  std::string opposite_help = {};
  int64_t raised = 1;     ///< what a flag makes of a number
  bool is_newer = false;  ///< older files lack it

  bool is_flag() const { return *type == '\0'; }
};

template <class S>
using OptionRows = std::vector<OptionRow<S>>;

inline constexpr const char* whole_not_below_zero = "a whole number not below 0";

/// As a person writes it: 81,122; yes.
std::string text(const Given& value);

/// Throws UserError: "--padding -1: at least 0 is needed".
void check_value(const std::string& name, const Given& value,
                 const std::variant<std::monostate, Range, Choices>& allowed);

/// Throws UserError, when they differ.
void refuse_contradiction(const std::string& name, const Given& given, const Given& settled, const std::string& out);

template <class S>
Given value_of(const OptionRow<S>& row, const S& settings) {
  return std::visit([&](auto member) { return Given(settings.*member); }, row.member);
}

/// Puts the value into the member. Throws BadJson for one of another type: a fraction, a number that would wrap around.
template <class T>
void take(const char* key, const Given& value, T& member) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (!value.is_string()) refuse_member(key, value, "a text");
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!value.is_boolean()) refuse_member(key, value, "true or false");
  } else if constexpr (std::is_same_v<T, double>) {
    if (!value.is_number()) refuse_member(key, value, "a finite number");
  } else if constexpr (std::is_integral_v<T>) {
    if (!is_whole<T>(value)) refuse_member(key, value, std::is_signed_v<T> ? "a whole number" : whole_not_below_zero);
  } else {
    if (!value.is_array()) refuse_member(key, value, "a list of numbers");
    member.clear();
    for (const Given& each : value) take(key, each, member.emplace_back());
    return;
  }
  value.get_to(member);
}

template <class S>
void set(const OptionRow<S>& row, const Given& value, S& settings) {
  std::visit([&](auto member) { take(row.key, value, settings.*member); }, row.member);
}

template <class S>
Given to_json(const OptionRows<S>& rows, const S& settings) {
  Given json;
  for (const OptionRow<S>& row : rows) json[row.key] = value_of(row, settings);
  return json;
}

template <class S>
bool has_key(const OptionRows<S>& rows, const std::string& key) {
  return std::ranges::any_of(rows, [&](const OptionRow<S>& row) { return key == row.key; });
}

/// Throws BadJson when a value is missing or of another type.
template <class S>
void read_json(const OptionRows<S>& rows, const Given& json, S& settings) {
  for (const OptionRow<S>& row : rows) {
    if (json.contains(row.key) || !row.is_newer) set(row, member_of(json, row.key), settings);
  }
}

template <class S>
void apply(const OptionRows<S>& rows, const Given& given, S& settings) {
  for (const OptionRow<S>& row : rows) {
    if (given.contains(row.key)) set(row, given[row.key], settings);
  }
}

/// Throws UserError that names the first option with a value that no run can have.
template <class S>
void check_values(const OptionRows<S>& rows, const S& settings) {
  for (const OptionRow<S>& row : rows) {
    const Given value = value_of(row, settings);
    if (!(row.zero_is_none && value == 0)) check_value(row.name, value, row.allowed);
  }
}

/// The same for what was typed: there 0 is no way to say nothing.
template <class S>
void check_given(const OptionRows<S>& rows, const Given& given) {
  for (const OptionRow<S>& row : rows) {
    if (given.contains(row.key)) check_value(row.name, given[row.key], row.allowed);
  }
}

/// Takes over what may change between the parts of a run. Throws UserError that names the first option that contradicts
/// the run in folder `out`.
template <class S>
void apply_on_resume(const OptionRows<S>& rows, const Given& given, const std::string& out, S& settings) {
  for (const OptionRow<S>& row : rows) {
    if (!given.contains(row.key)) continue;
    if (row.on_resume == OnResume::must_agree) {
      refuse_contradiction(row.name, given[row.key], value_of(row, settings), out);
    }
    set(row, given[row.key], settings);
  }
}

}  // namespace mma::examples
