// The readers on small files that the test writes, fault by fault, and on the real sets where the machine has them.
#include "training/data/datasets.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bincount.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "../../support/memory_bounds.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::TemporaryFolder;

void write(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << bytes;
  ASSERT_TRUE(file.flush()) << path;
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_packed(const fs::path& path, const std::string& bytes) {
  const gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

std::string quoted(const fs::path& path) {
  const std::string text = path.string();
  return "'" + text + "'";
}

/// The pixel that the small files have at a place: differs between neighbours in every direction.
uint8_t pixel(int64_t image, int64_t channel, int64_t y, int64_t x) {
  return static_cast<uint8_t>(image * 101 + channel * 59 + y * 17 + x * 3);
}

std::string picture(int64_t image, int64_t channels, int64_t size) {
  std::string bytes;
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t y = 0; y < size; ++y) {
      for (int64_t x = 0; x < size; ++x) {
        bytes += static_cast<char>(pixel(image, c, y, x));
      }
    }
  }
  return bytes;
}

/// Records of `leading` coarse labels (always 1), a label and a picture numbered from `first`.
std::string cifar_file(const std::vector<int>& labels, int leading, int64_t first = 0) {
  std::string bytes;
  for (const int label : labels) {
    bytes += std::string(static_cast<size_t>(leading), '\1') + static_cast<char>(label) + picture(first++, 3, 32);
  }
  return bytes;
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) {
    bytes += static_cast<char>(value >> shift & 255);
  }
  return bytes;
}

std::string idx_images(uint32_t count) {
  std::string bytes = big_endian(0x803) + big_endian(count) + big_endian(28) + big_endian(28);
  for (uint32_t i = 0; i < count; ++i) {
    bytes += picture(i, 1, 28);
  }
  return bytes;
}

std::string idx_labels(const std::vector<int>& labels) {
  std::string bytes = big_endian(0x801) + big_endian(static_cast<uint32_t>(labels.size()));
  for (const int label : labels) {
    bytes += static_cast<char>(label);
  }
  return bytes;
}

void write_cifar100(const fs::path& folder) {
  write(folder / "train.bin", cifar_file({99, 0, 42}, 1));
  write(folder / "test.bin", cifar_file({7}, 1, 50));
}

void write_cifar10(const fs::path& folder) {
  for (int i = 1; i <= 5; ++i) {
    write(folder / ("data_batch_" + std::to_string(i) + ".bin"), cifar_file({i, 9}, 0, 2 * (i - 1)));
  }
  write(folder / "test_batch.bin", cifar_file({0, 1, 2}, 0, 50));
}

void write_fashion_mnist(const fs::path& folder) {
  write(folder / "train-images-idx3-ubyte", idx_images(4));
  write(folder / "train-labels-idx1-ubyte", idx_labels({9, 0, 3, 3}));
  write(folder / "t10k-images-idx3-ubyte", idx_images(2));
  write(folder / "t10k-labels-idx1-ubyte", idx_labels({1, 2}));
}

void expect_split(const LabelledImages& split, const std::vector<int64_t>& labels, int64_t channels, int64_t size,
                  int64_t first) {
  const auto count = static_cast<int64_t>(labels.size());
  ASSERT_EQ(split.images.scalar_type(), at::kByte);
  ASSERT_EQ(split.images.sizes(), (std::vector<int64_t>{count, channels, size, size}));
  ASSERT_TRUE(split.images.is_contiguous());
  const auto image = split.images.accessor<uint8_t, 4>();
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t y = 0; y < size; ++y) {
        for (int64_t x = 0; x < size; ++x) {
          ASSERT_EQ(image[i][c][y][x], pixel(first + i, c, y, x)) << i << " " << c << " " << y << " " << x;
        }
      }
    }
  }
  ASSERT_EQ(split.labels.scalar_type(), at::kLong);
  const int64_t* label = split.labels.const_data_ptr<int64_t>();
  EXPECT_EQ(std::vector<int64_t>(label, label + split.labels.numel()), labels);
}

