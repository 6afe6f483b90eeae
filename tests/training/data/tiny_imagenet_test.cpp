// TinyImageNet's layout with small JPEGs that the test writes: pixels, labels, the cache, every fault; and the real set
// where the machine has it.
#include "training/data/tiny_imagenet.hpp"

#include "training/data/datasets.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/equal.h>
#include <c10/util/StringUtil.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "../../support/memory_bounds.hpp"
#include "jpeg_files.hpp"
#include "support/files/tensor_file.hpp"
#include "training/data/decoded_images.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::shade;
using mma::tests::TemporaryFolder;
using mma::tests::write_bytes;
using mma::tests::write_jpeg;

void write_text(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path);
  file << text;
  ASSERT_TRUE(file.flush()) << path;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Two classes, out of order in wnids.txt; two and one training images, the last one grey; two for validation.
fs::path write_small_set(const fs::path& folder) {
  const fs::path root = folder / "tiny-imagenet-200";
  write_text(root / "wnids.txt", "n02\nn01\n");
  write_jpeg(root / "train/n01/images/n01_0.JPEG", 0);
  write_jpeg(root / "train/n01/images/n01_1.JPEG", 1);
  write_text(root / "train/n01/n01_boxes.txt", "n01_0.JPEG\t0\t0\t63\t63\n");
  write_jpeg(root / "train/n02/images/n02_0.JPEG", 2, 1);
  write_jpeg(root / "val/images/val_0.JPEG", 3);
  write_jpeg(root / "val/images/val_1.JPEG", 4);
  write_text(root / "val/val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t63\t63\nval_1.JPEG\tn01\t1\t2\t3\t4\n");
  return root;
}

Dataset load(const fs::path& folder) { return load_dataset("tiny-imagenet", folder); }

std::string error_of(const fs::path& folder) {
  try {
    load(folder);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_image(const at::Tensor& images, int64_t index, int image, bool grey = false) {
  ASSERT_EQ(images.sizes().slice(1), (std::vector<int64_t>{3, 64, 64}));
  const auto pixel = images.accessor<uint8_t, 4>();
  for (int channel = 0; channel < 3; ++channel) {
    for (int64_t y = 0; y < 64; ++y) {
      for (int64_t x = 0; x < 64; ++x) {
        ASSERT_NEAR(pixel[index][channel][y][x], shade(image, grey ? 0 : channel, y, x), 3)
            << image << " " << channel << " " << y << " " << x;
      }
    }
  }
}

std::vector<int64_t> labels_in(const LabelledImages& split) {
  const int64_t* label = split.labels.const_data_ptr<int64_t>();
  return {label, label + split.labels.numel()};
}

void expect_small_set(const Dataset& dataset) {
  EXPECT_EQ(dataset.classes, 2);
  EXPECT_EQ(labels_in(dataset.train), (std::vector<int64_t>{0, 0, 1}));
  EXPECT_EQ(labels_in(dataset.test), (std::vector<int64_t>{1, 0}));
  ASSERT_EQ(dataset.train.images.size(0), 3);
  ASSERT_EQ(dataset.test.images.size(0), 2);
  expect_image(dataset.train.images, 0, 0);
  expect_image(dataset.train.images, 1, 1);
  expect_image(dataset.train.images, 2, 2, true);
  expect_image(dataset.test.images, 0, 3);
  expect_image(dataset.test.images, 1, 4);
}

TEST(TinyImageNet, IsReadFromItsFolderOrTheOneAbove) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  expect_small_set(load(folder.path()));
  expect_small_set(load(root));
  EXPECT_EQ(load(root).mean, (std::vector<double>{.4802, .4481, .3975}));
  EXPECT_EQ(load(root).deviation, (std::vector<double>{.2770, .2691, .2821}));
}

TEST(TinyImageNet, IsTheSameWithSeveralThreads) {
  const TemporaryFolder folder;
  write_small_set(folder.path());
  const int threads = at::get_num_threads();
  at::set_num_threads(4);
  const Dataset dataset = load(folder.path());
  at::set_num_threads(threads);
  expect_small_set(dataset);
}

/// An image that the cache alone has tells whether it was read.
TEST(TinyImageNet, IsDecodedOnce) {
  const TemporaryFolder folder;
  const fs::path cache = write_small_set(folder.path()) / decoded_images_file;
  load(folder.path());
  TensorFile file = read_tensor_file(cache);
  const fs::file_time_type written = fs::last_write_time(cache);
  expect_small_set(load(folder.path()));
  EXPECT_EQ(fs::last_write_time(cache), written);

  const_cast<at::Tensor*>(file.find("images"))->select(0, 1).fill_(9);  // without its checksum: damaged
  write_tensor_file(cache, file);
  expect_small_set(load(folder.path()));
  expect_small_set(load(folder.path()));
}

TEST(TinyImageNet, IsDecodedAgainWhenTheCacheIsCutOrForeign) {
  const TemporaryFolder folder;
  const fs::path cache = write_small_set(folder.path()) / decoded_images_file;
  load(folder.path());
  const std::string whole = read_text(cache);
  for (const std::string& bytes : {whole.substr(0, whole.size() / 2), std::string(), std::string("foreign")}) {
    write_text(cache, bytes);
    expect_small_set(load(folder.path()));
    EXPECT_EQ(read_text(cache), whole);
  }
}

TEST(TinyImageNet, IsDecodedAgainWhenAFileChanged) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  load(root);
  write_jpeg(root / "train/n01/images/n01_1.JPEG", 5);
  fs::last_write_time(root / "train/n01/images/n01_1.JPEG", fs::file_time_type::clock::now() + std::chrono::hours(1));
  expect_image(load(root).train.images, 1, 5);
  write_jpeg(root / "train/n02/images/n02_1.JPEG", 6);
  EXPECT_EQ(labels_in(load(root).train), (std::vector<int64_t>{0, 0, 1, 1}));
  fs::remove(root / "train/n01/images/n01_0.JPEG");
  EXPECT_EQ(labels_in(load(root).train), (std::vector<int64_t>{0, 1, 1}));
  write_text(root / "val/val_annotations.txt", "val_0.JPEG\tn01\t0\t0\t63\t63\n");
  EXPECT_EQ(labels_in(load(root).test), (std::vector<int64_t>{0}));
}

