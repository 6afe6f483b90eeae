// Images become features as the formula says, whatever the batches; features go into files and come back.
#include "faces/embedding.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "../support/test_files.hpp"
#include "faces/embedding_progress.hpp"
#include "faces/features_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

constexpr int64_t height = 3, width = 4, dimension = 5;

/// Pixel of image i: without pattern, and not the same when mirrored.
int64_t pixel(int64_t image, int64_t y, int64_t x) { return (97 * image + 31 * y + 53 * x * x + 7 * x) % 256; }

at::Tensor picture(int64_t image) {
  at::Tensor pixels = at::zeros({1, height, width}, at::kByte);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) pixels[0][y][x].fill_(pixel(image, y, x));
  }
  return pixels;
}

double filter(int64_t k, int64_t y, int64_t x) { return static_cast<double>((5 * k + 3 * y + 2 * x * x + x) % 11) - 5; }

/// Something that is not linear, so that the sum of two features is no feature of a sum of images.
at::Tensor network(const at::Tensor& images) {
  at::Tensor filters = at::zeros({height * width, dimension}, at::kFloat);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t k = 0; k < dimension; ++k) filters[y * width + x][k].fill_(filter(k, y, x));
    }
  }
  return images.flatten(1).matmul(filters).pow(2);
}

double feature(int64_t image, int64_t k, bool mirrored) {
  double sum = 0;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const auto value = static_cast<double>(pixel(image, y, mirrored ? width - 1 - x : x));
      sum += filter(k, y, x) * (value / 255 - 0.5) / 0.5;
    }
  }
  return sum * sum;
}

at::Tensor embedded(const std::vector<int64_t>& images, const EmbeddingOptions& options) {
  return embed(network, picture, images, options, [](int64_t) {});
}

TEST(FacesEmbedding, TheFormulaWithAndWithoutTheMirroredImage) {
  for (const bool flip : {true, false}) {
    const at::Tensor features = embedded({0, 1, 2}, {.flip = flip});
    ASSERT_EQ(features.sizes(), (std::vector<int64_t>{3, dimension}));
    EXPECT_EQ(features.scalar_type(), at::kFloat);
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t k = 0; k < dimension; ++k) {
        const double expected = feature(i, k, false) + (flip ? feature(i, k, true) : 0);
        EXPECT_NEAR(features[i][k].item<double>(), expected, 1e-4 * (1 + expected)) << flip << i << k;
      }
    }
  }
}

TEST(FacesEmbedding, BatchesAndOrder) {
  std::vector<int64_t> done;
  const auto features =
      embed(network, picture, {4, 0, 9, 1, 2}, {.batch = 2}, [&](int64_t count) { done.push_back(count); });
  EXPECT_EQ(done, (std::vector<int64_t>{2, 4, 5}));
  EXPECT_TRUE(at::allclose(features, embedded({4, 0, 9, 1, 2}, {}), 1e-5));  // a product may sum in another order
  EXPECT_TRUE(at::allclose(features[2], embedded({9}, {})[0], 1e-5));
}

TEST(FacesEmbedding, ProgressLine) {
  EXPECT_EQ(embedding_line("lfw", 3000, 6000, 30, 100),
            "lfw [############............]  50 %  100 images/s  30 s left");
  EXPECT_EQ(embedding_line("lfw", 0, 6000, 0, 100), "lfw [........................]   0 %");
  EXPECT_EQ(embedding_line("lfw", 3000, 6000, 30, 20).size(), 19u);
}

class FeaturesFileTest : public ::testing::Test {
 protected:
  std::string refusal() const {
    return message_of<UserError>([&] { read_features(path_); });
  }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "features.safetensors";
  const at::Tensor rows_ = at::arange(12).to(at::kFloat).reshape({4, 3});
  const std::vector<ImagePair> pairs_ = {{0, 1, true}, {2, 0, false}};
};

TEST_F(FeaturesFileTest, NamedRowsInAnyOrder) {
  write_features(path_, {rows_, {"c", "a", "b", "unused"}});
  const StoredFeatures features = read_features(path_);
  EXPECT_TRUE(at::equal(features.rows, rows_));
  const auto pairs = rows_of_pairs(pairs_, {"a", "b", "c"}, features, "file");
  EXPECT_EQ(pairs[0].first, 1);
  EXPECT_EQ(pairs[0].second, 2);
  EXPECT_EQ(pairs[1].first, 0);
  EXPECT_EQ(pairs[1].second, 1);
  EXPECT_TRUE(pairs[0].same && !pairs[1].same);
}

TEST_F(FeaturesFileTest, TwoRowsAPair) {
  write_features(path_, {rows_, {}});
  const auto pairs = rows_of_pairs(pairs_, {"a", "b", "c"}, read_features(path_), "file");
  EXPECT_EQ(pairs[1].first, 2);
  EXPECT_EQ(pairs[1].second, 3);
}

TEST_F(FeaturesFileTest, Refusals) {
  const auto refused = [&](const StoredFeatures& features, const std::vector<std::string>& names) {
    return message_of<UserError>([&] { rows_of_pairs(pairs_, names, features, "file"); });
  };
  EXPECT_EQ(refused({rows_, {"a", "b", "d", "e"}}, {"a", "b", "c"}), "file: has no feature of the image c");
  EXPECT_EQ(refused({rows_, {"a", "b", "c", "b"}}, {"a", "b", "c"}), "file: names the image b twice");
  EXPECT_EQ(refused({rows_, {"a", "b", "c", "d"}}, {}),
            "file: names its images, which a .bin file does not; expected two rows a pair");
  EXPECT_EQ(refused({rows_.slice(0, 0, 3), {}}, {"a", "b", "c"}),
            "file: has 3 features; expected two for each of 2 pairs, or names of the images in the metadata 'images'");

  const std::string no_features = path_ + ": has no tensor 'features' of floating type and shape [images, dimension]";
  write_tensor_file(path_, {{{"weights", rows_}}, {}});
  EXPECT_EQ(refusal(), no_features);
  write_tensor_file(path_, {{{"features", rows_.to(at::kLong)}}, {}});
  EXPECT_EQ(refusal(), no_features);
  write_tensor_file(path_, {{{"features", rows_.flatten()}}, {}});
  EXPECT_EQ(refusal(), no_features);
  write_tensor_file(path_, {{{"features", rows_}}, {{"images", "a\nb\n"}}});
  EXPECT_EQ(refusal(), path_ + ": has 4 features, but names 2 images in its metadata");
}

}  // namespace
}  // namespace mma::examples
