#include "training/data/augmentation.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <mma/random_draws.hpp>

namespace mma::examples {
namespace {

/// The step that the order of an epoch draws with; the batches of an epoch count from 0.
constexpr int64_t before_first_step = -1;

constexpr int64_t byte_values = 256, images_at_once = 8;

bool is_of_bytes_in_a_row(const at::Tensor& images) {
  return images.device().is_cpu() && images.scalar_type() == at::kByte && images.is_contiguous();
}

/// One number a channel, to broadcast over [B, C, H, W].
at::Tensor by_channel(const std::vector<double>& values, const at::Device& device) {
  return at::tensor(values, at::kFloat).to(device).view({1, -1, 1, 1});
}

/// cropped_and_flipped by LibTorch's operations.
at::Tensor gathered(const at::Tensor& images, int64_t padding, const at::Tensor& crops) {
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

/// cropped_and_flipped row by row.
at::Tensor moved_rows(const at::Tensor& images, int64_t padding, const at::Tensor& crops) {
  const at::Tensor result = at::zeros_like(images);
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3);
  const auto* from = images.const_data_ptr<uint8_t>();
  const auto crop = crops.accessor<int64_t, 2>();
  auto* to = result.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, images.size(0), images_at_once, [&](int64_t first, int64_t last) {
    for (int64_t plane = first * channels; plane < last * channels; ++plane) {
      const int64_t image = plane / channels, down = crop[0][image] - padding, right = crop[1][image] - padding;
      const bool is_mirrored = crop[2][image] == 1;
      const int64_t left = std::clamp<int64_t>(-right, 0, width), end = std::clamp<int64_t>(width - right, left, width);
      for (int64_t y = std::max<int64_t>(0, -down); y < std::min(height, height - down); ++y) {
        const uint8_t* row = from + (plane * height + y + down) * width;
        uint8_t* out = to + (plane * height + y) * width;
        if (is_mirrored) {
          std::reverse_copy(row + left + right, row + end + right, out + width - end);
        } else {
          std::copy(row + left + right, row + end + right, out + left);
        }
      }
    }
  });
  return result;
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
  const auto channels = static_cast<int64_t>(mean.size());
  const at::Tensor all_values =
      at::arange(byte_values, at::TensorOptions(at::kByte)).expand({1, channels, 1, byte_values});
  if (device.is_cpu()) numbers_ = of(all_values, at::MemoryFormat::Contiguous);
}

at::Tensor Normalisation::of(const at::Tensor& images, at::MemoryFormat format) const {
  return images.to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, format).mul_(scale_).add_(shift_);
}

/// Looked up: what a pixel becomes is one of 256 numbers for each channel, worked out by the same operations.
at::Tensor Normalisation::looked_up(const at::Tensor& images, at::MemoryFormat format) const {
  const at::Tensor result = at::empty(images.sizes(), images.options().dtype(at::kFloat), format);
  const int64_t channels = images.size(1), pixels = images.size(2) * images.size(3);
  const int64_t to_channel = format == at::MemoryFormat::ChannelsLast ? 1 : pixels,
                to_pixel = to_channel == 1 ? channels : 1;
  const auto* from = images.const_data_ptr<uint8_t>();
  const auto* numbers = numbers_.const_data_ptr<float>();
  auto* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, images.size(0), images_at_once, [&](int64_t first, int64_t last) {
    for (int64_t plane = first * channels; plane < last * channels; ++plane) {
      const int64_t channel = plane % channels;
      const uint8_t* pixel = from + plane * pixels;
      const float* number = numbers + channel * byte_values;
      float* out = to + plane / channels * channels * pixels + channel * to_channel;
      for (int64_t k = 0; k < pixels; ++k) out[k * to_pixel] = number[pixel[k]];
    }
  });
  return result;
}

at::Tensor normalised(const at::Tensor& images, const Normalisation& by, at::MemoryFormat format) {
  const bool is_in_table = by.numbers_.defined() && by.numbers_.size(1) == images.size(1);
  return is_in_table && is_of_bytes_in_a_row(images) ? by.looked_up(images, format) : by.of(images, format);
}

at::Tensor drawn_crops(int64_t count, int64_t padding, uint64_t seed, int64_t epoch, int64_t step) {
  const at::Generator generator = generator_of(seed, epoch, step, RandomStream::CropsAndOrder);
  at::Tensor crops = at::empty({3, count}, at::kLong);
  crops.narrow(0, 0, 2).random_(0, 2 * padding + 1, generator);
  crops[2].random_(0, 2, generator);
  return crops;
}

at::Tensor cropped_and_flipped(const at::Tensor& images, int64_t padding, const at::Tensor& crops) {
  return is_of_bytes_in_a_row(images) ? moved_rows(images, padding, crops) : gathered(images, padding, crops);
}

}  // namespace mma::examples
