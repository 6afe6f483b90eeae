#include "training/run/device.hpp"

#include <torch/cuda.h>

#include "support/process/error.hpp"
#include "training/settings/capturable.hpp"

namespace mma::examples {

void check_device(const Settings& settings) {
  if (settings.cuda_graph && !cuda_graphs_are_built_in()) {
    throw UserError(
        "--cuda-graph: this program was built without CUDA's headers or LibTorch's CUDA half; build it again where "
        "CMake finds both, or leave the option out");
  }
  if (settings.device == "cuda" && !torch::cuda::is_available()) {
    throw UserError(
        "--device cuda: this machine has no NVIDIA GPU that LibTorch can use, or LibTorch was built without CUDA");
  }
}

}  // namespace mma::examples