TEST(Datasets, HaveTheirPublishedConstants) {
  EXPECT_EQ(dataset_names(),
            (std::vector<std::string>{"cifar100", "cifar10", "fashion-mnist", "tiny-imagenet", "folder"}));
  const TemporaryFolder folder;
  write_cifar100(folder / "a");
  const Dataset cifar100 = load_dataset("cifar100", folder / "a");
  EXPECT_EQ(cifar100.name, "cifar100");
  EXPECT_EQ(cifar100.classes, 100);
  EXPECT_EQ(cifar100.mean, (std::vector<double>{.5071, .4866, .4409}));
  EXPECT_EQ(cifar100.deviation, (std::vector<double>{.2673, .2564, .2762}));
  write_cifar10(folder / "b");
  const Dataset cifar10 = load_dataset("cifar10", folder / "b");
  EXPECT_EQ(cifar10.name, "cifar10");
  EXPECT_EQ(cifar10.classes, 10);
  EXPECT_EQ(cifar10.mean, (std::vector<double>{.4914, .4822, .4465}));
  EXPECT_EQ(cifar10.deviation, (std::vector<double>{.2470, .2435, .2616}));
  write_fashion_mnist(folder / "c");
  const Dataset fashion = load_dataset("fashion-mnist", folder / "c");
  EXPECT_EQ(fashion.name, "fashion-mnist");
  EXPECT_EQ(fashion.classes, 10);
  EXPECT_EQ(fashion.mean, (std::vector<double>{.2860}));
  EXPECT_EQ(fashion.deviation, (std::vector<double>{.3530}));
}

TEST(Datasets, ReadCifar100WithItsFineLabels) {
  for (const char* inner : {"", "cifar-100-binary"}) {
    const TemporaryFolder folder;
    write_cifar100(folder / inner);
    const Dataset dataset = load_dataset("cifar100", folder.path());
    expect_split(dataset.train, {99, 0, 42}, 3, 32, 0);
    expect_split(dataset.test, {7}, 3, 32, 50);
  }
}

TEST(Datasets, ReadTheFiveBatchesOfCifar10InOrder) {
  for (const char* inner : {"", "cifar-10-batches-bin"}) {
    const TemporaryFolder folder;
    write_cifar10(folder / inner);
    const Dataset dataset = load_dataset("cifar10", folder.path());
    expect_split(dataset.train, {1, 9, 2, 9, 3, 9, 4, 9, 5, 9}, 3, 32, 0);
    expect_split(dataset.test, {0, 1, 2}, 3, 32, 50);
  }
}

TEST(Datasets, ReadFashionMnistPlainAndPacked) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder / "fashion-mnist");
  const auto expect_all = [&](const fs::path& place) {
    const Dataset dataset = load_dataset("fashion-mnist", place);
    expect_split(dataset.train, {9, 0, 3, 3}, 1, 28, 0);
    expect_split(dataset.test, {1, 2}, 1, 28, 0);
  };
  expect_all(folder.path());
  expect_all(folder / "fashion-mnist");
  std::vector<fs::path> plain;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder / "fashion-mnist")) {
    plain.push_back(entry.path());
  }
  for (const fs::path& path : plain) {
    write_packed(path.string() + ".gz", read(path));
    fs::remove(path);
  }
  expect_all(folder.path());
}

/// As torchvision leaves it, named by each of the folders above.
TEST(Datasets, ReadFashionMnistOfTorchvision) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder / "FashionMNIST/raw");
  for (const char* named : {"FashionMNIST/raw", "FashionMNIST", "."}) {
    const Dataset dataset = load_dataset("fashion-mnist", folder / named);
    expect_split(dataset.train, {9, 0, 3, 3}, 1, 28, 0);
    expect_split(dataset.test, {1, 2}, 1, 28, 0);
  }
}

