// Trees of a folder a class that the test writes: labels, splits, measured constants, and every other layout's
// sentence.
#include "training/data/class_folders.hpp"
#include "training/data/datasets.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "../../support/test_files.hpp"
#include "jpeg_files.hpp"
#include "support/process/error.hpp"
#include "training/data/decoded_images.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using namespace mma::tests;

/// One brightness, by which a test knows it again.
void write_grey(const fs::path& path, int brightness, int width = 8, int height = 8) {
  fs::create_directories(path.parent_path());
  std::string bytes = "P5 " + std::to_string(width) + " " + std::to_string(height) + " 255\n";
  write_bytes(path, bytes.append(static_cast<size_t>(width * height), static_cast<char>(brightness)));
}

fs::path write_tree(const fs::path& root) {
  write_grey(root / "train/dog/b.pgm", 30);
  write_grey(root / "train/dog/a.PGM", 20);
  write_grey(root / "train/cat/more/deep.png", 11);  // the bytes say what it is
  write_grey(root / "train/cat/x.pgm", 12);
  write_grey(root / "train/Zebra/1.jpeg", 50);
  write_grey(root / "val/cat/v.pgm", 13);
  write_grey(root / "val/Zebra/v.pgm", 51);
  for (const char* other :
       {"train/readme.txt", "train/dog/._a.pgm", "train/dog/notes.txt", "train/loose.pgm", "val/.DS_Store"}) {
    write_bytes(root / other, "no image");
  }
  fs::create_directories(root / "train/.hidden");
  return root;
}

std::vector<int64_t> brightness_of(const LabelledImages& split) {
  std::vector<int64_t> result;
  for (int64_t i = 0; i < split.images.size(0); ++i) result.push_back(split.images[i].max().item<int64_t>());
  return result;
}

std::vector<int64_t> labels_of(const LabelledImages& split) {
  const int64_t* label = split.labels.const_data_ptr<int64_t>();
  return {label, label + split.labels.numel()};
}

using Numbers = std::vector<int64_t>;

void expect_tree(const Dataset& dataset) {
  EXPECT_EQ(dataset.name, "folder");
  EXPECT_EQ(dataset.classes, 3);
  EXPECT_EQ(dataset.train.images.sizes(), (Numbers{5, 3, 8, 8}));
  EXPECT_EQ(brightness_of(dataset.train), (Numbers{50, 11, 12, 20, 30}));
  EXPECT_EQ(labels_of(dataset.train), (Numbers{0, 1, 1, 2, 2}));  // capitals come first, as in Python
  EXPECT_EQ(brightness_of(dataset.test), (Numbers{51, 13}));
  EXPECT_EQ(labels_of(dataset.test), (Numbers{0, 1}));
}

TEST(ClassFolders, AreADataSet) {
  const TemporaryFolder folder;
  const fs::path root = write_tree(folder / "pets");
  expect_tree(load_dataset("folder", root));
  expect_tree(load_dataset("folder", root));  // from the cache
  EXPECT_TRUE(fs::exists(root / decoded_images_file));
  fs::rename(root / "val", root / "test");
  expect_tree(load_dataset("folder", root));
  fs::create_directories(folder / "outer");
  fs::rename(root, folder / "outer/outer");
  expect_tree(load_dataset("folder", folder / "outer"));
}

TEST(ClassFolders, HaveTheConstantsOfTheirTrainingImages) {
  const TemporaryFolder folder;
  const fs::path root = write_tree(folder / "pets");
  write_jpeg(root / "train/dog/colour.jpg", 1, 3, 8);
  const Dataset dataset = load_dataset("folder", root);
  ASSERT_EQ(dataset.mean.size(), 3u);
  for (int64_t channel = 0; channel < 3; ++channel) {
    const at::Tensor values = dataset.train.images.select(1, channel).to(at::kDouble).div_(255);
    EXPECT_NEAR(dataset.mean[static_cast<size_t>(channel)], values.mean().item<double>(), 1e-12);
    EXPECT_NEAR(dataset.deviation[static_cast<size_t>(channel)], values.std(false).item<double>(), 1e-12);
  }
  EXPECT_NE(dataset.mean[0], dataset.mean[2]);
}

TEST(ClassFolders, OfOneShadeCanBeNormalised) {
  const TemporaryFolder folder;
  for (const char* name : {"train/a/1.pgm", "train/b/1.pgm", "val/a/1.pgm"}) write_grey(folder / name, 7);
  EXPECT_EQ(load_dataset("folder", folder.path()).deviation, std::vector<double>(3, 1.0 / 255));
}

class OtherLayout : public testing::Test {
 protected:
  /// What is said, without the folders' common beginning.
  std::string refusal() const {
    std::string message = message_of<UserError>([&] { load_dataset("folder", root_); });
    for (size_t at = 0; (at = message.find(root_.string())) != std::string::npos;)
      message.replace(at, root_.string().size(), "ROOT");
    return message;
  }
  void expect_refused(const std::string& beginning) const {
    EXPECT_TRUE(refusal().starts_with(beginning)) << refusal();
  }

  TemporaryFolder folder_;
  fs::path root_ = write_tree(folder_ / "pets");
};

TEST_F(OtherLayout, IsNamed) {
  const std::string layout = "; expected train/<class>/<image> and val/<class>/<image>, of .jpg, .jpeg, .png or .pgm";
  fs::rename(root_ / "val", root_ / "later");
  EXPECT_EQ(refusal(), "the folder \"ROOT\" has no folder val or test" + layout);
  fs::rename(root_ / "train", root_ / "val");
  EXPECT_EQ(refusal(), "the folder \"ROOT\" has no folder train" + layout);
  fs::rename(root_ / "val", root_ / "train");
  fs::rename(root_ / "later", root_ / "val");
  fs::create_directory(root_ / "train/empty");
  EXPECT_EQ(refusal(), "the folder \"ROOT/train/empty\" holds no image" + layout);
  fs::remove(root_ / "train/empty");
  write_grey(root_ / "val/wolf/1.pgm", 1);
  EXPECT_EQ(refusal(), "the folder \"ROOT/val/wolf\" is of a class that \"ROOT/train\" does not have");
  fs::remove_all(root_ / "val");
  fs::create_directories(root_ / "val/cat");
  EXPECT_EQ(refusal(), "the folder \"ROOT/val\" holds no image in a folder" + layout);
  fs::remove_all(root_ / "train/cat");
  fs::remove_all(root_ / "train/dog");
  EXPECT_EQ(refusal(), "the folder \"ROOT/train\" has 1 folder, expected one for each of several classes");
}

TEST_F(OtherLayout, OfTheImagesIsNamed) {
  write_grey(root_ / "val/cat/v.pgm", 1, 9, 9);
  expect_refused("\"ROOT/val/cat/v.pgm\" has 9 x 9 pixels, expected 8 x 8 as all images of this data set have");
  write_grey(root_ / "train/Zebra/1.jpeg", 1, 9, 8);
  expect_refused(
      "\"ROOT/train/Zebra/1.jpeg\" has 9 x 8 pixels, expected as many rows as columns: bring all images to one");
  write_bytes(root_ / "train/Zebra/1.jpeg", "no image");
  expect_refused("\"ROOT/train/Zebra/1.jpeg\" is of another format: expected a JPEG, PNG or PGM image");
}

TEST_F(OtherLayout, WithALinkThatLeadsBackIsRefused) {
  fs::create_directory_symlink(root_ / "train/cat", root_ / "train/cat/again");
  EXPECT_NE(refusal().find("lies too deep; does a link lead back to it?"), std::string::npos) << refusal();
}

}  // namespace
}  // namespace mma::examples
