// The options of mma-angles.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "support/files/weights_file.hpp"

namespace mma::examples {

struct AnglesArguments {
  std::vector<std::string> files;
  bool json = false;
  std::string plot;  ///< empty: no picture
  std::string key;   ///< of the dictionary of tensors; empty: the only one
  double cosine = 0.2;
  LayerPatterns patterns;
};

/// std::nullopt when help or version was asked for and printed; UserError for options that make no sense.
std::optional<AnglesArguments> read_angles_command_line(int argc, char** argv);

}  // namespace mma::examples
