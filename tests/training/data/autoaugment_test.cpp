// AutoAugment's operations against Pillow's own results, on drawn pictures (pillow_edits.bin.gz, made by
// pillow_edits.py) and where the machine has them on CIFAR-100; the policy and what is drawn from it; Cutout.
#include "training/data/autoaugment.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <zlib.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>

#include "../../temporary_folder.hpp"

namespace mma::examples {
namespace {

const std::map<std::string, Operation> by_name = {
    {"ShearX", Operation::ShearX},         {"ShearY", Operation::ShearY},
    {"TranslateX", Operation::TranslateX}, {"TranslateY", Operation::TranslateY},
    {"Rotate", Operation::Rotate},         {"AutoContrast", Operation::AutoContrast},
    {"Invert", Operation::Invert},         {"Equalize", Operation::Equalize},
    {"Solarize", Operation::Solarize},     {"Posterize", Operation::Posterize},
    {"Contrast", Operation::Contrast},     {"Color", Operation::Color},
    {"Brightness", Operation::Brightness}, {"Sharpness", Operation::Sharpness}};

const std::vector<int64_t> fill_colour = {129, 124, 112};

bool is_geometric(Operation operation) { return operation <= Operation::Rotate; }

/// pillow_edits.py describes it.
class PillowFile {
 public:
  explicit PillowFile(const std::string& path) {
    const gzFile file = gzopen(path.c_str(), "rb");
    EXPECT_NE(file, nullptr) << path;
    std::string bytes(1 << 16, '\0');
    for (int got = 1; file && got > 0;) {
      got = gzread(file, bytes.data(), static_cast<unsigned>(bytes.size()));
      content_.append(bytes, 0, static_cast<size_t>(std::max(got, 0)));
    }
    gzclose(file);
    std::istringstream header(line());
    shape_.resize(4);
    for (int64_t& extent : shape_) header >> extent;
  }

  bool at_end() const { return place_ >= content_.size(); }

  std::string line() {
    const size_t end = content_.find('\n', place_);
    const std::string text = content_.substr(place_, end - place_);
    place_ = end + 1;
    return text;
  }

  at::Tensor images() {
    const at::Tensor view = at::from_blob(content_.data() + place_, shape_, at::TensorOptions(at::kByte));
    place_ += static_cast<size_t>(view.numel());
    EXPECT_LE(place_, content_.size());
    return view.clone();
  }