std::string error_of(const std::string& name, const fs::path& folder) {
  try {
    load_dataset(name, folder);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Datasets, RefuseAnUnknownName) {
  EXPECT_EQ(error_of("mnist", "."),
            "unknown data set 'mnist': expected one of cifar100, cifar10, fashion-mnist, tiny-imagenet, folder");
}

TEST(Datasets, SayWhatIsMissingAndWhereItWasSought) {
  const TemporaryFolder folder;
  EXPECT_EQ(error_of("cifar100", folder / "nowhere"), "cifar100: found no train.bin or train in " +
                                                          quoted(folder / "nowhere") +
                                                          " or its folder cifar-100-binary or cifar-100-python");
  write_cifar100(folder.path());
  fs::remove(folder / "test.bin");
  fs::create_directory(folder / "test.bin");  // a folder is not the file
  EXPECT_EQ(error_of("cifar100", folder.path()), "cifar100: found no test.bin in " + quoted(folder.path()));
  write_cifar10(folder.path());
  fs::remove(folder / "data_batch_4.bin");
  EXPECT_EQ(error_of("cifar10", folder.path()), "cifar10: found no data_batch_4.bin in " + quoted(folder.path()));
  write_fashion_mnist(folder.path());
  fs::remove(folder / "t10k-labels-idx1-ubyte");
  EXPECT_EQ(error_of("fashion-mnist", folder.path()),
            "fashion-mnist: found no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz in " + quoted(folder.path()) +
                " or its folder fashion-mnist or raw or FashionMNIST/raw");
}

TEST(Datasets, RefuseCifarFilesThatAreNoWholeNumberOfRecords) {
  const TemporaryFolder folder;
  write_cifar100(folder.path());
  const std::string whole = cifar_file({1, 2}, 1), path = quoted(folder / "train.bin");
  const auto expect_refused = [&](const std::string& bytes) {
    write(folder / "train.bin", bytes);
    EXPECT_EQ(error_of("cifar100", folder.path()),
              path + " holds " + std::to_string(bytes.size()) +
                  " bytes, expected a whole number of records of 3074 bytes: it is truncated or of another data set");
  };
  expect_refused("");
  expect_refused(whole.substr(0, whole.size() - 1));
  expect_refused(whole + "x");
  expect_refused(cifar_file({1, 2}, 0));  // CIFAR-10
}

TEST(Datasets, RefuseLabelsOutsideOfTheClasses) {
  const TemporaryFolder folder;
  write_cifar100(folder.path());
  write(folder / "test.bin", cifar_file({99, 100}, 1));
  EXPECT_EQ(error_of("cifar100", folder.path()),
            quoted(folder / "test.bin") + " gives image 1 the label 100, expected one of 0 to 99");
  write_cifar10(folder.path());
  write(folder / "data_batch_2.bin", cifar_file({255}, 0));
  EXPECT_EQ(error_of("cifar10", folder.path()),
            quoted(folder / "data_batch_2.bin") + " gives image 0 the label 255, expected one of 0 to 9");
  write_fashion_mnist(folder.path());
  write(folder / "train-labels-idx1-ubyte", idx_labels({0, 0, 10, 0}));
  EXPECT_EQ(error_of("fashion-mnist", folder.path()),
            quoted(folder / "train-labels-idx1-ubyte") + " gives image 2 the label 10, expected one of 0 to 9");
}

/// The error for a Fashion-MNIST folder, one file of which is replaced, without the file's path.
std::string error_with(const char* name, const std::string& bytes) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder.path());
  write(folder / name, bytes);
  const std::string error = error_of("fashion-mnist", folder.path()), path = quoted(folder / name);
  EXPECT_TRUE(error.starts_with(path)) << error;
  return error.substr(std::min(path.size(), error.size()));
}

