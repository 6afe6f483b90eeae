// Which steps a CUDA graph can hold: those that are the same work each time, none of it on the CPU.
#pragma once

#include <string>

#include "training/settings/settings.hpp"

namespace mma::examples {

/// Whether this program was built with CUDA's headers and LibTorch's CUDA half.
bool cuda_graphs_are_built_in();

/// Why a run's step cannot be captured, as an error says it; empty where nothing speaks against it.
std::string why_not_captured(const Settings& settings);

}  // namespace mma::examples
