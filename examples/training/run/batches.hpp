// The batches of a training split, made on its device: which images, how they are cropped and mirrored is drawn for a
// whole epoch at once and brought there in one copy, so that a step waits for nothing and fits into a CUDA graph.
#pragma once

#include <cstdint>

#include "training/data/augmentation.hpp"
#include "training/data/dataset.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

/// What a network is trained on: float32 [B, C, H, W] in the settings' memory format, int64 [B].
struct Batch {
  at::Tensor images;
  at::Tensor labels;
};

/// A process's piece of each batch: images side by side in the batch's order.
struct Piece {
  int64_t first = 0, count = 0;
};

/// Of a batch of so many images, which as many processes share as get two each: the statistics of one are none. The
/// others get nothing.
Piece piece_of(int64_t images, int64_t rank, int64_t processes);

class Batches {
 public:
  /// Of the images that the data set's train split has, on their device. Of each batch this gives the piece of a
  /// process; which images a batch has does not depend on how many there are.
  Batches(const Dataset& dataset, const Settings& settings, int64_t rank = 0, int64_t processes = 1);

  int64_t steps_per_epoch() const;
  /// Of all processes together.
  int64_t images_in_step(int64_t step) const;

  /// What makes batch `step` of `epoch` (both from 0): int64 [4, B] on the device, the images' numbers above their
  /// crops (see drawn_crops). From (seed, epoch, step) alone.
  at::Tensor drawn(int64_t epoch, int64_t step);

  /// The piece of the batch that was drawn for (epoch, step). Where are_of_the_device_alone() nothing but `drawn`
  /// decides, and nothing waits for the CPU.
  Batch batch(const at::Tensor& drawn, int64_t epoch, int64_t step) const;

  /// False with AutoAugment and Cutout, whose draws are of the CPU at each step.
  bool are_of_the_device_alone() const { return !autoaugment_ && cutout_ == 0; }

 private:
  at::Tensor augmented(const at::Tensor& drawn, const Piece& piece, int64_t epoch, int64_t step) const;

  LabelledImages split_;
  Normalisation normalisation_;
  std::vector<int64_t> mean_colour_;
  int64_t batch_, padding_, cutout_, rank_, processes_;
  uint64_t seed_;
  bool autoaugment_, channels_last_;
  at::Tensor epoch_;  ///< int64 [4, N]: the order above the crops
  int64_t drawn_epoch_ = -1;
};

}  // namespace mma::examples
