// Where the tensors of a network lie in a pickle of PyTorch or LibTorch: which dictionary, at any depth, holds them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "support/files/pickled_tensors.hpp"

namespace mma::examples {

using PickledTensors = std::vector<std::pair<std::string, PickledTensor>>;

/// The tensors under `key`, dotted, at any depth below it ("." for the whole file); without a key those of the only
/// dictionary that holds matrices by name (else vectors, else a list of tensors), or of a module of LibTorch with the
/// modules in it. Optimizers' states in a checkpoint do not count. Throws UserError, which begins with `file`, when
/// there is none, or several.
PickledTensors find_state_dict(const PickleValue& root, const std::string& key, const std::string& file);

}  // namespace mma::examples
