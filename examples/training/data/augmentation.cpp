#include "training/data/augmentation.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <mma/random_draws.hpp>

namespace mma::examples {
namespace {

/// The step that the order of an epoch draws with; the batches of an epoch count from 0.
constexpr int64_t before_first_step = -1;

/// One number a channel, to broadcast over [B, C, H, W].
at::Tensor by_channel(const std::vector<double>& values, const at::Device& device) {
  return at::tensor(values, at::kFloat).to(device).view({1, -1, 1, 1});
}

}  // namespace

at::Generator generator_of(uint64_t seed, int64_t epoch, int64_t step, RandomStream stream) {
  const uint64_t with_epoch = splitmix64(seed) ^ static_cast<uint64_t>(epoch);
  const uint64_t with_step = splitmix64(splitmix64(with_epoch) ^ static_cast<uint64_t>(step));
  // The first stream's numbers are those of the runs before there were others.
  return at::make_generator<at::CPUGeneratorImpl>(
      stream == RandomStream::CropsAndOrder ? with_step : splitmix64(with_step ^ static_cast<uint64_t>(stream)));
}

at::Tensor epoch_order(int64_t count, uint64_t seed, int64_t epoch) {
  return at::randperm(count, generator_of(seed, epoch, before_first_step, RandomStream::CropsAndOrder),
                      at::TensorOptions(at::kLong));
}

Normalisation::Normalisation(const std::vector<double>& mean, const std::vector<double>& deviation,
                             const at::Device& device) {
  std::vector<double> scale(mean.size()), shift(mean.size());
  for (size_t channel = 0; channel < mean.size(); ++channel) {
    scale[channel] = 1 / (255 * deviation[channel]);
    shift[channel] = -mean[channel] / deviation[channel];
  }
  scale_ = by_channel(scale, device);
  shift_ = by_channel(shift, device);
}

at::Tensor normalised(const at::Tensor& images, const Normalisation& by, at::MemoryFormat format) {
  return images.to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, format).mul_(by.scale_).add_(by.shift_);
}

at::Tensor drawn_crops(int64_t count, int64_t padding, uint64_t seed, int64_t epoch, int64_t step) {
  const at::Generator generator = generator_of(seed, epoch, step, RandomStream::CropsAndOrder);
  at::Tensor crops = at::empty({3, count}, at::kLong);
  crops.narrow(0, 0, 2).random_(0, 2 * padding + 1, generator);
  crops[2].random_(0, 2, generator);
  return crops;
}

at::Tensor cropped_and_flipped(const at::Tensor& images, int64_t padding, const at::Tensor& crops) {
  const int64_t batch = images.size(0), height = images.size(2), width = images.size(3);
  const at::Tensor padded = at::constant_pad_nd(images, {padding, padding, padding, padding}, 0);
  const at::Tensor drawn = crops.unsqueeze(2);  // [3, B, 1]
  const at::Tensor x = at::arange(width, drawn.options());
  const at::Tensor rows = drawn[0] + at::arange(height, drawn.options());                                // [B, H]
  const at::Tensor columns = drawn[1] + at::where(drawn[2] == 1, width - 1 - x, x);                      // [B, W]
  const at::Tensor pixels = at::add(columns.unsqueeze(1), rows.unsqueeze(2), /*alpha=*/padded.size(3));  // [B, H, W]
  const at::Tensor index = pixels.view({batch, 1, height * width}).expand({-1, images.size(1), -1});
  return at::gather(padded.flatten(2), 2, index).view(images.sizes());
}

}  // namespace mma::examples
