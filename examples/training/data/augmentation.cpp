#include "training/data/augmentation.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

namespace mma::examples {
namespace {

/// The step that the order of an epoch draws with; the batches of an epoch count from 0.
constexpr int64_t before_first_step = -1;

/// The output function of SplitMix64: neighbouring inputs give unrelated outputs.
uint64_t scrambled(uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

/// One number a channel, to broadcast over [B, C, H, W].
at::Tensor by_channel(const std::vector<double>& values, at::Device device) {
  return at::tensor(values, at::kFloat).to(device).view({1, -1, 1, 1});
}

}  // namespace

at::Generator generator_of(uint64_t seed, int64_t epoch, int64_t step, RandomStream stream) {
  const uint64_t with_epoch = scrambled(seed) ^ static_cast<uint64_t>(epoch);
  const uint64_t with_step = scrambled(scrambled(with_epoch) ^ static_cast<uint64_t>(step));
  // The first stream's numbers are those of the runs before there were others.
  return at::detail::createCPUGenerator(
      stream == RandomStream::CropsAndOrder ? with_step : scrambled(with_step ^ static_cast<uint64_t>(stream)));
}

at::Tensor epoch_order(int64_t count, uint64_t seed, int64_t epoch) {
  return at::randperm(count, generator_of(seed, epoch, before_first_step, RandomStream::CropsAndOrder),
                      at::TensorOptions(at::kLong));
}

at::Tensor normalised(const at::Tensor& images, const std::vector<double>& mean, const std::vector<double>& deviation) {
  std::vector<double> scale(mean.size()), shift(mean.size());
  for (size_t channel = 0; channel < mean.size(); ++channel) {
    scale[channel] = 1 / (255 * deviation[channel]);
    shift[channel] = -mean[channel] / deviation[channel];
  }
  return images.to(at::kFloat).mul_(by_channel(scale, images.device())).add_(by_channel(shift, images.device()));
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
  const at::Tensor drawn = crops.to(images.device()).unsqueeze(2);  // [3, B, 1]
  const at::Tensor x = at::arange(width, drawn.options());
  const at::Tensor rows = drawn[0] + at::arange(height, drawn.options());               // [B, H]
  const at::Tensor columns = drawn[1] + at::where(drawn[2] == 1, width - 1 - x, x);     // [B, W]
  const at::Tensor pixels = rows.unsqueeze(2) * padded.size(3) + columns.unsqueeze(1);  // [B, H, W]
  const at::Tensor index = pixels.view({batch, 1, height * width}).expand({-1, images.size(1), -1});
  return at::gather(padded.flatten(2), 2, index).view(images.sizes());
}

at::Tensor randomly_cropped_and_flipped(const at::Tensor& images, int64_t padding, uint64_t seed, int64_t epoch,
                                        int64_t step) {
  return cropped_and_flipped(images, padding, drawn_crops(images.size(0), padding, seed, epoch, step));
}

}  // namespace mma::examples
