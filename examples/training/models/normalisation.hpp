// Batch normalisation with what follows it in a network. Where a network is trained in float32 on a CPU, images with
// channels last, it is one operation that goes over the pictures as few times as can be; elsewhere LibTorch's, one
// after the other. The modules, what they learn and their running statistics are LibTorch's in both. While there is a
// SynchronisedNorm, all of it is over the batches of all processes.
#pragma once

#include <torch/nn/modules/batchnorm.h>

namespace mma::examples {

/// norm(images), as everywhere below with images of [B, C, height, width].
at::Tensor batch_norm(torch::nn::BatchNorm2d& norm, const at::Tensor& images);

/// The same of rows [B, C].
at::Tensor batch_norm(torch::nn::BatchNorm1d& norm, const at::Tensor& rows);

/// relu(norm(images))
at::Tensor batch_norm_relu(torch::nn::BatchNorm2d& norm, const at::Tensor& images);

/// norm(images) + shortcut
at::Tensor batch_norm_add(torch::nn::BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut);

/// relu(norm(images) + shortcut)
at::Tensor batch_norm_add_relu(torch::nn::BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut);

/// The largest of each 2 x 2 pixels of relu(norm(images)); of odd sizes the last row and column are left out, unless
/// `ceil_mode`.
at::Tensor batch_norm_relu_max_pool(torch::nn::BatchNorm2d& norm, const at::Tensor& images, bool ceil_mode);

/// The mean of each 2 x 2 pixels of relu(norm(images)); of odd sizes the last row and column are left out.
at::Tensor batch_norm_relu_mean_pool(torch::nn::BatchNorm2d& norm, const at::Tensor& images);

}  // namespace mma::examples
