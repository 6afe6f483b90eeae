// insightface's .bin files: as every Python writes them (make_bin_fixtures.py), and hostile or damaged ones, of which
// nothing is executed.
#include "faces/bin_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "../support/test_files.hpp"
#include "faces/pair_set.hpp"
#include "support/images/image_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;
using namespace std::string_literals;

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(MMA_TEST_DATA) / (name + ".bin");
}

class BinFileTest : public ::testing::Test {
 protected:
  /// Why a file of these bytes is refused, without its name; "" when it is read.
  std::string refusal(const std::string& bytes) const {
    write_bytes(path_, bytes);
    const std::string message = message_of<UserError>([&] { BinFile file(path_); });
    const std::string beginning = path_.string() + ": ";
    EXPECT_TRUE(message.empty() || message.starts_with(beginning)) << message;
    return message.substr(std::min(message.size(), beginning.size()));
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "file.bin";
};

TEST_F(BinFileTest, AsEveryPythonWritesIt) {
  for (const char* name : {"python2", "python3_protocol2", "python3_protocol3", "python3_protocol4",
                           "python3_protocol5", "numpy_protocol2", "numpy_protocol4", "numpy_protocol5",
                           "arrays_protocol2", "arrays_protocol4", "arrays_protocol5", "numpy1", "integers"}) {
    SCOPED_TRACE(name);
    const BinFile file(fixture(name));
    ASSERT_EQ(file.images().size(), 6u);  // each once
    for (int64_t k = 0; k < 6; ++k) {
      const at::Tensor pixels = decode_image(file.images()[static_cast<size_t>(k)], 1, name);
      const at::Tensor expected = ((at::arange(64) * 7 + 41 * k) % 256).reshape({1, 8, 8}).to(at::kByte);
      EXPECT_TRUE(at::equal(pixels, expected)) << k;
    }
    ASSERT_EQ(file.pairs().size(), 4u);
    const std::vector<std::vector<int64_t>> expected = {{0, 1, 1}, {2, 3, 0}, {0, 2, 0}, {4, 5, 1}};
    for (size_t i = 0; i < 4; ++i) {
      const ImagePair& pair = file.pairs()[i];
      EXPECT_EQ((std::vector<int64_t>{pair.first, pair.second, pair.same}), expected[i]) << i;
    }
    EXPECT_EQ(file.name_of(4), fixture(name).string() + ": its image 7 of 8");
  }
}

TEST_F(BinFileTest, FoldsInOrder) {
  const PairSet set = pair_set_of_bin(fixture("python2"), 3);
  EXPECT_EQ(set.ends, (std::vector<int64_t>{0, 2, 3, 4}));
  EXPECT_EQ(set.name, "python2");
  EXPECT_EQ(set.image(4, 3).sizes(), (std::vector<int64_t>{3, 112, 112}));
  EXPECT_EQ(message_of<UserError>([] { pair_set_of_bin(fixture("python2"), 10); }),
            fixture("python2").string() + ": holds 4 pairs; expected at least one in each of 10 folds");
}

TEST_F(BinFileTest, WhatIsNoImageIsNamedWhenItIsNeeded) {
  for (const char* name : {"not_images", "truncated_image"}) {
    const PairSet set = pair_set_of_bin(fixture(name), 2);
    EXPECT_EQ(set.image(0, 1).size(0), 1);
    const std::string message = message_of<UserError>([&] { set.image(3, 1); });
    EXPECT_TRUE(message.starts_with(fixture(name).string() + ": its image 4 of 8")) << message;
  }
}

TEST_F(BinFileTest, HostileFilesOfPython) {
  for (const char* name : {"hostile_protocol2", "hostile_protocol4"}) {
    EXPECT_EQ(message_of<UserError>([&] { BinFile file(fixture(name)); }),
              fixture(name).string() +
                  ": refers to Python's posix.system, which is not plain data; expected tensors, "
                  "numbers and texts alone");
  }
  EXPECT_FALSE(std::filesystem::exists("hostile-was-here"));
}

// By hand. A file is a tuple of the list of images ("]" or "](...e") and the list of truths.

std::string pickle(const std::string& images, const std::string& truths) {
  return "\x80\x02" + images + truths + "\x86.";
}

const std::string image = "U\x05image";                            // a str of Python 2
const std::string two_images = "](" + image + "U\x05other" + "e";  // as a list
const std::string one_truth =
    "]\x88"
    "a";

TEST_F(BinFileTest, TheHandMadeOneIsRead) { EXPECT_EQ(refusal(pickle(two_images, one_truth)), ""); }

TEST_F(BinFileTest, HostileOpcodes) {
  const std::string command = "X\x04\x00\x00\x00true"s;
  const std::string names_a_function = "which is not plain data";
  for (const std::string& call : {"cos\nsystem\n" + command + "\x85R", "cposix\nsystem\n" + command + "\x85R",
                                  "cbuiltins\neval\n" + command + "\x85R", "c__builtin__\nexec\n" + command + "\x85R",
                                  "X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93"s + command + "\x85R",
                                  "cos\nsystem\n" + command + "\x85\x81", "csubprocess\nPopen\n" + command + "\x85R"}) {
    EXPECT_NE(refusal(pickle(two_images, "](" + call + "e")).find(names_a_function), std::string::npos) << call;
    EXPECT_NE(refusal(pickle("](" + image + call + "e", one_truth)).find(names_a_function), std::string::npos) << call;
    EXPECT_NE(refusal("\x80\x02" + call + ".").find(names_a_function), std::string::npos) << call;
  }
  const std::string opcode = "which is unknown or not allowed";
  EXPECT_NE(refusal(pickle(two_images, "](" + command + "ios\nsystem\ne")).find("os.system, which is not plain data"),
            std::string::npos);  // INST
  EXPECT_NE(refusal(pickle(two_images,
                           "](("
                           "cos\nsystem\n" +
                               command + "oe"))
                .find("os.system"),
            std::string::npos);
  EXPECT_EQ(refusal(pickle(two_images, "](("s + command + "oe")), "its pickle is damaged");  // OBJ
  EXPECT_NE(refusal(pickle(two_images,
                           "](\x82\x01"
                           "e"))
                .find(opcode),
            std::string::npos);  // EXT1
  // A function that may be named makes no object but what it is known for.
  EXPECT_NE(refusal(pickle(two_images, "](c_codecs\nencode\n" + command + command +
                                           "\x86R"
                                           "e")),
            "");
  EXPECT_NE(refusal(pickle(two_images,
                           "](cnumpy\nndarray\nK\x01\x85R"
                           "e")),
            "");
}

TEST_F(BinFileTest, OtherContents) {
  const std::string expected =
      "is a pickle of something else; expected a list of images and a list that says which pairs are the same";
  EXPECT_EQ(refusal("\x80\x02N."), expected);
  EXPECT_EQ(refusal("\x80\x02" + two_images + "."), expected);
  EXPECT_EQ(refusal("\x80\x02" + two_images + "\x85."), expected);
  EXPECT_EQ(refusal("\x80\x02" + two_images + one_truth + "N\x87."), expected);
  EXPECT_EQ(refusal(pickle("}", one_truth)), expected);
  EXPECT_EQ(refusal(pickle(two_images, "N")),
            "has something else than truth values in its second list; expected one for each pair");
  EXPECT_EQ(refusal(pickle(two_images,
                           "]K\x02"
                           "a")),
            "has something else than truth values in its second list; expected one for each pair");
  EXPECT_EQ(refusal(pickle("](" + image + "Ne", one_truth)), "its image 2 is not the bytes of an image file");
  EXPECT_EQ(refusal(pickle("](" + image + "X\x01\x00\x00\x00xe"s, one_truth)),
            "its image 2 is not the bytes of an image file");
  EXPECT_EQ(refusal("no pickle"), "is not a pickle of protocol 2 or later");
  EXPECT_EQ(refusal(""), "is not a pickle of protocol 2 or later");
  EXPECT_EQ(refusal("(lp0\nI01\na."), "is not a pickle of protocol 2 or later");  // of protocol 0
}

TEST_F(BinFileTest, WrongNumberOfImages) {
  EXPECT_EQ(refusal(pickle("](" + image + "e", one_truth)), "holds 1 images for 1 pairs; expected two for each pair");
  EXPECT_EQ(refusal(pickle("](" + image + image + image + "e", one_truth)),
            "holds 3 images for 1 pairs; expected two for each pair");
  EXPECT_EQ(refusal(pickle(two_images,
                           "](\x88\x89"
                           "e")),
            "holds 2 images for 2 pairs; expected two for each pair");
  EXPECT_EQ(refusal(pickle("]", "]")), "holds no pairs");
}

TEST_F(BinFileTest, TruncationsAreRefused) {
  for (const char* name : {"python2", "arrays_protocol5"}) {
    const std::string whole = read_bytes(fixture(name));
    EXPECT_EQ(refusal(whole), "");
    for (size_t missing = 1; missing <= whole.size(); missing += missing < 20 ? 1 : 7) {
      EXPECT_NE(refusal(whole.substr(0, whole.size() - missing)), "") << missing;
    }
  }
}

TEST_F(BinFileTest, BytesAsTextThatAreNone) {
  const auto text = [](const std::string& utf8) {
    return "c_codecs\nencode\nX" + std::string(1, static_cast<char>(utf8.size())) + "\0\0\0"s + utf8 +
           "X\x06\x00\x00\x00latin1\x86R"s;
  };
  const std::string wrong = "is damaged: bytes that are written as text hold other characters";
  EXPECT_EQ(refusal(pickle("](" + image + text("\xc3\xbf\xc2\x80") + "e", one_truth)), "");
  for (const char* utf8 : {"\xc4\x80", "\xe2\x82\xac", "\xc3", "\xc3(", "\xff", "\x80"}) {
    EXPECT_EQ(refusal(pickle("](" + image + text(utf8) + "e", one_truth)), wrong);
  }
}

/// A small file that refers to one large value very often: read in time and memory of its own length.
TEST_F(BinFileTest, Bombs) {
  constexpr size_t pairs = 300'000;
  const std::string large(1'000'000, 'x');
  const std::string size("\x40\x42\x0f\x00", 4);
  std::string references, truths;
  for (size_t i = 0; i < pairs; ++i) {
    references += "h\x01h\x01";
    truths += '\x89';
  }
  const std::string as_bytes = "](T" + size + large +
                               "q\x01"
                               "0" +
                               references + "e";
  EXPECT_EQ(refusal(pickle(as_bytes, "](" + truths + "e")), "");
  const std::string as_text = "](c_codecs\nencode\nX" + size + large +
                              "X\x06\x00\x00\x00latin1\x86Rq\x01"
                              "0"s +
                              references + "e";
  EXPECT_EQ(refusal(pickle(as_text, "](" + truths + "e")), "");
  EXPECT_EQ(BinFile(path_).images().size(), 1u);
  // Each call of encode is an object of its own, with the same text.
  std::string calls =
      "](c_codecs\nencode\nq\x02"
      "0X" +
      size + large +
      "X\x06\x00\x00\x00latin1\x86q\x01"
      "0"s;
  for (size_t i = 0; i < 2 * pairs; ++i) calls += "h\x02h\x01R";
  EXPECT_EQ(refusal(pickle(calls + "e", "](" + truths + "e")), "");
  // A list inside itself.
  EXPECT_NE(refusal("\x80\x02]q\x01h\x01h\x01\x86"
                    "a."s),
            "");
  EXPECT_NE(refusal(pickle("]q\x01(h\x01h\x01"
                           "e",
                           one_truth)),
            "");
}

TEST_F(BinFileTest, AbsentFile) {
  EXPECT_EQ(message_of<UserError>([&] { BinFile file(folder_ / "none.bin"); }),
            "cannot read " + (folder_ / "none.bin").string() + ": No such file or directory");
  EXPECT_EQ(message_of<UserError>([&] { BinFile file(folder_.path()); }),
            "cannot read " + folder_.path().string() + ": Is a directory");
}

}  // namespace
}  // namespace mma::examples
