// CIFAR as torchvision leaves it: pickles as Python 2, Python 3 and NumPy 1 and 2 write them, byte by byte, and what is
// wrong with others.
#include <gtest/gtest.h>

#include "../../support/test_files.hpp"
#include "support/process/error.hpp"
#include "training/data/datasets.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using namespace mma::tests;

enum class Writer { Python2, Python3, Protocol5 };

std::string little_endian(size_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 255);
  return text;
}

std::string text(Writer writer, const std::string& letters) {
  return (writer == Writer::Python2 ? "U" + little_endian(letters.size(), 1) : "X" + little_endian(letters.size(), 4)) +
         letters;
}

std::string bytes(Writer writer, const std::string& contents) {
  if (writer == Writer::Python2) return "T" + little_endian(contents.size(), 4) + contents;
  if (writer == Writer::Protocol5) return "\x96" + little_endian(contents.size(), 8) + contents;
  std::string utf8;
  for (const char byte : contents) {
    const auto code = static_cast<unsigned char>(byte);
    if (code < 128) {
      utf8 += byte;
    } else {
      utf8 += static_cast<char>(0xc0 | code >> 6);
      utf8 += static_cast<char>(0x80 | (code & 63));
    }
  }
  return "c_codecs\nencode\n" + text(writer, utf8) + text(writer, "latin1") + "\x86R";
}

std::string tuple_of_sizes(int64_t rows, int64_t columns) {
  return "M" + little_endian(static_cast<size_t>(rows), 2) + "M" + little_endian(static_cast<size_t>(columns), 2) +
         "\x86";
}

/// An array of unsigned bytes.
std::string array(Writer writer, const std::string& shape, const std::string& contents, bool by_columns = false) {
  const std::string zero("K\0", 2);
  const std::string type = "cnumpy\ndtype\n" + text(writer, "u1") + "\x89\x88\x87R(K\3" + text(writer, "|") +
                           "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff" + zero + "tb";
  if (writer == Writer::Protocol5) {
    return "cnumpy._core.numeric\n_frombuffer\n(" + bytes(writer, contents) + type + shape +
           text(writer, by_columns ? "F" : "C") + "tR";
  }
  const std::string core = writer == Writer::Python2 ? "cnumpy.core.multiarray\n" : "cnumpy._core.multiarray\n";
  return core + "_reconstruct\ncnumpy\nndarray\n" + zero + "\x85" + bytes(writer, "b") + "\x87R(K\1" + shape + type +
         (by_columns ? "\x88" : "\x89") + bytes(writer, contents) + "tb";
}

std::string list(const std::vector<int>& numbers) {
  std::string result = "](";
  for (const int number : numbers) result += "J" + little_endian(static_cast<size_t>(number), 4);
  return result + "e";
}

std::string dictionary(Writer writer, const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string pickle = writer == Writer::Protocol5 ? "\x80\5}(" : "\x80\2}(";
  for (const auto& [key, value] : entries) pickle += text(writer, key) + value;
  return pickle + "u.";
}

constexpr int64_t pixels = 3072;

/// The byte that image i has at a place of its row.
char shade(size_t image, size_t place) { return static_cast<char>(101 * image + 7 * place + place / 1024); }

std::string rows(size_t first, size_t count, bool by_columns = false) {
  std::string result;
  for (size_t k = 0; k < count * pixels; ++k) {
    result += by_columns ? shade(first + k % count, k / count) : shade(first + k / pixels, k % pixels);
  }
  return result;
}

std::string images(Writer writer, size_t first, size_t count, bool by_columns = false) {
  return array(writer, tuple_of_sizes(static_cast<int64_t>(count), pixels), rows(first, count, by_columns), by_columns);
}

std::string cifar100(Writer writer, const std::vector<int>& labels, size_t first, bool by_columns = false) {
  const std::vector<int> coarse(labels.size(), 3);
  return dictionary(writer, {{"filenames", list({})},
                             {"coarse_labels", list(coarse)},
                             {"fine_labels", list(labels)},
                             {"data", images(writer, first, labels.size(), by_columns)}});
}

void write_cifar100(const fs::path& folder, Writer writer, bool by_columns = false) {
  fs::create_directories(folder);
  write_bytes(folder / "train", cifar100(writer, {99, 0, 42}, 0, by_columns));
  write_bytes(folder / "test", cifar100(writer, {7}, 3, by_columns));
}

void write_cifar10(const fs::path& folder, Writer writer) {
  fs::create_directories(folder);
  for (size_t i = 0; i < 6; ++i) {
    const std::vector<int> labels = {static_cast<int>(i), 9};
    const std::string name = i < 5 ? "data_batch_" + std::to_string(i + 1) : "test_batch";
    write_bytes(folder / name, dictionary(writer, {{"data", images(writer, 2 * i, 2)}, {"labels", list(labels)}}));
  }
}