TEST(Datasets, RefuseDamagedIdxFiles) {
  const char* images = "train-images-idx3-ubyte";
  const char* labels = "t10k-labels-idx1-ubyte";
  const std::string whole = idx_images(4);
  const std::string no_header = " does not begin with the header of an IDX file of images";
  EXPECT_EQ(error_with(images, ""), no_header);
  EXPECT_EQ(error_with(images, whole.substr(0, 15)), no_header);
  EXPECT_EQ(error_with(images, idx_labels({1, 2, 3, 4, 5, 6, 7, 8, 9})), no_header);
  EXPECT_EQ(error_with(labels, idx_images(2)), " does not begin with the header of an IDX file of labels");
  EXPECT_EQ(error_with(images, whole.substr(0, whole.size() - 1)),
            " is truncated: 3135 bytes follow its header, which announces 3136");
  EXPECT_EQ(error_with(images, whole + "xy"),
            " has bytes to spare: 3138 bytes follow its header, which announces 3136");
  EXPECT_EQ(error_with(labels, idx_labels({1, 2}).substr(0, 9)),
            " is truncated: 1 bytes follow its header, which announces 2");
  const std::string huge = big_endian(0x803) + big_endian(0xffffffff) + big_endian(28) + big_endian(28);
  EXPECT_EQ(error_with(images, huge), " is truncated: 0 bytes follow its header, which announces 3367254359280");
  const std::string other = big_endian(0x803) + big_endian(1) + big_endian(32) + big_endian(28) + picture(0, 1, 30);
  EXPECT_EQ(error_with(images, other), " holds images of 32 x 28 pixels, expected 28 x 28");
  EXPECT_EQ(error_with(images, idx_images(0)), " is empty by its header, expected at least one item");
}

TEST(Datasets, RefuseLabelsThatAreNotAsManyAsTheImages) {
  EXPECT_TRUE(error_with("train-labels-idx1-ubyte", idx_labels({1, 2, 3}))
                  .starts_with(" holds 3 labels for the 4 images of '"));
}

/// The bytes, the tensors and 8 bytes for each label; of a gzip file no more than its header announces.
TEST(Datasets, TakeMemoryByTheirLength) {
  const TemporaryFolder folder;
  for (const char* name : {"train.bin", "test.bin"}) write(folder / name, std::string(3074 * 4000, '\1'));
  mma::tests::expect_within(4, 2 * 3074 * 4000, [&] { error_of("cifar100", folder.path()); });
  write_fashion_mnist(folder.path());
  write(folder / "train-images-idx3-ubyte", idx_images(4) + std::string(20 << 20, '\0'));
  mma::tests::expect_within(4, 20 << 20, [&] { error_of("fashion-mnist", folder.path()); });
  fs::remove(folder / "train-images-idx3-ubyte");
  write_packed(folder / "train-images-idx3-ubyte.gz", idx_images(1) + std::string(100 << 20, '\0'));
  mma::tests::expect_within(1032, 1, [&] { error_of("fashion-mnist", folder.path()); });
}

/// As `cat` joins them, and as gzip reads them.
TEST(Datasets, ReadGzipFilesInSeveralPiecesWithSomethingBehindThem) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder.path());
  const fs::path plain = folder / "train-images-idx3-ubyte", packed = folder / "train-images-idx3-ubyte.gz";
  fs::remove(plain);
  const std::string whole = idx_images(4);
  std::string pieces;
  for (const std::string& piece : {whole.substr(0, 7), whole.substr(7, 1000), whole.substr(1007)}) {
    write_packed(packed, piece);
    pieces += read(packed);
  }
  write(packed, pieces + "what does not begin as a gzip file");
  EXPECT_EQ(error_of("fashion-mnist", folder.path()), "");
}

TEST(Datasets, RefuseDamagedGzipFiles) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder.path());
  const fs::path plain = folder / "train-images-idx3-ubyte", packed = folder / "train-images-idx3-ubyte.gz";
  fs::remove(plain);
  write_packed(packed, idx_images(4));
  const std::string whole = read(packed), path = quoted(packed);
  ASSERT_EQ(error_of("fashion-mnist", folder.path()), "");
  write(packed, whole.substr(0, whole.size() / 2));
  EXPECT_EQ(error_of("fashion-mnist", folder.path()), path + " cannot be read to its end: unexpected end of file");
  std::string flipped = whole;
  flipped[whole.size() - 8] = static_cast<char>(~flipped[whole.size() - 8]);  // the checksum
  write(packed, flipped);
  EXPECT_EQ(error_of("fashion-mnist", folder.path()), path + " cannot be read to its end: incorrect data check");
}

