// A network's tensors by name, and loading them from a file with one clear sentence when they do not fit.
#pragma once

#include <torch/nn/module.h>

#include <string>

#include "support/files/tensor_file.hpp"
#include "training/run/sgd.hpp"

namespace mma::examples {

/// Parameters, then buffers, as state dicts name them.
NamedTensors parameters_of(const torch::nn::Module& model);
NamedTensors state_of(const torch::nn::Module& model);

/// The file's tensors whose names begin with the prefix, without it.
NamedTensors tensors_under(const TensorFile& file, const std::string& prefix);

/// The tensors of a foreign file as the network names them, as far as that makes them fit: prefixes that all names
/// share (module., _orig_mod., model., any other) are taken off, weights made of what reparametrised and pruned layers
/// store; numbers that tools leave beside the weights (thop's total_ops) are ignored. `words`: about what was ignored
/// or made.
struct FittedTensors {
  NamedTensors tensors;
  std::string words;  ///< a line each; empty: nothing to say
};
FittedTensors fitted_to(const NamedTensors& targets, const NamedTensors& source);

/// A line about the tensors of the file that were skipped; empty when there are none.
std::string words_about_skipped(const TensorFile& file);

/// Copies source into the equally named targets, converting floating-point types. Before anything is changed, throws
/// UserError that names the first missing or mis-shaped tensor and how many there are, or lists the unexpected ones.
/// Counters of batches (num_batches_tracked) may be missing, as they are in old files.
void load_tensors(const NamedTensors& source, const NamedTensors& targets, const std::string& file);

}  // namespace mma::examples
