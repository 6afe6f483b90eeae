// Batches for training and evaluation, made on the data's device: order and augmentation are functions of
// (seed, epoch, step) alone, so that a run resumed in the middle of an epoch sees what the uninterrupted one saw.
#pragma once

#include <ATen/core/Generator.h>

#include "training/data/dataset.hpp"

namespace mma::examples {

/// Random numbers that do not touch each other.
enum class RandomStream : uint64_t { CropsAndOrder, AutoAugment, Cutout };

/// A CPU generator for one step, from these numbers alone.
at::Generator generator_of(uint64_t seed, int64_t epoch, int64_t step, RandomStream stream);

/// The order of an epoch: a permutation of 0..count-1, int64 on the CPU, from (seed, epoch) alone.
at::Tensor epoch_order(int64_t count, uint64_t seed, int64_t epoch);

/// (pixel / 255 - mean) / deviation, as pixel * scale + shift of each channel.
class Normalisation {
 public:
  /// On the device, so that nothing is copied there at a step.
  Normalisation(const std::vector<double>& mean, const std::vector<double>& deviation, const at::Device& device);

 private:
  friend at::Tensor normalised(const at::Tensor& images, const Normalisation& by, at::MemoryFormat format);
  at::Tensor of(const at::Tensor& images, at::MemoryFormat format) const;
  at::Tensor looked_up(const at::Tensor& images, at::MemoryFormat format) const;

  at::Tensor scale_, shift_;  ///< to broadcast over [B, C, H, W]
  at::Tensor numbers_;        ///< on a CPU, of each channel and value of a byte: [1, C, 1, 256]
};

/// float32 [B, C, H, W] of uint8, on their device.
at::Tensor normalised(const at::Tensor& images, const Normalisation& by, at::MemoryFormat format);

/// Where a batch is cropped and which images are mirrored: int64 [3, B], the rows are the top edge and the left edge in
/// the padded image, both 0..2 * padding, and 1 for a mirrored image. On the CPU, from (seed, epoch, step) alone.
at::Tensor drawn_crops(int64_t count, int64_t padding, uint64_t seed, int64_t epoch, int64_t step);

/// Pads each image with `padding` black pixels, cuts it back to its size at its crop, then mirrors it left to right if
/// so drawn. Same shape and dtype, on the images' device.
at::Tensor cropped_and_flipped(const at::Tensor& images, int64_t padding, const at::Tensor& crops);

}  // namespace mma::examples
