// For walks over every row of a table of options: another value than the one that is there, and the words that give it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "training/settings/option_row.hpp"

namespace mma::tests {

using examples::Given;

/// Names that a row takes but does not list.
inline std::string other_name(const std::string& key, const std::string& name) {
  static const std::map<std::string, std::pair<std::string, std::string>> names = {
      {"model", {"wrn-16-8", "resnet56"}},
      {"dataset", {"cifar10", "folder"}},
      {"data", {"elsewhere", "far"}},
      {"recipe", {"densenet", "vgg-bn"}},
      {"exclude_pairs", {"pairs.txt", "pairs.csv"}}};
  const auto& [first, second] = names.at(key);
  return name == first ? second : first;
}

/// A value that the option takes and that differs from `value`.
template <class S>
Given other_value(const examples::OptionRow<S>& row, const Given& value) {
  if (const auto* choices = std::get_if<examples::Choices>(&row.allowed)) {
    return value == choices->back() ? choices->front() : choices->back();
  }
  if (row.is_flag() && !value.is_boolean()) return row.raised;
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return other_name(row.key, value.get<std::string>());
  if (value.is_number_float()) return value == 0.0 ? 0.25 : value.get<double>() / 2;
  if (value.is_number()) return value.get<int64_t>() + 1;
  if (std::holds_alternative<std::vector<double> S::*>(row.member)) return {value.empty() ? 0.5 : 0.75};
  return {value.empty() ? 1 : value.back().template get<int64_t>() + 1};
}

/// What gives the option this value on a command line; nothing where a flag cannot be lowered.
template <class S>
std::vector<std::string> words_for(const examples::OptionRow<S>& row, const Given& value) {
  if (!row.is_flag()) return {row.name, examples::text(value)};
  if (value != false) return {row.name};
  return *row.opposite != '\0' ? std::vector<std::string>{row.opposite} : std::vector<std::string>{};
}

}  // namespace mma::tests
