#include "support/files/json.hpp"

#include <c10/util/StringUtil.h>

namespace mma::examples {
namespace {

using nlohmann::ordered_json;

/// Sees the text before anything is made of it.
class RuleCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit RuleCheck(const JsonRules& rules) : rules_(rules) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(size_t) override { return down(); }
  bool start_array(size_t) override { return down(); }
  bool end_object() override { return up(); }
  bool end_array() override { return up(); }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override { return false; }

  bool key(std::string& name) override {
    if (depth_ == 1 && rules_.outermost_name) rules_.outermost_name(name);
    return true;
  }

 private:
  bool down() {
    if (++depth_ > rules_.deepest)
      throw BadJson(c10::str("is nested more than ", rules_.deepest, " deep"), /*of_all=*/true);
    return true;
  }
  bool up() {
    --depth_;
    return true;
  }

  const JsonRules& rules_;
  int64_t depth_ = 0;
};

void check(const std::string& text, const JsonRules& rules) {
  RuleCheck check(rules);
  if (!nlohmann::json::sax_parse(text, &check)) throw BadJson("is not valid JSON", /*of_all=*/true);
}

std::string between(double lowest, double highest) {
  const bool from = lowest > std::numeric_limits<double>::lowest();
  const bool to = highest < std::numeric_limits<double>::max();
  if (from && to) return c10::str(" from ", lowest, " to ", highest);
  return from ? c10::str(" not below ", lowest) : to ? c10::str(" not above ", highest) : "";
}

}  // namespace

nlohmann::json parse_json(const std::string& text, const JsonRules& rules) {
  check(text, rules);
  return nlohmann::json::parse(text);
}

ordered_json parse_ordered_json(const std::string& text) {
  check(text, {});
  return ordered_json::parse(text);
}

void refuse_member(const std::string& name, const ordered_json& value, const std::string& expected) {
  constexpr size_t longest = 60;
  std::string found = value.dump();
  if (found.size() > longest) found = found.substr(0, longest) + "...";
  throw BadJson(c10::str("'", name, "' is ", found, "; expected ", expected));
}

const ordered_json& member_of(const ordered_json& object, const std::string& name) {
  const auto member = object.is_object() ? object.find(name) : object.end();
  if (member == object.end()) throw BadJson("there is no '" + name + "'");
  return *member;
}

int64_t whole_number(const ordered_json& object, const std::string& name, int64_t lowest, int64_t highest) {
  const ordered_json& value = member_of(object, name);
  if (is_whole<int64_t>(value) && value.get<int64_t>() >= lowest && value.get<int64_t>() <= highest) {
    return value.get<int64_t>();
  }
  refuse_member(name, value,
                lowest == highest ? c10::str(lowest) : c10::str("a whole number from ", lowest, " to ", highest));
}

double finite_number(const ordered_json& object, const std::string& name, double lowest, double highest) {
  const ordered_json& value = member_of(object, name);
  if (value.is_number() && value.get<double>() >= lowest && value.get<double>() <= highest) return value.get<double>();
  refuse_member(name, value, "a finite number" + between(lowest, highest));
}

double number_or_nan(const ordered_json& object, const std::string& name, double lowest, double highest) {
  const ordered_json& value = member_of(object, name);
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (value.is_number() && value.get<double>() >= lowest && value.get<double>() <= highest) return value.get<double>();
  refuse_member(name, value, "a number" + between(lowest, highest) + ", or null");
}

std::string word(const ordered_json& object, const std::string& name) {
  const ordered_json& value = member_of(object, name);
  if (!value.is_string()) refuse_member(name, value, "a text");
  return value.get<std::string>();
}

}  // namespace mma::examples
