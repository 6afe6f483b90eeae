// Augmentation against a plain loop over pixels, and the distribution of what is drawn.
#include "training/data/augmentation.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace mma::examples {
namespace {

/// What cropped_and_flipped says it does, pixel by pixel: outside of the image it is black.
at::Tensor plainly_cropped_and_flipped(const at::Tensor& images, int64_t padding, const at::Tensor& crops) {
  at::Tensor result = at::zeros_like(images);
  const auto from = images.accessor<uint8_t, 4>();
  const auto crop = crops.accessor<int64_t, 2>();
  auto to = result.accessor<uint8_t, 4>();
  const int64_t height = images.size(2), width = images.size(3);
  for (int64_t b = 0; b < images.size(0); ++b) {
    for (int64_t c = 0; c < images.size(1); ++c) {
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) {
          const int64_t source_y = y + crop[0][b] - padding;
          const int64_t source_x = (crop[2][b] ? width - 1 - x : x) + crop[1][b] - padding;
          if (source_y >= 0 && source_y < height && source_x >= 0 && source_x < width) {
            to[b][c][y][x] = from[b][c][source_y][source_x];
          }
        }
      }
    }
  }
  return result;
}

at::Tensor random_images(at::IntArrayRef shape) { return at::randint(1, 256, shape, at::kByte); }

/// Every place and both directions, each once.
at::Tensor all_crops(int64_t padding) {
  const int64_t places = 2 * padding + 1;
  const at::Tensor index = at::arange(2 * places * places, at::kLong);
  at::Tensor crops = at::zeros({3, index.numel()}, at::kLong);
  crops[0].copy_(index.floor_divide(2 * places));
  crops[1].copy_(index.floor_divide(2).remainder(places));
  crops[2].copy_(index.remainder(2));
  return crops;
}

TEST(Augmentation, CropsAndFlipsAsAPlainLoopDoes) {
  for (const int64_t padding : {0, 1, 4}) {
    const at::Tensor crops = all_crops(padding);
    for (const auto& [channels, height, width] : {std::array<int64_t, 3>{3, 32, 32}, {1, 28, 28}, {2, 5, 7}}) {
      const at::Tensor images = random_images({crops.size(1), channels, height, width});
      const at::Tensor result = cropped_and_flipped(images, padding, crops);
      EXPECT_EQ(result.scalar_type(), at::kByte);
      EXPECT_TRUE(at::equal(result, plainly_cropped_and_flipped(images, padding, crops))) << padding << " " << width;
    }
  }
}

/// By LibTorch's operations, as on a GPU.
TEST(Augmentation, ReadsImagesThatAreNotContiguous) {
  for (const int64_t padding : {0, 1, 4}) {
    const at::Tensor crops = all_crops(padding);
    for (const auto& [channels, height, width] : {std::array<int64_t, 3>{3, 8, 8}, {2, 5, 7}}) {
      const at::Tensor images = random_images({crops.size(1), height, width, channels}).permute({0, 3, 1, 2});
      EXPECT_TRUE(
          at::equal(cropped_and_flipped(images, padding, crops), plainly_cropped_and_flipped(images, padding, crops)));
    }
  }
}

TEST(Augmentation, PadsByMoreThanTheImage) {
  const at::Tensor crops = all_crops(3), images = random_images({crops.size(1), 3, 2, 1});
  EXPECT_TRUE(at::equal(cropped_and_flipped(images, 3, crops), plainly_cropped_and_flipped(images, 3, crops)));
}

TEST(Augmentation, KeepsAnImageThatIsCutAtTheMiddle) {
  const at::Tensor images = random_images({1, 3, 32, 32});
  EXPECT_TRUE(at::equal(cropped_and_flipped(images, 4, at::tensor({4, 4, 0}, at::kLong).view({3, 1})), images));
}

TEST(Augmentation, DrawsAllPlacesEquallyOftenAndFlipsHalf) {
  constexpr int64_t count = 128, steps = 200, padding = 4, places = 81;
  std::array<int64_t, places> seen{};
  int64_t flipped = 0;
  for (int64_t step = 0; step < steps; ++step) {
    const at::Tensor crops = drawn_crops(count, padding, 1, 0, step);
    ASSERT_EQ(crops.sizes(), (std::vector<int64_t>{3, count}));
    const auto crop = crops.accessor<int64_t, 2>();
    for (int64_t b = 0; b < count; ++b) {
      for (const int64_t row : {0, 1}) {
        ASSERT_GE(crop[row][b], 0);
        ASSERT_LE(crop[row][b], 2 * padding);
      }
      ASSERT_TRUE(crop[2][b] == 0 || crop[2][b] == 1);
      ++seen[static_cast<size_t>(crop[0][b] * 9 + crop[1][b])];
      flipped += crop[2][b];
    }
  }
  // Pearson's statistic has 80 degrees of freedom: mean 80, deviation 12.6; beyond 150 in one case of 200,000.
  constexpr double draws = count * steps, expected = draws / places;
  double statistic = 0;
  for (const int64_t times : seen) {
    EXPECT_GT(times, 0);
    statistic += (static_cast<double>(times) - expected) * (static_cast<double>(times) - expected) / expected;
  }
  EXPECT_LT(statistic, 150);
  EXPECT_NEAR(static_cast<double>(flipped) / draws, 0.5, 4 * 0.5 / std::sqrt(draws));
}

