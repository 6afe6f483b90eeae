// What the nodes of autograd for batch normalisation share (normalisation.cpp, dense_features.cpp): when they are made
// for a norm and its images, running statistics, and gradients that may be written over.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/batchnorm.h>

#include "training/models/normalisation_passes.hpp"

namespace mma::examples::normalisation {

/// On a CPU, in float32, channels last, [B, C, height, width].
bool is_plain_image(const at::Tensor& images);

/// Whether the operation is made for this norm of plain images with so many channels and entries; all else is
/// LibTorch's.
bool is_fused(const torch::nn::BatchNorm2dImpl& norm, int64_t channels, int64_t entries);

/// Of plain images.
Moments moments_of_images(const at::Tensor& images);

/// As LibTorch keeps them: the variance without bias.
void update_running_statistics(torch::nn::BatchNorm2dImpl& norm, const Moments& moments, int64_t count);

/// Whether nobody else sees what is written over it.
bool is_own(const at::Tensor& gradient);

/// The gradient itself where nobody else holds it, so that it can be written over while it is in the cache; channels
/// last.
at::Tensor own_copy(const at::Tensor& gradient);

/// The same numbers in the same place as a tensor that autograd sees for itself: what is written beside them later is
/// none of its business.
at::Tensor alias_of(const at::Tensor& tensor);

}  // namespace mma::examples::normalisation
