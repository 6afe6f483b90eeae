// JSON that somebody else may have written: read with a limit to its depth, its members judged as they are taken.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "support/process/error.hpp"

namespace mma::examples {

/// What is wrong with a text, "is not valid JSON", or with a member of it, "'step' is -1; expected a whole number from
/// 0 to 9".
struct BadJson : UserError {
  explicit BadJson(const std::string& what, bool of_all = false) : UserError(what), of_all(of_all) {}

  /// "the record is not valid JSON", "in the record, 'step' is -1; expected a whole number from 0 to 9"
  std::string about(const std::string& text) const { return (of_all ? text + ' ' : "in " + text + ", ") + what(); }

  bool of_all;
};

struct JsonRules {
  int64_t deepest = 64;  ///< objects and arrays in each other; code that walks over them recurses
  /// Gets each name of the outermost object in its order, also one that occurs twice; may throw.
  std::function<void(const std::string& name)> outermost_name = {};
};

/// The one way in which JSON is read. Throws BadJson.
nlohmann::json parse_json(const std::string& text, const JsonRules& rules = {});
/// Keeps the members' order, for which each name is looked up among all before it: for few members.
nlohmann::ordered_json parse_ordered_json(const std::string& text);

/// A member of an object. All of these throw BadJson where there is none, or none of the kind that is expected.
const nlohmann::ordered_json& member_of(const nlohmann::ordered_json& object, const std::string& name);
int64_t whole_number(const nlohmann::ordered_json& object, const std::string& name, int64_t lowest, int64_t highest);
double finite_number(const nlohmann::ordered_json& object, const std::string& name,
                     double lowest = std::numeric_limits<double>::lowest(),
                     double highest = std::numeric_limits<double>::max());
/// JSON has no NaN: null stands for it.
double number_or_nan(const nlohmann::ordered_json& object, const std::string& name,
                     double lowest = std::numeric_limits<double>::lowest(),
                     double highest = std::numeric_limits<double>::max());
std::string word(const nlohmann::ordered_json& object, const std::string& name);

/// Whether a value is a whole number of this type: no fraction, no sign that would wrap around, no overflow.
template <class T>
bool is_whole(const nlohmann::ordered_json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>() <= uint64_t{std::numeric_limits<T>::max()};
  return value.is_number_integer() && (std::numeric_limits<T>::is_signed || value.get<int64_t>() >= 0);
}

/// "'epochs' is 2.5; expected a whole number", the value cut where it is long.
[[noreturn]] void refuse_member(const std::string& name, const nlohmann::ordered_json& value,
                                const std::string& expected);

}  // namespace mma::examples
