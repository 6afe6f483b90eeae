// The objectives by the names that --regularizer and --objective take. A new one is one line in objectives.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <mma/any_objective.hpp>
#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

struct NamedObjective {
  std::string name;
  std::string about;
  std::optional<double> coefficient;                ///< for a network's training; empty: the recipe's for MMA
  std::function<AnyObjective(uint64_t seed)> make;  ///< the seed of its own random numbers, where it draws any
};

/// Beginning with mma, the paper's.
const std::vector<NamedObjective>& objectives();

/// Throws UserError for an unknown name; the sentence, which begins with the flag, lists the known ones.
const NamedObjective& objective_named(const std::string& name, const std::string& flag);

/// "mma, cosine, ..." for help texts.
std::string objective_names();

}  // namespace mma::examples
