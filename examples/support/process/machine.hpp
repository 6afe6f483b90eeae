// What this computer is, for records of measurements.
#pragma once

#include <string>

namespace mma::examples {

/// "2 cores of an Intel(R) Xeon(R) ..." and, for the device cuda, the GPU's name as NVIDIA's driver tells it.
std::string machine_description(const std::string& device);

}  // namespace mma::examples
