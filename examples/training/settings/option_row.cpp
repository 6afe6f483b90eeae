#include "training/settings/option_row.hpp"

#include <algorithm>
#include <cmath>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

void refuse(const std::string& name, const Given& value, const std::string& needed) {
  if (!needed.empty()) throw UserError(c10::str(name, " ", text(value), ": ", needed));
}

}  // namespace

std::string Range::needed_instead_of(double value) const {
  const bool too_low = std::isnan(value) || value < lowest || (without_lowest && value == lowest);
  const bool too_high = value > highest || (without_highest && value == highest);
  if (too_low || (too_high && (without_highest || std::isinf(value)))) {
    return expected;
  }
  return too_high ? c10::str("at most ", static_cast<int64_t>(highest), " is needed") : "";
}

std::string text(const Given& value) {
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return c10::str(value.get<double>());
  if (!value.is_array()) return value.dump();
  std::string list;
  for (const Given& each : value) {
    if (!list.empty()) list += ",";
    list += text(each);
  }
  return list;
}

void check_value(const std::string& name, const Given& value,
                 const std::variant<std::monostate, Range, Choices>& allowed) {
  if (const auto* range = std::get_if<Range>(&allowed)) {
    if (!value.is_array()) return refuse(name, value, range->needed_instead_of(value.get<double>()));
    for (const Given& each : value) refuse(name, each, range->needed_instead_of(each.get<double>()));
  }
  if (const auto* choices = std::get_if<Choices>(&allowed)) {
    const bool is_known = std::ranges::find(*choices, value.get<std::string>()) != choices->end();
    refuse(name, value, is_known ? "" : "one of " + c10::Join(", ", *choices) + " is needed");
  }
}

void refuse_contradiction(const std::string& name, const Given& given, const Given& settled, const std::string& out) {
  if (given == settled) return;
  throw UserError(c10::str(name, " ", text(given), " contradicts the run in ", out, ", which has ", text(settled),
                           ": leave it out to resume, or choose another --out"));
}

}  // namespace mma::examples