/// A gzip file of zeros is a thousandth of what it unpacks to: no more of it is unpacked than its header announces.
TEST(Datasets, RefuseAGzipFileThatUnpacksToTooMuch) {
  const TemporaryFolder folder;
  write_fashion_mnist(folder.path());
  fs::remove(folder / "train-images-idx3-ubyte");
  write_packed(folder / "train-images-idx3-ubyte.gz", idx_images(4) + std::string(3 << 20, '\0'));
  EXPECT_EQ(error_of("fashion-mnist", folder.path()),
            quoted(folder / "train-images-idx3-ubyte.gz") + " holds more than " +
                std::to_string(16 + 4 * 784 + (1 << 20)) + " bytes, unpacked");
}

/// Mean and standard deviation of each channel, from a histogram, are the constants to their four decimals.
void expect_constants(const Dataset& dataset) {
  for (int64_t channel = 0; channel < dataset.train.images.size(1); ++channel) {
    const at::Tensor values = dataset.train.images.select(1, channel).reshape({-1}).to(at::kInt);
    const at::Tensor histogram = at::bincount(values, {}, 256);
    double count = 0, sum = 0, squares = 0;
    for (int64_t value = 0; value < 256; ++value) {
      const auto times = static_cast<double>(histogram.const_data_ptr<int64_t>()[value]);
      const auto shade = static_cast<double>(value) / 255;
      count += times;
      sum += times * shade;
      squares += times * shade * shade;
    }
    const double mean = sum / count, deviation = std::sqrt(squares / count - mean * mean);
    EXPECT_NEAR(mean, dataset.mean[static_cast<size_t>(channel)], 1e-4);
    EXPECT_NEAR(deviation, dataset.deviation[static_cast<size_t>(channel)], 1e-4);
  }
}

void expect_equally_many_labels(const LabelledImages& split, int64_t classes, int64_t each) {
  const at::Tensor counts = at::bincount(split.labels);
  EXPECT_EQ(counts.numel(), classes);
  EXPECT_TRUE((counts == each).all().item<bool>());
}

TEST(RealDatasets, FashionMnistOfDebian) {
  const fs::path folder = "/usr/share/datasets/fashion-mnist";
  if (!fs::exists(folder)) {
    GTEST_SKIP() << "Debian's package dataset-fashion-mnist is not installed";
  }
  const Dataset dataset = load_dataset("fashion-mnist", folder);
  EXPECT_EQ(dataset.train.images.sizes(), (std::vector<int64_t>{60000, 1, 28, 28}));
  EXPECT_EQ(dataset.test.images.sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  expect_equally_many_labels(dataset.train, 10, 6000);
  expect_equally_many_labels(dataset.test, 10, 1000);
  expect_constants(dataset);
}

TEST(RealDatasets, Cifar100) {
  const char* folder = std::getenv("MMA_CIFAR100");
  if (folder == nullptr) {
    GTEST_SKIP() << "the environment variable MMA_CIFAR100 names no folder with train.bin and test.bin";
  }
  const Dataset dataset = load_dataset("cifar100", folder);
  EXPECT_EQ(dataset.train.images.sizes(), (std::vector<int64_t>{50000, 3, 32, 32}));
  EXPECT_EQ(dataset.test.images.sizes(), (std::vector<int64_t>{10000, 3, 32, 32}));
  expect_equally_many_labels(dataset.train, 100, 500);
  expect_equally_many_labels(dataset.test, 100, 100);
  expect_constants(dataset);
}

}  // namespace
}  // namespace mma::examples
