// JSON from elsewhere: its depth, its members.
#include "support/files/json.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "../test_files.hpp"

namespace mma::examples {
namespace {

using mma::tests::message_of;
using nlohmann::ordered_json;

std::string levels_of(const std::string& text, int times) {
  std::string all;
  for (int k = 0; k < times; ++k) all += text;
  return all;
}

std::string json_refusal(const std::string& text, const JsonRules& rules = {}) {
  return message_of<BadJson>([&] { parse_json(text, rules); });
}

TEST(Json, HasALimitToItsDepth) {
  for (const auto& [level, end] : {std::pair<std::string, std::string>{"[", "]"}, {"{\"a\":", "}"}}) {
    EXPECT_EQ(json_refusal(levels_of(level, 100000)), "is nested more than 64 deep");
    EXPECT_EQ(json_refusal(levels_of(level, 65) + "1" + levels_of(end, 65)), "is nested more than 64 deep");
    EXPECT_EQ(json_refusal(levels_of(level, 64) + "1" + levels_of(end, 64)), "");
    EXPECT_EQ(json_refusal(levels_of(level, 3) + "1" + levels_of(end, 3), {.deepest = 2}),
              "is nested more than 2 deep");
    const std::string deep = levels_of(level, 100000);
    EXPECT_EQ(message_of<BadJson>([&] { parse_ordered_json(deep); }), "is nested more than 64 deep");
  }
  EXPECT_EQ(json_refusal(levels_of("[[]],", 100).insert(0, "[") + "1]"), "");  // wide, not deep
}

TEST(Json, IsWholeAndNothingElse) {
  for (const char* text : {"", "{", "{}{}", "{'a': 1}", "nan", "[1e999]", "\"\xff\""}) {
    EXPECT_EQ(json_refusal(text), "is not valid JSON") << text;
  }
  EXPECT_EQ(BadJson("is not valid JSON", true).about("the header"), "the header is not valid JSON");
  EXPECT_EQ(BadJson("there is no 'a'").about("the header"), "in the header, there is no 'a'");
}

TEST(Json, TellsTheOutermostNamesAsTheyStand) {
  std::vector<std::string> names;
  parse_json(R"({"b": {"c": 1}, "a": [{"d": 2}], "b": 3})",
             {.outermost_name = [&](const auto& name) { names.push_back(name); }});
  EXPECT_EQ(names, (std::vector<std::string>{"b", "a", "b"}));
}

std::string why_not(const std::function<void()>& act) { return message_of<BadJson>(act); }

TEST(Json, ItsMembersAreJudged) {
  const ordered_json object = parse_ordered_json(
      R"({"whole": 7, "below": -1, "half": 0.5, "one": 1.0, "vast": 18446744073709551615, "yes": true, "none": null,
          "text": "t", "list": [1, 2]})");
  const auto whole = [&](const char* name) { return why_not([&] { whole_number(object, name, 0, 9); }); };
  EXPECT_EQ(whole_number(object, "whole", 7, 7), 7);
  EXPECT_EQ(whole("whole"), "");
  EXPECT_EQ(whole("absent"), "there is no 'absent'");
  for (const auto& [name, value] : object.items()) {
    if (name == "whole") continue;
    EXPECT_EQ(whole(name.c_str()), "'" + name + "' is " + value.dump() + "; expected a whole number from 0 to 9");
  }
  EXPECT_EQ(why_not([&] { whole_number(object, "below", 3, 3); }), "'below' is -1; expected 3");
  EXPECT_EQ(why_not([&] { whole_number(ordered_json::array(), "a", 0, 1); }), "there is no 'a'");

  EXPECT_EQ(finite_number(object, "half"), 0.5);
  EXPECT_EQ(finite_number(object, "below"), -1);
  EXPECT_EQ(why_not([&] { finite_number(object, "none"); }), "'none' is null; expected a finite number");
  EXPECT_EQ(why_not([&] { finite_number(object, "yes"); }), "'yes' is true; expected a finite number");
  EXPECT_EQ(why_not([&] { finite_number(object, "below", 0); }), "'below' is -1; expected a finite number not below 0");
  EXPECT_TRUE(std::isnan(number_or_nan(object, "none")));
  EXPECT_EQ(number_or_nan(object, "half", 0, 1), 0.5);
  EXPECT_EQ(why_not([&] { number_or_nan(object, "whole", 0, 1); }),
            "'whole' is 7; expected a number from 0 to 1, or null");
  EXPECT_EQ(word(object, "text"), "t");
  EXPECT_EQ(why_not([&] { word(object, "list"); }), "'list' is [1,2]; expected a text");
  const ordered_json long_text = {{"a", std::string(1000, 'x')}};
  EXPECT_LT(why_not([&] { whole_number(long_text, "a", 0, 1); }).size(), 120u);
}

TEST(Json, WholeNumbersFitTheirType) {
  const auto number = [](const std::string& text) { return ordered_json::parse(text); };
  EXPECT_TRUE(is_whole<int64_t>(number("9223372036854775807")));
  EXPECT_FALSE(is_whole<int64_t>(number("9223372036854775808")));
  EXPECT_TRUE(is_whole<int64_t>(number("-9223372036854775808")));
  EXPECT_FALSE(is_whole<int64_t>(number("-9223372036854775809")));
  EXPECT_TRUE(is_whole<uint64_t>(number("18446744073709551615")));
  EXPECT_FALSE(is_whole<uint64_t>(number("18446744073709551616")));
  EXPECT_FALSE(is_whole<uint64_t>(number("-1")));
  EXPECT_TRUE(is_whole<uint64_t>(ordered_json(int64_t{1})));
}

}  // namespace
}  // namespace mma::examples