TEST(Augmentation, CropsDependOnSeedEpochAndStepAlone) {
  const at::Tensor first = drawn_crops(16, 4, 7, 3, 11);
  drawn_crops(16, 4, 8, 3, 11);  // what was drawn in between plays no part
  EXPECT_TRUE(at::equal(drawn_crops(16, 4, 7, 3, 11), first));
  EXPECT_FALSE(at::equal(drawn_crops(16, 4, 7, 3, 12), first));
  EXPECT_FALSE(at::equal(drawn_crops(16, 4, 7, 4, 11), first));
  EXPECT_FALSE(at::equal(drawn_crops(16, 4, 8, 3, 11), first));
  EXPECT_FALSE(at::equal(drawn_crops(16, 4, 11, 3, 7), first));
}

TEST(Augmentation, OrderIsAPermutationFromSeedAndEpoch) {
  constexpr int64_t count = 1000;
  const at::Tensor order = epoch_order(count, 5, 2);
  const at::Tensor counted = at::arange(count, at::kLong);
  EXPECT_TRUE(at::equal(std::get<0>(order.sort()), counted));
  EXPECT_FALSE(at::equal(order, counted));
  EXPECT_TRUE(at::equal(epoch_order(count, 5, 2), order));
  EXPECT_FALSE(at::equal(epoch_order(count, 5, 3), order));
  EXPECT_FALSE(at::equal(epoch_order(count, 6, 2), order));
  EXPECT_EQ(epoch_order(0, 5, 2).numel(), 0);
}

TEST(Augmentation, OrdersOfSeveralSeedsAndEpochsAllDiffer) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (int64_t epoch = 0; epoch < 20; ++epoch) {
      const at::Tensor order = epoch_order(50, seed, epoch);
      orders.emplace(order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + 50);
    }
  }
  EXPECT_EQ(orders.size(), 400U);
}

TEST(Augmentation, NormalisesEachChannel) {
  const std::vector<double> mean = {.5, .25, .125}, deviation = {.25, .5, .2};
  const at::Tensor images = random_images({2, 3, 4, 5});
  const at::Tensor result =
      normalised(images, Normalisation(mean, deviation, images.device()), at::MemoryFormat::ChannelsLast);
  ASSERT_EQ(result.scalar_type(), at::kFloat);
  EXPECT_TRUE(result.is_contiguous(at::MemoryFormat::ChannelsLast));
  ASSERT_EQ(result.sizes(), images.sizes());
  const auto pixel = images.accessor<uint8_t, 4>();
  const auto value = result.accessor<float, 4>();
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t c = 0; c < 3; ++c) {
      for (int64_t y = 0; y < 4; ++y) {
        for (int64_t x = 0; x < 5; ++x) {
          const auto channel = static_cast<size_t>(c);
          EXPECT_NEAR(value[b][c][y][x], (pixel[b][c][y][x] / 255.0 - mean[channel]) / deviation[channel], 1e-6);
        }
      }
    }
  }
}

/// All 256 values in all channels; a checkpoint continues with the same bits wherever its images lie.
TEST(Augmentation, NormalisesToTheBitsOfTheOperations) {
  const std::vector<double> mean = {.5071, .4866, .4409}, deviation = {.2673, .2564, .2762};
  const at::Tensor images = at::arange(256, at::kByte).view({1, 1, 16, 16}).expand({11, 3, 16, 16}).contiguous();
  std::vector<float> scales, shifts;
  for (size_t c = 0; c < mean.size(); ++c) {
    scales.push_back(static_cast<float>(1 / (255 * deviation[c])));
    shifts.push_back(static_cast<float>(-mean[c] / deviation[c]));
  }
  const at::Tensor scale = at::tensor(scales).view({1, 3, 1, 1}), shift = at::tensor(shifts).view({1, 3, 1, 1});
  const Normalisation normalisation(mean, deviation, images.device());
  const at::Tensor expected = images.to(at::kFloat) * scale + shift;
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    EXPECT_TRUE(at::equal(normalised(images, normalisation, format), expected));
    EXPECT_TRUE(
        at::equal(normalised(images.contiguous(at::MemoryFormat::ChannelsLast), normalisation, format), expected));
    EXPECT_TRUE(normalised(images, normalisation, format).is_contiguous(format));
  }
  const Normalisation of_all_channels({.5}, {.25}, images.device());
  EXPECT_TRUE(at::allclose(normalised(images, of_all_channels, at::MemoryFormat::Contiguous),
                           (images.to(at::kFloat) / 255 - 0.5) / 0.25, 1e-5, 1e-6));
}

}  // namespace
}  // namespace mma::examples