TEST(TinyImageNet, NamesTheFileThatIsMissing) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of(folder.path()).find("found no wnids.txt"), std::string::npos);
  const fs::path root = write_small_set(folder.path());
  const auto expect_named = [&](const char* name) {
    fs::rename(root / name, root / "elsewhere");
    const std::string error = error_of(root);
    EXPECT_NE(error.find((root / name).string()), std::string::npos) << error;
    fs::rename(root / "elsewhere", root / name);
  };
  expect_named("val/val_annotations.txt");
  expect_named("train/n02");
  expect_named("val/images/val_1.JPEG");
  EXPECT_EQ(error_of(root), "");
}

TEST(TinyImageNet, NamesTheImageThatIsDamaged) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path()), image = root / "train/n02/images/n02_0.JPEG";
  const std::string whole = read_text(image);
  const auto expect_said = [&](const std::string& sentence) {
    const std::string error = error_of(root);
    EXPECT_NE(error.find(image.string()), std::string::npos) << error;
    EXPECT_NE(error.find(sentence), std::string::npos) << error;
    EXPECT_FALSE(fs::exists(root / decoded_images_file));
  };
  write_text(image, whole.substr(0, whole.size() / 2));
  expect_said("Premature end");
  write_text(image, "no picture");
  expect_said("is of another format: expected a JPEG, PNG or PGM image");
  write_text(image, "");
  expect_said("is empty: expected a JPEG, PNG or PGM image");
  write_jpeg(image, 0, 3, 32);
  expect_said("has 32 x 32 pixels, expected 64 x 64");
  write_text(image, whole);
  expect_small_set(load(root));
}

/// What fuzzing found: a list that names "/" had every picture of the machine looked for.
TEST(TinyImageNet, IsNoListOfFoldersElsewhere) {
  const TemporaryFolder folder;
  for (const std::string name : {"/", "..", ".", "../..", "n01443537/../.."}) {
    write_bytes(folder / "wnids.txt", name + "\n");
    EXPECT_EQ(error_of(folder.path()),
              "\"" + (folder / "wnids.txt").string() + "\" names '" + name + "'; expected a folder such as n01443537");
  }
}

/// What fuzzing found too: a name that is too long for any file ended in the system's words.
TEST(TinyImageNet, NamesMayBeTooLongForAFile) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  const std::string lines = read_text(root / "val/val_annotations.txt"), rest = lines.substr(lines.find('\t'));
  const std::string ending(300, 'x');
  write_text(root / "val/val_annotations.txt", "val_0." + ending + rest);  // of the picture that has this stem
  expect_small_set(load(root));
  write_text(root / "val/val_annotations.txt", ending + rest);
  EXPECT_EQ(error_of(root), c10::str(root / "val/images" / ending, " cannot be read: File name too long"));
}

