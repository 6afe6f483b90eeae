// The layers of a weights file: which of its tensors are weights, how their rows lie, and what was left out.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <mma/weight_matrix.hpp>
#include <string>
#include <utility>
#include <vector>

namespace mma::examples {

/// Shell patterns, as mma::name_matches takes them, on the name of a tensor or on that of its layer, which is the same
/// without ".weight".
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
  std::string note;  ///< how the weight was made of what is stored

  at::Tensor rows() const { return weight_rows(weight, layout, name); }
};

/// A tensor that is not shown.
struct UnshownTensor {
  std::string name;
  std::vector<int64_t> sizes;  ///< empty where they are not known
  std::string why;             ///< "torch.complex64": no layer can be like that; empty: --include shows it
};

struct StoredLayers {
  std::vector<StoredLayer> layers;
  std::vector<UnshownTensor> unshown;
};

/// "5 tensors left out: lstm.weight_ih_l0, ...; --include shows them", and the same of those that cannot be layers; a
/// line for each, none where there is nothing to say.
std::string words_about(const std::vector<UnshownTensor>& unshown);

/// The floating-point tensors with two or more dimensions whose names end in "weight" or match an include pattern, and
/// the weights that reparametrised and pruned layers make. Of a checkpoint, the network's alone. `key`: as
/// in read_tensor_file. Throws UserError when there are none, for a pattern that matches no tensor, and for groups that
/// do not divide a weight.
StoredLayers read_layers(const std::filesystem::path& path, const LayerPatterns& patterns, const std::string& key = "");

}  // namespace mma::examples
