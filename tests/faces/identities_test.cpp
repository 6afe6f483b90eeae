// Identities from folders of small images that the test writes: labels, splits, every fault; and the real faces where
// the machine has them.
#include "faces/identities.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "../support/test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::message_of;
using mma::tests::TemporaryFolder;
using mma::tests::write_bytes;

/// A grey image of one brightness, by which a test knows it again.
void write_image(const fs::path& path, int brightness, int width = 8, int height = 8) {
  fs::create_directories(path.parent_path());
  std::string bytes = "P5 " + std::to_string(width) + " " + std::to_string(height) + " 255\n";
  bytes.append(static_cast<size_t>(width * height), static_cast<char>(brightness));
  write_bytes(path, bytes);
}

/// ann: 1 to 12, image i with the brightness i; bob: 101 to 103; cat: 111. What is no image lies between them.
fs::path write_small_set(const TemporaryFolder& folder) {
  const fs::path root = folder / "faces";
  for (int i = 1; i <= 12; ++i) write_image(root / "ann" / (std::to_string(i) + ".pgm"), i);
  write_image(root / "bob/b.PGM", 102);
  write_image(root / "bob/a.pgm", 101);
  write_image(root / "bob/c.jpeg", 103);  // the bytes say what it is
  write_image(root / "cat/one.pgm", 111);
  write_bytes(root / "README", "text");
  write_bytes(root / "bob/notes.txt", "text");
  write_bytes(root / "bob/.hidden.pgm", "text");
  fs::create_directories(root / "nobody");
  return root;
}

IdentityOptions grey(IdentityOptions options = {}) {
  options.image = {1, 8};
  return options;
}

std::vector<int64_t> brightness_of(const LabelledImages& split) {
  std::vector<int64_t> result;
  for (int64_t i = 0; i < split.images.size(0); ++i) {
    EXPECT_EQ(split.images[i].min().item<int64_t>(), split.images[i].max().item<int64_t>());
    result.push_back(split.images[i].max().item<int64_t>());
  }
  return result;
}

std::vector<int64_t> labels_of(const LabelledImages& split) {
  const int64_t* label = split.labels.const_data_ptr<int64_t>();
  return {label, label + split.labels.numel()};
}

std::string error_of(const fs::path& folder, const IdentityOptions& options) {
  return message_of<UserError>([&] { read_identities(folder, options); });
}

using Numbers = std::vector<int64_t>;

TEST(Identities, AreLabelledInTheOrderOfTheirNames) {
  const TemporaryFolder folder;
  const Identities all = read_identities(write_small_set(folder), grey());
  EXPECT_EQ(all.names, (std::vector<std::string>{"ann", "bob", "cat"}));
  EXPECT_EQ(all.dataset.classes, 3);
  EXPECT_EQ(all.dataset.name, "faces");
  EXPECT_EQ(brightness_of(all.dataset.train), (Numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 101, 102, 103, 111}));
  EXPECT_EQ(labels_of(all.dataset.train), (Numbers{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2}));
  EXPECT_EQ(all.dataset.test.images.sizes(), (Numbers{0, 1, 8, 8}));
  EXPECT_EQ(all.dataset.test.labels.numel(), 0);
  EXPECT_EQ(all.dataset.mean, (std::vector<double>{0.5}));
  EXPECT_EQ(all.dataset.deviation, (std::vector<double>{0.5}));
}

TEST(Identities, MayLieInAFolderOfTheFoldersName) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "lfw");
  fs::rename(write_small_set(folder), folder / "lfw/lfw");
  EXPECT_EQ(read_identities(folder / "lfw", grey()).names, (std::vector<std::string>{"ann", "bob", "cat"}));
}

TEST(Identities, AreTheSameWithSeveralThreads) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder);
  const int threads = at::get_num_threads();
  at::set_num_threads(4);
  const Identities several = read_identities(root, grey());
  at::set_num_threads(threads);
  EXPECT_EQ(brightness_of(several.dataset.train), brightness_of(read_identities(root, grey()).dataset.train));
}

TEST(Identities, ComeInColourAndInTheSizeOfTheNetwork) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder);
  write_image(root / "cat/one.pgm", 111, 20, 30);
  const Identities all = read_identities(root, {.image = {3, 16}});
  EXPECT_EQ(all.dataset.train.images.sizes(), (Numbers{16, 3, 16, 16}));
  EXPECT_EQ(brightness_of(all.dataset.train).back(), 111);
  EXPECT_EQ(all.dataset.mean, (std::vector<double>{0.5, 0.5, 0.5}));
}

TEST(Identities, MayNeedSeveralImagesAndNotBeExcluded) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder);
  const Identities two = read_identities(root, grey({.minimum_images = 3}));
  EXPECT_EQ(two.names, (std::vector<std::string>{"ann", "bob"}));
  EXPECT_EQ(two.too_few, 1);
  const Identities without = read_identities(root, grey({.exclude = {"bob", "dan"}}));
  EXPECT_EQ(without.names, (std::vector<std::string>{"ann", "cat"}));
  EXPECT_EQ(without.excluded, 1);
  EXPECT_EQ(labels_of(without.dataset.train).back(), 1);
}