TEST(TinyImageNet, TakesMemoryByTheLengthOfItsLists) {
  const TemporaryFolder folder;
  std::string names;
  for (int i = 0; i < 300'000; ++i) names += std::to_string(i) + "\n";
  for (const std::string& text :
       {names, mma::tests::repeated("\n", 1'000'000), mma::tests::repeated("a ", 1'000'000)}) {
    mma::tests::expect_within(128, folder / "wnids.txt", text, [&] { error_of(folder.path()); });
  }
  mma::tests::expect_within(1, folder / "wnids.txt", std::string(100 << 20, 'a'), [&] { error_of(folder.path()); });
}

TEST(TinyImageNet, NamesTheLineThatIsNotUnderstood) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  write_text(root / "val/val_annotations.txt", "val_0.JPEG\tn02\t0\t0\t63\t63\nval_1.JPEG n01\n");
  EXPECT_NE(error_of(root).find("line 2: expected an image and one of wnids.txt's 2 names"), std::string::npos)
      << error_of(root);
  write_text(root / "wnids.txt", "n01\nn01\n");
  EXPECT_NE(error_of(root).find("names n01 twice"), std::string::npos) << error_of(root);
  write_text(root / "wnids.txt", "");
  EXPECT_NE(error_of(root).find("is empty"), std::string::npos) << error_of(root);
}

void move(const fs::path& from, const fs::path& to) {
  fs::create_directories(to.parent_path());
  fs::rename(from, to);
}

/// What the usual scripts leave: each gives the same images in the same order.
TEST(TinyImageNet, IsReadAfterTheUsualScripts) {
  for (const char* inner : {"", "images"}) {
    for (const bool annotations : {true, false}) {
      const TemporaryFolder folder;
      const fs::path root = write_small_set(folder.path());
      move(root / "val/images/val_0.JPEG", root / "val/n02" / inner / "val_0.JPEG");
      if (annotations) expect_small_set(load(root));  // a script that was stopped
      move(root / "val/images/val_1.JPEG", root / "val/n01" / inner / "val_1.JPEG");
      expect_small_set(load(root));
      fs::remove(root / "val/images");
      if (!annotations) fs::remove(root / "val/val_annotations.txt");
      expect_small_set(load(root));
      for (const char* name : {"n01/images/n01_0.JPEG", "n01/images/n01_1.JPEG", "n02/images/n02_0.JPEG"}) {
        const fs::path image = root / "train" / name;
        move(image, image.parent_path().parent_path() / image.filename());
      }
      expect_small_set(load(root));
    }
  }
}

TEST(TinyImageNet, IsReadWithCopiesLeftBehind) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  for (const auto& [name, image] : {std::pair{"n02", "val_0.JPEG"}, {"n01", "val_1.JPEG"}}) {
    fs::create_directories(root / "val" / name);
    fs::copy(root / "val/images" / image, root / "val" / name / image);
  }
  expect_small_set(load(root));
  fs::remove(root / "val/val_annotations.txt");
  expect_small_set(load(root));
  fs::remove(root / "val/n01/val_1.JPEG");
  EXPECT_NE(error_of(root).find("val_annotations.txt"), std::string::npos) << error_of(root);
}

TEST(TinyImageNet, TakesOtherEndingsAndNoHiddenFiles) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  const fs::path images = root / "train/n01/images";
  move(images / "n01_0.JPEG", images / "n01_0.jpg");
  move(images / "n01_1.JPEG", images / "n01_1.Jpeg");
  move(root / "val/images/val_0.JPEG", root / "val/images/val_0.jpg");  // which the list calls val_0.JPEG
  for (const char* hidden : {"train/n01/images/._n01_0.JPEG", "train/n01/._images", "val/images/._val_0.JPEG"}) {
    write_text(root / hidden, std::string("\0\5\26\7\0\2\0\0Mac OS X        ", 24));
  }
  expect_small_set(load(root));
}

/// Not a fault of the data: the run goes on.
TEST(TinyImageNet, IsReadFromAFolderThatCannotBeWritten) {
  const TemporaryFolder folder;
  const fs::path root = write_small_set(folder.path());
  fs::create_directory(root / decoded_images_file);  // also root cannot write a file there
  expect_small_set(load(root));
  EXPECT_TRUE(fs::is_directory(root / decoded_images_file));
}

TEST(RealDatasets, TinyImageNet) {
  const char* folder = std::getenv("MMA_TINY_IMAGENET");
  if (folder == nullptr) GTEST_SKIP() << "the environment variable MMA_TINY_IMAGENET names no folder with wnids.txt";
  const Dataset dataset = load(folder);
  EXPECT_EQ(dataset.classes, 200);
  for (const LabelledImages* split : {&dataset.train, &dataset.test}) {
    const at::Tensor counts = at::bincount(split->labels);
    EXPECT_EQ(counts.numel(), 200);
    EXPECT_EQ(counts.min().item<int64_t>(), counts.max().item<int64_t>());
  }
  for (int64_t channel = 0; channel < 3; ++channel) {
    const at::Tensor values = dataset.train.images.select(1, channel).to(at::kFloat).div_(255);
    EXPECT_NEAR(values.mean().item<double>(), dataset.mean[static_cast<size_t>(channel)], 0.01);
    EXPECT_NEAR(values.std().item<double>(), dataset.deviation[static_cast<size_t>(channel)], 0.01);
  }
}

}  // namespace
}  // namespace mma::examples