void expect_split(const LabelledImages& split, const std::vector<int64_t>& labels, size_t first) {
  ASSERT_EQ(split.images.sizes(), (std::vector<int64_t>{std::ssize(labels), 3, 32, 32}));
  ASSERT_TRUE(split.images.is_contiguous());
  const std::string expected = rows(first, labels.size());
  const auto* held = split.images.const_data_ptr<uint8_t>();
  EXPECT_TRUE(std::equal(held, held + split.images.numel(), reinterpret_cast<const uint8_t*>(expected.data())));
  const auto* label = split.labels.const_data_ptr<int64_t>();
  EXPECT_EQ(std::vector<int64_t>(label, label + split.labels.numel()), labels);
}

constexpr Writer writers[] = {Writer::Python2, Writer::Python3, Writer::Protocol5};

TEST(PickledCifar, Cifar100WithItsFineLabels) {
  for (const Writer writer : writers) {
    for (const bool by_columns : {false, true}) {
      const TemporaryFolder folder;
      write_cifar100(folder / "cifar-100-python", writer, by_columns);
      for (const fs::path& named : {folder.path(), fs::path(folder / "cifar-100-python")}) {
        const Dataset dataset = load_dataset("cifar100", named);
        expect_split(dataset.train, {99, 0, 42}, 0);
        expect_split(dataset.test, {7}, 3);
        EXPECT_EQ(dataset.mean, (std::vector<double>{.5071, .4866, .4409}));
      }
    }
  }
}

TEST(PickledCifar, TheFiveBatchesOfCifar10InOrder) {
  for (const Writer writer : writers) {
    const TemporaryFolder folder;
    write_cifar10(folder / "cifar-10-batches-py", writer);
    for (const fs::path& named : {folder.path(), fs::path(folder / "cifar-10-batches-py")}) {
      const Dataset dataset = load_dataset("cifar10", named);
      expect_split(dataset.train, {0, 9, 1, 9, 2, 9, 3, 9, 4, 9}, 0);
      expect_split(dataset.test, {5, 9}, 10);
    }
  }
}

class DamagedPickle : public testing::Test {
 protected:
  void SetUp() override { write_cifar100(folder_.path(), Writer::Python3); }

  /// What is said of this file in place of train, without its name.
  std::string refusal(const std::string& pickle) const {
    write_bytes(folder_ / "train", pickle);
    const std::string message = message_of<UserError>([&] { load_dataset("cifar100", folder_.path()); });
    const std::string beginning = "'" + (folder_ / "train").string() + "'";
    EXPECT_TRUE(message.starts_with(beginning)) << message;
    return message.substr(std::min(message.size(), beginning.size()));
  }

  static std::string with(const std::string& data, const std::string& labels) {
    return dictionary(Writer::Python3, {{"data", data}, {"fine_labels", labels}});
  }

  TemporaryFolder folder_;
};

TEST_F(DamagedPickle, IsRefused) {
  const std::string whole = cifar100(Writer::Python3, {1, 2}, 0);
  EXPECT_EQ(refusal(whole.substr(0, whole.size() / 2)), ": its pickle is truncated");
  EXPECT_EQ(refusal("no pickle"), ": is not a pickle of protocol 2 or later");
  EXPECT_EQ(refusal(""), ": is not a pickle of protocol 2 or later");
  EXPECT_EQ(refusal("\x80\2]."), " is a pickle of something else; expected CIFAR's dictionary");
  EXPECT_EQ(refusal(dictionary(Writer::Python3, {{"labels", list({1})}, {"data", images(Writer::Python3, 0, 1)}})),
            " has no 'fine_labels': is it of another data set?");
}

TEST_F(DamagedPickle, OfOtherContentsIsRefused) {
  const Writer writer = Writer::Python3;
  const std::string other = " has a 'data' of another kind, expected an array of NumPy of bytes, images x 3072";
  EXPECT_EQ(refusal(with(list({1}), list({1}))), other);
  EXPECT_EQ(refusal(with(array(writer, tuple_of_sizes(1, 3071), std::string(3071, 'x')), list({1}))), other);
  EXPECT_EQ(refusal(with(array(writer, tuple_of_sizes(0, pixels), ""), list({}))), other);
  EXPECT_EQ(refusal(with(array(writer, tuple_of_sizes(60000, pixels), rows(0, 1)), list({1}))),
            " holds 3072 bytes for its 60000 images of 3072");
  EXPECT_EQ(refusal(with(images(writer, 0, 2), list({1}))), " holds 2 images and 1 labels");
  EXPECT_EQ(refusal(with(images(writer, 0, 1), list({100}))), " gives image 0 the label 100, expected one of 0 to 99");
  EXPECT_EQ(refusal(with(images(writer, 0, 1), list({-1}))), " gives image 0 the label -1, expected one of 0 to 99");
  EXPECT_EQ(refusal(with(images(writer, 0, 1), "](Ne")),
            " has 'fine_labels' of another kind, expected a list of whole numbers");
}

/// What would run a program when Python read it.
TEST_F(DamagedPickle, IsNeverExecuted) {
  const std::string witness = folder_ / "witness";
  const std::string call = "cos\nsystem\n" + text(Writer::Python3, "touch " + witness) + "\x85R";
  EXPECT_NE(refusal(with(call, list({1}))), "");
  EXPECT_FALSE(fs::exists(witness));
}

}  // namespace
}  // namespace mma::examples