TEST(Identities, TheLastImagesOfEachCanBeHeldOut) {
  const TemporaryFolder folder;
  const Identities split = read_identities(write_small_set(folder), grey({.hold_out_last = 2}));
  EXPECT_EQ(split.names, (std::vector<std::string>{"ann", "bob"}));  // cat would have none for training
  EXPECT_EQ(brightness_of(split.dataset.train), (Numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 101}));
  EXPECT_EQ(brightness_of(split.dataset.test), (Numbers{11, 12, 102, 103}));
  EXPECT_EQ(labels_of(split.dataset.test), (Numbers{0, 0, 1, 1}));
}

TEST(Identities, EveryFewthImageCanBeHeldOut) {
  const TemporaryFolder folder;
  const Identities split = read_identities(write_small_set(folder), grey({.hold_out_every = 3}));
  EXPECT_EQ(brightness_of(split.dataset.train), (Numbers{1, 2, 4, 5, 7, 8, 10, 11, 101, 102, 111}));
  EXPECT_EQ(brightness_of(split.dataset.test), (Numbers{3, 6, 9, 12, 103}));
  EXPECT_EQ(labels_of(split.dataset.test), (Numbers{0, 0, 0, 0, 1}));
}

TEST(Identities, ABadImageIsNamedOrSkipped) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder);
  write_bytes(root / "ann/5.pgm", "P5 8 8 255\nshort");
  write_bytes(root / "bob/a.pgm", "");
  const std::string error = error_of(root, grey());
  EXPECT_NE(error.find((root / "ann/5.pgm").string()), std::string::npos) << error;
  EXPECT_NE(error.find("truncated: 5 of its 64 pixels"), std::string::npos) << error;

  testing::internal::CaptureStderr();
  const Identities left = read_identities(root, grey({.minimum_images = 1, .skip_bad = true}));
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("2 of 16 images are skipped"), std::string::npos) << said;
  EXPECT_NE(said.find((root / "bob/a.pgm").string()), std::string::npos) << said;
  ASSERT_EQ(left.skipped.size(), 2U);
  EXPECT_EQ(left.skipped[0], error);
  EXPECT_EQ(brightness_of(left.dataset.train), (Numbers{1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 102, 103, 111}));
  EXPECT_EQ(labels_of(left.dataset.train), (Numbers{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2}));

  // bob then has too few, cat too.
  EXPECT_NE(
      error_of(root, grey({.minimum_images = 3, .skip_bad = true})).find("leaves 1 identity (2 have fewer than 3"),
      std::string::npos);
  write_bytes(root / "cat/one.pgm", "");
  const Identities fewer = read_identities(root, grey({.skip_bad = true}));
  EXPECT_EQ(fewer.names, (std::vector<std::string>{"ann", "bob"}));
  EXPECT_EQ(labels_of(fewer.dataset.train).back(), 1);
}

TEST(Identities, AFolderWithoutTwoIsRefused) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of(folder / "absent", grey()).find("absent\" cannot be read: No such file"), std::string::npos);
  fs::create_directories(folder / "empty/nobody");
  write_image(folder / "empty/loose.pgm", 1);
  EXPECT_NE(error_of(folder / "empty", grey()).find("holds no identity: expected folders <identity>/<image>.jpg"),
            std::string::npos);
  write_image(folder / "empty/only/1.pgm", 1);
  EXPECT_NE(error_of(folder / "empty", grey()).find("leaves 1 identity: expected at least 2"), std::string::npos);
  const fs::path root = write_small_set(folder);
  EXPECT_NE(error_of(root, grey({.minimum_images = 13, .exclude = {"ann"}}))
                .find("leaves 0 identities (1 are excluded) (2 have fewer than 13 images): expected at least 2"),
            std::string::npos)
      << error_of(root, grey({.minimum_images = 13, .exclude = {"ann"}}));
}

TEST(RealFaces, OlivettisFacesAreReadByTheirNumbers) {
  const char* folder = std::getenv("MMA_ORL_FACES");
  if (folder == nullptr) GTEST_SKIP() << "the environment variable MMA_ORL_FACES names no folder with s1 to s40";
  const Identities faces = read_identities(folder, {.image = {1, face_size}, .hold_out_last = 5});
  EXPECT_EQ(faces.dataset.classes, 40);
  EXPECT_EQ(faces.names[1], "s10");
  EXPECT_EQ(faces.dataset.train.images.sizes(), (Numbers{200, 1, face_size, face_size}));
  EXPECT_EQ(at::bincount(faces.dataset.test.labels).min().item<int64_t>(), 5);
}

TEST(RealFaces, LfwIsReadWhole) {
  const char* folder = std::getenv("MMA_LFW_FACES");
  if (folder == nullptr) GTEST_SKIP() << "the environment variable MMA_LFW_FACES names no folder of identities";
  const Identities faces = read_identities(folder, {.image = {1, face_size}});
  EXPECT_EQ(faces.dataset.classes, 5749);
  EXPECT_EQ(faces.dataset.train.images.size(0), 13233);
}

}  // namespace
}  // namespace mma::examples
