// A network's tensors by name, and loading them from a file with one clear sentence when they do not fit.
#pragma once

#include <torch/nn/module.h>

#include <string>

#include "common/tensor_file.hpp"
#include "train/sgd.hpp"

namespace mma::examples {

/// Parameters, then buffers, as state dicts name them.
NamedTensors parameters_of(const torch::nn::Module& model);
NamedTensors state_of(const torch::nn::Module& model);

/// The file's tensors whose names begin with the prefix, without it.
NamedTensors tensors_under(const TensorFile& file, const std::string& prefix);

/// Copies source into the equally named targets, converting floating-point types. Before anything is changed, throws
/// UserError that names the first missing, unexpected or mis-shaped tensor and how many there are. Counters of batches
/// (num_batches_tracked) may be missing, as they are in old files.
void load_tensors(const NamedTensors& source, const NamedTensors& targets, const std::string& file);

}  // namespace mma::examples