 private:
  std::string content_;
  size_t place_ = 0;
  std::vector<int64_t> shape_;
};

void expect_pillows_pixels(const std::string& path) {
  PillowFile file(path);
  const at::Tensor images = file.images();
  std::map<Operation, int> seen;
  while (!file.at_end()) {
    std::istringstream words(file.line());
    std::string name;
    double value = 0;
    words >> name >> value;
    const Operation operation = by_name.at(name);
    ++seen[operation];
    const at::Tensor expected = file.images();
    const Edits edits(static_cast<size_t>(images.size(0)), Edit{operation, value});
    const at::Tensor result = edited(images, edits, fill_colour);
    ASSERT_EQ(result.scalar_type(), at::kByte);
    const at::Tensor difference = (result.to(at::kInt) - expected.to(at::kInt)).abs();
    if (is_geometric(operation)) {
      EXPECT_GE((difference == 0).to(at::kDouble).mean().item<double>(), 0.99) << name << " " << value;
    } else {
      EXPECT_LE(difference.max().item<int>(), 1) << name << " " << value;
      EXPECT_GE((difference == 0).to(at::kDouble).mean().item<double>(), 0.99) << name << " " << value;
    }
  }
  EXPECT_EQ(seen.size(), by_name.size());
}

TEST(AutoAugment, GivesPillowsPixels) { expect_pillows_pixels(MMA_PILLOW_EDITS); }

TEST(AutoAugment, GivesPillowsPixelsOnCifar100) {
  const char* folder = std::getenv("MMA_CIFAR100");
  if (folder == nullptr) GTEST_SKIP() << "the environment variable MMA_CIFAR100 names no folder with train.bin";
  if (std::system("python3 -c 'import PIL' 2> /dev/null") != 0) GTEST_SKIP() << "there is no python3 with Pillow";
  const tests::TemporaryFolder place;
  const std::string out = (place / "edits.gz").string();
  const std::string command = "python3 " MMA_PILLOW_SCRIPT " cifar100 '" + out + "' '" + folder + "/train.bin'";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  expect_pillows_pixels(out);
}

TEST(AutoAugment, LeavesGreyImagesWithoutColourToChange) {
  const at::Tensor images = at::randint(0, 256, {4, 1, 28, 28}, at::kByte);
  EXPECT_TRUE(at::equal(edited(images, Edits(4, Edit{Operation::Color, 1.9}), {100}), images));
  for (const auto& [name, operation] : by_name) {
    const at::Tensor result = edited(images, Edits(4, edit_of(operation, 7, true, 28)), {100});
    EXPECT_EQ(result.sizes(), images.sizes()) << name;
  }
}

TEST(AutoAugment, EditsEachImageByItsOwnEdit) {
  const at::Tensor images = at::randint(0, 256, {5, 3, 32, 32}, at::kByte);
  Edits edits(5);
  edits[0] = Edit{Operation::Invert};
  edits[2] = Edit{Operation::TranslateX, 3};
  edits[3] = Edit{Operation::TranslateX, -5};
  edits[4] = Edit{Operation::Invert};
  const at::Tensor result = edited(images, edits, fill_colour);
  EXPECT_TRUE(at::equal(result[0], 255 - images[0]));
  EXPECT_TRUE(at::equal(result[1], images[1]));
  EXPECT_TRUE(at::equal(result[2].narrow(2, 0, 29), images[2].narrow(2, 3, 29)));
  EXPECT_TRUE((result[2][1].narrow(1, 29, 3) == fill_colour[1]).all().item<bool>());
  EXPECT_TRUE(at::equal(result[3].narrow(2, 5, 27), images[3].narrow(2, 0, 27)));
  EXPECT_TRUE(at::equal(result[4], 255 - images[4]));
}

/// The ranges of the AutoAugment paper's Table 6, in ten steps.
TEST(AutoAugment, MagnitudesSpanThePapersRanges) {
  const auto value = [](Operation operation, int magnitude, bool negative = false) {
    return edit_of(operation, magnitude, negative, 331).value;
  };
  for (const Operation shear : {Operation::ShearX, Operation::ShearY}) {
    EXPECT_EQ(value(shear, 0), 0);
    EXPECT_NEAR(value(shear, 3), 0.1, 1e-12);
    EXPECT_NEAR(value(shear, 9, true), -0.3, 1e-12);
  }
  for (const Operation translate : {Operation::TranslateX, Operation::TranslateY}) {
    EXPECT_EQ(value(translate, 9), 150);
    EXPECT_EQ(value(translate, 3, true), -50);
    EXPECT_EQ(edit_of(translate, 9, false, 32).value, 14);
  }
  EXPECT_NEAR(value(Operation::Rotate, 9), 30, 1e-12);
  EXPECT_NEAR(value(Operation::Rotate, 3, true), -10, 1e-12);
  EXPECT_EQ(value(Operation::Solarize, 0), 256);
  EXPECT_EQ(value(Operation::Solarize, 9), 0);
  EXPECT_EQ(value(Operation::Posterize, 0), 8);
  EXPECT_EQ(value(Operation::Posterize, 7), 5);
  EXPECT_EQ(value(Operation::Posterize, 9), 4);
  for (const Operation enhance : {Operation::Contrast, Operation::Color, Operation::Brightness, Operation::Sharpness}) {
    EXPECT_NEAR(value(enhance, 9), 1.9, 1e-12);
    EXPECT_NEAR(value(enhance, 9, true), 0.1, 1e-12);
    EXPECT_EQ(value(enhance, 0), 1);
  }
}

/// The paper's Table 7 as it stands there: operation, probability in tenths, magnitude.
TEST(AutoAugment, HasThePapersPolicyForCifar) {
  const char* table =
      "Invert 1 7 Contrast 2 6|Rotate 7 2 TranslateX 3 9|Sharpness 8 1 Sharpness 9 3|ShearY 5 8 TranslateY 7 9|"
      "AutoContrast 5 8 Equalize 9 2|ShearY 2 7 Posterize 3 7|Color 4 3 Brightness 6 7|Sharpness 3 9 Brightness 7 9|"
      "Equalize 6 5 Equalize 5 1|Contrast 6 7 Sharpness 6 5|Color 7 7 TranslateX 5 8|Equalize 3 7 AutoContrast 4 8|"
      "TranslateY 4 3 Sharpness 2 6|Brightness 9 6 Color 2 8|Solarize 5 2 Invert 0 3|Equalize 2 0 AutoContrast 6 0|"
      "Equalize 2 8 Equalize 6 4|Color 9 9 Equalize 6 6|AutoContrast 8 4 Solarize 2 8|Brightness 1 3 Color 7 0|"
      "Solarize 4 5 AutoContrast 9 3|TranslateY 9 9 TranslateY 7 9|AutoContrast 9 2 Solarize 8 3|"
      "Equalize 8 8 Invert 1 3|TranslateY 7 9 AutoContrast 9 1";
  std::istringstream lines(table);
  for (const SubPolicy& policy : cifar_policy()) {
    std::string line, name;
    ASSERT_TRUE(std::getline(lines, line, '|'));
    std::istringstream words(line);
    for (const PolicyStep& step : policy) {
      int tenths = 0, magnitude = 0;
      words >> name >> tenths >> magnitude;
      EXPECT_EQ(step.operation, by_name.at(name)) << line;
      EXPECT_EQ(step.probability, tenths / 10.0) << line;
      EXPECT_EQ(step.magnitude, magnitude) << line;
    }
  }
}

/// How often each operation comes with which value: by the table's probabilities, half of each sign.
TEST(AutoAugment, DrawsByTheProbabilities) {
  const int64_t count = 100'000;
  std::map<std::pair<Operation, int64_t>, double> expected, drawn;
  const auto key = [](const Edit& edit) { return std::pair{edit.operation, std::llround(1e6 * edit.value)}; };
  for (const SubPolicy& policy : cifar_policy()) {
    for (const PolicyStep& step : policy) {
      for (const bool negative : {false, true}) {
        expected[key(edit_of(step.operation, step.magnitude, negative, 32))] += step.probability / 50;
      }
    }
  }
  for (const Edits& edits : drawn_edits(count, 32, 1, 2, 3)) {
    ASSERT_EQ(std::ssize(edits), count);
    for (const std::optional<Edit>& edit : edits) {
      if (edit) drawn[key(*edit)] += 1.0 / static_cast<double>(count);
    }
  }
  for (const auto& [what, share] : drawn) EXPECT_TRUE(expected.contains(what));
  for (const auto& [what, share] : expected) {
    // Draws of both steps of an image go together: at most twice the variance.
    EXPECT_NEAR(drawn[what], share, 5 * std::sqrt(2 * share / static_cast<double>(count)) + 1e-12);
  }
}

TEST(AutoAugment, IsAFunctionOfSeedEpochAndStep) {
  const at::Tensor images = at::randint(0, 256, {64, 3, 32, 32}, at::kByte);
  const at::Tensor once = auto_augmented(images, fill_colour, 1, 2, 3);
  EXPECT_TRUE(at::equal(auto_augmented(images, fill_colour, 1, 2, 3), once));
  EXPECT_FALSE(at::equal(auto_augmented(images, fill_colour, 2, 2, 3), once));
  EXPECT_FALSE(at::equal(auto_augmented(images, fill_colour, 1, 3, 3), once));
  EXPECT_FALSE(at::equal(auto_augmented(images, fill_colour, 1, 2, 4), once));
}

TEST(AutoAugment, IsTheSameOnAGpu) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU";
  const at::Tensor images = at::randint(0, 256, {512, 3, 32, 32}, at::kByte), there = images.to(at::kCUDA);
  for (const int64_t step : {0, 1, 2, 3}) {
    const at::Tensor difference = (auto_augmented(there, fill_colour, 1, 2, step).cpu().to(at::kInt) -
                                   auto_augmented(images, fill_colour, 1, 2, step).to(at::kInt))
                                      .abs();
    EXPECT_LE((difference > 0).to(at::kDouble).mean().item<double>(), 1e-3);
    const at::Tensor centres = drawn_centres(512, 32, 32, 1, 2, step);
    EXPECT_TRUE(at::equal(cut_out(there, 8, centres, fill_colour).cpu(), cut_out(images, 8, centres, fill_colour)));
  }
}

TEST(Cutout, PaintsASquareAsFarAsItIsInTheImage) {
  const at::Tensor images = at::randint(0, 100, {60, 3, 9, 11}, at::kByte);
  for (const int64_t side : {1, 4, 5}) {
    const at::Tensor centres = drawn_centres(60, 9, 11, 1, 2, side);
    const at::Tensor result = cut_out(images, side, centres, {200, 201, 202});
    const auto from = images.accessor<uint8_t, 4>(), to = result.accessor<uint8_t, 4>();
    const auto centre = centres.accessor<int64_t, 2>();
    for (int64_t b = 0; b < 60; ++b) {
      for (int64_t c = 0; c < 3; ++c) {
        for (int64_t y = 0; y < 9; ++y) {
          for (int64_t x = 0; x < 11; ++x) {
            const int64_t top = centre[0][b] - side / 2, left = centre[1][b] - side / 2;
            const bool inside = y >= top && y < top + side && x >= left && x < left + side;
            ASSERT_EQ(to[b][c][y][x], inside ? 200 + c : from[b][c][y][x]) << side << " " << b;
          }
        }
      }
    }
  }
}

TEST(Cutout, DrawsEveryPlaceAlike) {
  const int64_t count = 80'000;
  const at::Tensor centres = drawn_centres(count, 8, 10, 1, 2, 3);
  const at::Tensor places = (centres[0] * 10 + centres[1]).bincount({}, 80);
  ASSERT_EQ(places.numel(), 80);
  EXPECT_LE((places - 1000).abs().max().item<int64_t>(), 160);  // five standard deviations
  EXPECT_TRUE(at::equal(centres, drawn_centres(count, 8, 10, 1, 2, 3)));
  EXPECT_FALSE(at::equal(centres, drawn_centres(count, 8, 10, 1, 2, 4)));
}

}  // namespace
}  // namespace mma::examples
