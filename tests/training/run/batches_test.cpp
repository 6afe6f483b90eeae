// Batches against what their draws say, image by image; drawn for an epoch at once they are those of each step.
#include "training/run/batches.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <set>

#include "tiny_training.hpp"
#include "training/run/training.hpp"

namespace mma::examples {
namespace {

using tests::tiny_dataset;
using tests::tiny_settings;

TEST(Batches, AreTheImagesThatWereDrawn) {
  const Settings settings = tiny_settings();
  const Dataset dataset = prepared(tiny_dataset(), settings);
  Batches batches(dataset, settings);
  const Normalisation normalisation(dataset.mean, dataset.deviation, at::kCPU);
  for (const int64_t epoch : {0, 3}) {
    std::set<int64_t> seen;
    for (int64_t step = 0; step < batches.steps_per_epoch(); ++step) {
      const at::Tensor drawn = batches.drawn(epoch, step);
      ASSERT_EQ(drawn.sizes(), (std::vector<int64_t>{4, batches.images_in_step(step)}));
      const Batch batch = batches.batch(drawn, epoch, step);
      for (int64_t k = 0; k < drawn.size(1); ++k) {
        const int64_t image = drawn[0][k].item<int64_t>();
        seen.insert(image);
        EXPECT_EQ(batch.labels[k].item<int64_t>(), dataset.train.labels[image].item<int64_t>());
        const at::Tensor alone = cropped_and_flipped(dataset.train.images.narrow(0, image, 1), settings.padding,
                                                     drawn.narrow(0, 1, 3).narrow(1, k, 1));
        EXPECT_TRUE(at::equal(batch.images[k], normalised(alone, normalisation, at::MemoryFormat::Contiguous)[0]));
      }
    }
    EXPECT_EQ(std::ssize(seen), dataset.train.labels.size(0)) << "each image once an epoch";
  }
}

/// Joined in the order of their ranks the pieces are the whole batch, whatever is drawn for its images.
TEST(Batches, ArePiecesOfTheSameInSeveralProcesses) {
  Settings settings = tiny_settings();
  settings.autoaugment = true;
  settings.cutout = 4;
  const Dataset dataset = prepared(tiny_dataset(), settings);
  Batches whole(dataset, settings);
  for (const int64_t processes : {2, 3, 4}) {
    std::vector<Batches> pieces;
    for (int64_t rank = 0; rank < processes; ++rank) pieces.emplace_back(dataset, settings, rank, processes);
    for (int64_t step = 0; step < whole.steps_per_epoch(); ++step) {
      const Batch expected = whole.batch(whole.drawn(2, step), 2, step);
      std::vector<at::Tensor> images, labels;
      for (Batches& piece : pieces) {
        EXPECT_EQ(piece.images_in_step(step), whole.images_in_step(step));
        const Batch batch = piece.batch(piece.drawn(2, step), 2, step);
        images.push_back(batch.images);
        labels.push_back(batch.labels);
      }
      EXPECT_TRUE(at::equal(at::cat(images), expected.images));
      EXPECT_TRUE(at::equal(at::cat(labels), expected.labels));
    }
  }
}

/// Two images at least: the statistics of one are none.
TEST(Batches, ArePiecesOfTwoImagesAtLeast) {
  const auto counts_of = [](int64_t images, int64_t processes) {
    std::vector<int64_t> counts;
    int64_t next = 0;
    for (int64_t rank = 0; rank < processes; ++rank) {
      const Piece piece = piece_of(images, rank, processes);
      EXPECT_EQ(piece.first, next);
      next += piece.count;
      counts.push_back(piece.count);
    }
    EXPECT_EQ(next, images);
    return counts;
  };
  using Counts = std::vector<int64_t>;
  EXPECT_EQ(counts_of(8, 1), (Counts{8}));
  EXPECT_EQ(counts_of(1, 1), (Counts{1}));
  EXPECT_EQ(counts_of(10, 4), (Counts{2, 3, 2, 3}));
  EXPECT_EQ(counts_of(8, 4), (Counts{2, 2, 2, 2}));
  EXPECT_EQ(counts_of(7, 4), (Counts{2, 2, 3, 0}));
  EXPECT_EQ(counts_of(4, 4), (Counts{2, 2, 0, 0}));
  EXPECT_EQ(counts_of(1, 2), (Counts{1, 0}));
}

/// Whoever comes from an older version, or from the middle of an epoch, sees the same batches.
TEST(Batches, AreDrawnStepByStep) {
  Settings settings = tiny_settings();
  const Dataset dataset = prepared(tiny_dataset(), settings);
  Batches batches(dataset, settings);
  const at::Tensor order = epoch_order(dataset.train.labels.size(0), settings.seed, 5);
  for (int64_t step = batches.steps_per_epoch() - 1; step >= 0; --step) {
    const at::Tensor drawn = batches.drawn(5, step);
    const int64_t count = batches.images_in_step(step);
    EXPECT_TRUE(at::equal(drawn[0], order.narrow(0, step * settings.batch, count)));
    EXPECT_TRUE(at::equal(drawn.narrow(0, 1, 3), drawn_crops(count, settings.padding, settings.seed, 5, step)));
  }
}

TEST(Batches, AreOfTheDeviceAloneButForAutoAugmentAndCutout) {
  Settings settings = tiny_settings();
  const Dataset dataset = prepared(tiny_dataset(), settings);
  EXPECT_TRUE(Batches(dataset, settings).are_of_the_device_alone());
  settings.cutout = 4;
  EXPECT_FALSE(Batches(dataset, settings).are_of_the_device_alone());
  settings.cutout = 0;
  settings.autoaugment = true;
  EXPECT_FALSE(Batches(dataset, settings).are_of_the_device_alone());
}

}  // namespace
}  // namespace mma::examples
