// The layers of a weights file: which of its tensors are weights, and how their rows lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "mma/weight_matrix.hpp"

namespace mma::examples {

/// Shell patterns (*, ?, [..]) on the name of a tensor or on that of its layer, which is the same without ".weight".
struct LayerPatterns {
  std::vector<std::string> include;                     ///< layers too, although their names do not end in "weight"
  std::vector<std::string> exclude;                     ///< no layers
  std::vector<std::string> only;                        ///< none but these, when there is any
  std::vector<std::string> transposed;                  ///< weights of transposed convolutions
  std::vector<std::pair<std::string, int64_t>> groups;  ///< weights of grouped convolutions, with their groups
};

struct StoredLayer {
  std::string name;
  at::Tensor weight;
  WeightLayout layout;

  at::Tensor rows() const { return weight_rows(weight, layout, name); }
};

/// The floating-point tensors with two or more dimensions whose names end in "weight" or match an include pattern.
/// Of a checkpoint of mma-train, the network's alone. Throws UserError when there are none, for a pattern that matches
/// no tensor, and for groups that do not divide a weight.
std::vector<StoredLayer> read_layers(const std::filesystem::path& path, const LayerPatterns& patterns);

}  // namespace mma::examples
