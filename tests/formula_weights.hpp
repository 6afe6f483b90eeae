// Weights and images by a formula of the index, which Python scripts repeat to compute the same networks with PyTorch.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/nn/module.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace mma::tests {

/// Numbers in [-0.5, 0.5) that look random: the same hash of (stream, index) as in train/reference_models.py.
inline at::Tensor noise(uint64_t stream, at::IntArrayRef shape) {
  at::Tensor result = at::empty(shape, at::kDouble);
  double* value = result.mutable_data_ptr<double>();
  for (uint64_t i = 0; i < static_cast<uint64_t>(result.numel()); ++i) {
    uint64_t h = (i * 2654435761 + stream * 374761393) & 0xffffffff;
    h = ((h ^ (h >> 15)) * 2246822519) & 0xffffffff;
    h = ((h ^ (h >> 13)) * 3266489917) & 0xffffffff;
    value[i] = static_cast<double>(h ^ (h >> 16)) / 4294967296.0 - 0.5;
  }
  return result;
}

/// Every parameter and buffer of a module with numbers of such a kind that activations neither vanish nor grow.
inline void fill(torch::nn::Module& model) {
  const c10::NoGradGuard no_grad;
  uint64_t stream = 0;
  for (at::Tensor& parameter : model.parameters()) {
    const at::Tensor drawn = noise(stream++, parameter.sizes());
    const double fan_in = static_cast<double>(parameter.numel() / parameter.size(0));
    parameter.copy_(parameter.dim() == 1 ? drawn + 0.75 : drawn * std::sqrt(24 / fan_in));
  }
  stream = 500;
  for (at::Tensor& buffer : model.buffers()) {
    if (buffer.dim() == 1) {
      buffer.copy_(noise(stream, buffer.sizes()) + 0.75);
    }
    ++stream;
  }
}

/// Of all numbers in all tensors.
inline double joint_norm(const std::vector<at::Tensor>& tensors) {
  double sum = 0;
  for (const at::Tensor& tensor : tensors) {
    sum += std::pow(tensor.to(at::kDouble).norm().item<double>(), 2);
  }
  return std::sqrt(sum);
}

}  // namespace mma::tests
