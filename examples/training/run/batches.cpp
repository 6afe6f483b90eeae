#include "training/run/batches.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "training/data/autoaugment.hpp"
#include "training/settings/schedule.hpp"

namespace mma::examples {
namespace {

/// The colour that is 0 once it is normalised, as nearly as bytes allow.
std::vector<int64_t> mean_colour(const Dataset& dataset) {
  std::vector<int64_t> colour;
  for (double channel : dataset.mean) colour.push_back(std::clamp<int64_t>(std::llround(255 * channel), 0, 255));
  return colour;
}

}  // namespace

Piece piece_of(int64_t images, int64_t rank, int64_t processes) {
  if (processes == 1) return {0, images};
  const int64_t sharing = std::clamp<int64_t>(images / 2, 1, processes);
  const auto begin_of = [&](int64_t part) { return images * std::min(part, sharing) / sharing; };
  return {begin_of(rank), begin_of(rank + 1) - begin_of(rank)};
}

Batches::Batches(const Dataset& dataset, const Settings& settings, int64_t rank, int64_t processes)
    : split_(dataset.train),
      normalisation_(dataset.mean, dataset.deviation, dataset.train.images.device()),
      mean_colour_(mean_colour(dataset)),
      batch_(settings.batch),
      padding_(settings.padding),
      cutout_(settings.cutout),
      rank_(rank),
      processes_(processes),
      seed_(settings.seed),
      autoaugment_(settings.autoaugment),
      channels_last_(settings.channels_last) {}

int64_t Batches::steps_per_epoch() const { return steps_in_epoch(split_.labels.size(0), batch_); }

int64_t Batches::images_in_step(int64_t step) const {
  const int64_t left = split_.labels.size(0) - step * batch_;
  return step + 1 == steps_per_epoch() ? left : batch_;
}

at::Tensor Batches::drawn(int64_t epoch, int64_t step) {
  if (epoch != drawn_epoch_) {
    const int64_t count = split_.labels.size(0);
    at::Tensor numbers = at::empty({4, count}, at::kLong);
    numbers[0].copy_(epoch_order(count, seed_, epoch));
    for (int64_t k = 0; k < steps_per_epoch(); ++k) {
      numbers.narrow(0, 1, 3)
          .narrow(1, k * batch_, images_in_step(k))
          .copy_(drawn_crops(images_in_step(k), padding_, seed_, epoch, k));
    }
    epoch_ = numbers.to(split_.labels.device());
    drawn_epoch_ = epoch;
  }
  return epoch_.narrow(1, step * batch_, images_in_step(step));
}

Batch Batches::batch(const at::Tensor& drawn, int64_t epoch, int64_t step) const {
  const Piece piece = piece_of(drawn.size(1), rank_, processes_);
  return {normalised(augmented(drawn, piece, epoch, step), normalisation_,
                     channels_last_ ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous),
          split_.labels.index_select(0, drawn[0].narrow(0, piece.first, piece.count))};
}

/// In the order of the AutoAugment paper: crop and mirror, the policy, Cutout. What is drawn is drawn for the whole
/// batch, and each process takes what is its piece's.
at::Tensor Batches::augmented(const at::Tensor& drawn, const Piece& piece, int64_t epoch, int64_t step) const {
  const at::Tensor mine = drawn.narrow(1, piece.first, piece.count);
  at::Tensor result = cropped_and_flipped(split_.images.index_select(0, mine[0]), padding_, mine.narrow(0, 1, 3));
  const int64_t whole = drawn.size(1);
  if (autoaugment_) result = auto_augmented(result, mean_colour_, seed_, epoch, step, piece.first, whole);
  if (cutout_ > 0) {
    const at::Tensor centres = drawn_centres(whole, result.size(2), result.size(3), seed_, epoch, step);
    result = cut_out(result, cutout_, centres.narrow(1, piece.first, piece.count), mean_colour_);
  }
  return result;
}

}  // namespace mma::examples
