// LFW's pairs.txt and what is made of it: what it says, and sentences that name the line where it says something else.
#include "faces/pairs_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "../support/memory_bounds.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

constexpr const char* two_folds =
    "2\t2\n"
    "Abel\t1\t4\n"
    "Bea_von_X\t2\t1\n"
    "Abel\t1\tCarl\t7\n"
    "Dora\t1\tCarl\t12345\n"
    "Eve\t1\t2\n"
    "Eve\t1\t3\n"
    "Abel\t4\tEve\t3\n"
    "Dora\t2\tAbel\t1\n";

class PairsFileTest : public ::testing::Test {
 protected:
  PairsFile read(const std::string& text) const {
    write_bytes(path_, text);
    return read_pairs_file(path_);
  }

  /// What is wrong with the text, without the file's name.
  std::string refusal(const std::string& text) const {
    const std::string message = message_of<UserError>([&] { read(text); });
    const std::string beginning = path_.string() + ", ";
    EXPECT_TRUE(message.starts_with(beginning)) << message;
    return message.substr(std::min(message.size(), beginning.size()));
  }

  /// The same of the two folds with one line replaced.
  std::string refusal_of_line(int number, const std::string& line) const {
    std::string text = two_folds;
    size_t begin = 0;
    for (int i = 1; i < number; ++i) begin = text.find('\n', begin) + 1;
    return refusal(text.replace(begin, text.find('\n', begin) - begin, line));
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "pairs.txt";
};

std::vector<std::string> names_of(const PairsFile& file, size_t pair) {
  const auto name = [&](int64_t image) { return file.images[static_cast<size_t>(image)].name(); };
  return {name(file.pairs[pair].first), name(file.pairs[pair].second)};
}

using Names = std::vector<std::string>;

TEST_F(PairsFileTest, PairsInOrder) {
  const PairsFile file = read(two_folds);
  EXPECT_EQ(file.folds, 2);
  ASSERT_EQ(file.pairs.size(), 8u);
  EXPECT_EQ(names_of(file, 0), (Names{"Abel/Abel_0001", "Abel/Abel_0004"}));
  EXPECT_EQ(names_of(file, 1), (Names{"Bea_von_X/Bea_von_X_0002", "Bea_von_X/Bea_von_X_0001"}));
  EXPECT_EQ(names_of(file, 3), (Names{"Dora/Dora_0001", "Carl/Carl_12345"}));
  EXPECT_EQ(names_of(file, 7), (Names{"Dora/Dora_0002", "Abel/Abel_0001"}));
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(file.pairs[i].same, i % 4 < 2) << i;
}

TEST_F(PairsFileTest, EachImageOnce) {
  const PairsFile file = read(two_folds);
  EXPECT_EQ(file.images.size(), 11u);
  EXPECT_EQ(file.pairs[0].first, file.pairs[2].first);
  EXPECT_EQ(file.pairs[0].first, file.pairs[7].second);
  EXPECT_EQ(file.images[0].line, 2);
  EXPECT_EQ(file.images.back().name(), "Dora/Dora_0002");
  EXPECT_EQ(file.images.back().line, 9);
}

TEST_F(PairsFileTest, BlanksWindowsLinesAndEmptyLines) {
  std::string text = two_folds;
  std::ranges::replace(text, '\t', ' ');
  for (size_t i = 0; (i = text.find('\n', i)) != std::string::npos; i += 4) text.replace(i, 1, "\r\n\r\n");
  EXPECT_EQ(read(text).pairs.size(), 8u);
  text = two_folds;
  text.pop_back();
  EXPECT_EQ(read(text).pairs.size(), 8u);
}

TEST_F(PairsFileTest, AByteOrderMarkIsNoWord) {
  EXPECT_EQ(names_of(read(std::string("\xef\xbb\xbf") + two_folds), 7), (Names{"Dora/Dora_0002", "Abel/Abel_0001"}));
}

/// pairsDevTrain.txt and pairsDevTest.txt.
TEST_F(PairsFileTest, OneNumberMeansOneFold) {
  const PairsFile file = read("2\nAbel\t1\t4\nBea\t1\t2\nAbel\t1\tBea\t2\nBea\t1\tCarl\t1\n");
  EXPECT_EQ(file.folds, 1);
  ASSERT_EQ(file.pairs.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(file.pairs[i].same, i < 2) << i;
  EXPECT_EQ(names_of(file, 3), (Names{"Bea/Bea_0001", "Carl/Carl_0001"}));
  EXPECT_EQ(
      refusal("2\nAbel 1 4\nBea 1 2\nAbel 1 Bea 2\n"),
      "line 5: expected a name, a number, another name and a number (2 of 2 different pairs in fold 1), found the "
      "end of the file");
}

/// The pairs of two_folds as Kaggle has them: lines of one identity end in a comma.
std::string kaggles(const std::string& text) {
  std::istringstream lines(text.substr(text.find('\n') + 1));
  std::string csv = "name,imagenum1,imagenum2,\n";
  for (std::string line; std::getline(lines, line);) {
    std::ranges::replace(line, '\t', ',');
    csv += line + (std::ranges::count(line, ',') == 2 ? ",\n" : "\n");
  }
  return csv;
}

TEST_F(PairsFileTest, KagglesTable) {
  const PairsFile expected = read(two_folds);
  for (const char* mark : {"", "\xef\xbb\xbf"}) {
    const PairsFile file = read(mark + kaggles(two_folds));
    EXPECT_EQ(file.folds, 2);
    ASSERT_EQ(file.pairs.size(), 8u);
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(file.pairs[i].same, expected.pairs[i].same) << i;
      EXPECT_EQ(names_of(file, i), names_of(expected, i)) << i;
    }
  }
  const std::string uneven = "name,imagenum1,imagenum2\nA,1,2\nA,1,B,1\nA,1,3\nB,1,2\n";
  EXPECT_EQ(read(uneven).folds, 1);
  EXPECT_EQ(read("name,imagenum1,imagenum2\nA,1,B,1\nA,1,2\n").folds, 1);
  EXPECT_EQ(refusal(uneven + "A,1\n"), "line 6: expected a name, a number, another name and a number, found 'A,1'");
  EXPECT_EQ(refusal(uneven + "A,1,x\n"), "line 6: expected a name and two numbers of its images, found 'A,1,x'");
}

TEST_F(PairsFileTest, ATableOfOneKindIsRefused) {
  const auto refusal_of = [&](const std::string& text) { return message_of<UserError>([&] { read(text); }); };
  EXPECT_EQ(refusal_of("name,imagenum1,imagenum2\nA,1,2\n"),
            path_.string() + ": has no different pair; expected both kinds in one file, as in pairs.csv");
  EXPECT_EQ(refusal_of("name,imagenum1,name,imagenum2\nA,1,B,1\n"),
            path_.string() + ": has no pair of one identity; expected both kinds in one file, as in pairs.csv");
  EXPECT_EQ(refusal_of("name,imagenum1,imagenum2\n"),
            path_.string() + ": has no pair of one identity; expected both kinds in one file, as in pairs.csv");
}

TEST_F(PairsFileTest, TheStyleOfCplfwIsNamed) {
  EXPECT_EQ(
      refusal("Ada_1.jpg 1\nAda_2.jpg 1\n"),
      "line 1: a list of images in the style of CPLFW is not read; expected LFW's, which begins as '10 300', found "
      "'Ada_1.jpg 1'");
}

TEST_F(PairsFileTest, DamagedLinesAreNamed) {
  const std::string header =
      "line 1: expected the number of folds and that of the pairs of each kind in a fold, as '10 300' (for one fold "
      "'300'), found ";
  EXPECT_EQ(refusal(""), header + "the end of the file");
  EXPECT_EQ(refusal("10 300 5\n"), header + "'10 300 5'");
  EXPECT_EQ(refusal("-300\n"), header + "'-300'");
  EXPECT_EQ(refusal("0 300\n"), header + "'0 300'");
  EXPECT_EQ(refusal("10 -3\n"), header + "'10 -3'");
  EXPECT_EQ(refusal("10 3.5\n"), header + "'10 3.5'");
  EXPECT_EQ(refusal("10 99999999999999999999\n"), header + "'10 99999999999999999999'");
  EXPECT_EQ(refusal("4000000000 4000000000\n"), header + "'4000000000 4000000000'");

  const std::string same = "expected a name and two numbers of its images (1 of 2 pairs of one identity in fold 1)";
  EXPECT_EQ(refusal_of_line(2, "Abel 1"), "line 2: " + same + ", found 'Abel 1'");
  EXPECT_EQ(refusal_of_line(2, "Abel 1 Carl 2"), "line 2: " + same + ", found 'Abel 1 Carl 2'");
  EXPECT_EQ(refusal_of_line(2, "Abel one 2"), "line 2: " + same + ", found 'Abel one 2'");
  EXPECT_EQ(refusal_of_line(2, "Abel 1 0"), "line 2: " + same + ", found 'Abel 1 0'");
  EXPECT_EQ(refusal_of_line(2, "../x 1 2"), "line 2: " + same + ", found '../x 1 2'");
  EXPECT_EQ(refusal_of_line(2, "Abel 1 1"),
            "line 2: expected two images, not the same one twice (1 of 2 pairs of one identity in fold 1), found "
            "'Abel 1 1'");

  const std::string different =
      "expected a name, a number, another name and a number (2 of 2 different pairs in fold 2)";
  EXPECT_EQ(refusal_of_line(9, "Dora 2 3"), "line 9: " + different + ", found 'Dora 2 3'");
  EXPECT_EQ(refusal_of_line(9, "Dora 2 Eve 3 4"), "line 9: " + different + ", found 'Dora 2 Eve 3 4'");
  EXPECT_EQ(refusal_of_line(9, "Dora 2 Dora 3"),
            "line 9: expected two names, not the same one twice (2 of 2 different pairs in fold 2), found "
            "'Dora 2 Dora 3'");
}

TEST_F(PairsFileTest, TooFewAndTooManyLines) {
  EXPECT_EQ(refusal_of_line(9, ""),
            "line 10: expected a name, a number, another name and a number (2 of 2 different pairs in fold 2), found "
            "the end of the file");
  EXPECT_EQ(refusal(std::string(two_folds) + "Zoe 1 2\n"),
            "line 10: expected the end of the file after 8 pairs, found 'Zoe 1 2'");
}

TEST_F(PairsFileTest, TakesMemoryByItsLength) {
  std::string of_a_name, of_others = "name,imagenum1,matchpair,imagenum2\n";
  for (int i = 1; i <= 100'000; ++i) {
    of_a_name += "a " + std::to_string(2 * i) + ' ' + std::to_string(2 * i + 1) + '\n';
    of_others += std::to_string(i) + ",1,x" + std::to_string(i) + ",1\n";
  }
  for (const std::string& text :
       {repeated("\n", 1'000'000), repeated("a ", 1'000'000), "100000\n" + of_a_name, of_others}) {
    expect_within(128, folder_ / "pairs.txt", text, [&] { read_pairs_file(folder_ / "pairs.txt"); });
  }
}

TEST_F(PairsFileTest, AbsentFile) {
  EXPECT_EQ(message_of<UserError>([&] { read_pairs_file(folder_ / "none.txt"); }),
            "cannot read " + (folder_ / "none.txt").string() + ": No such file or directory");
  EXPECT_EQ(message_of<UserError>([&] { read_pairs_file(folder_.path()); }),
            "cannot read " + folder_.path().string() + ": Is a directory");
}

class FindImagesTest : public PairsFileTest {
 protected:
  void touch(const std::string& name) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    write_bytes(folder_ / name, "");
  }
  void touch_all(const PairsFile& file) const {
    for (const NamedImage& image : file.images) touch(image.name() + ".jpg");
  }
};

TEST_F(FindImagesTest, EachOfTheEndings) {
  const PairsFile file = read("1 1\nA 1 2\nA 1 B 3\n");
  touch("A/A_0001.pgm");
  touch("A/A_0002.png");
  touch("B/B_0003.jpg");
  const auto paths = find_images(file.images, folder_.path(), "pairs.txt");
  ASSERT_EQ(paths.size(), 3u);
  EXPECT_EQ(paths[0], folder_ / "A/A_0001.pgm");
  EXPECT_EQ(paths[1], folder_ / "A/A_0002.png");
  EXPECT_EQ(paths[2], folder_ / "B/B_0003.jpg");
}

TEST_F(FindImagesTest, EndingsInAnyCaseAndNoHiddenFiles) {
  const PairsFile file = read("1 1\nA 1 2\nA 1 B 3\n");
  touch("A/A_0001.JPEG");
  touch("A/A_0001.png");  // .jpeg comes first
  touch("A/._A_0002.jpg");
  touch("A/A_0002.Png");
  touch("B/B_0003.JPG");
  const auto paths = find_images(file.images, folder_.path(), "pairs.txt");
  ASSERT_EQ(paths.size(), 3u);
  EXPECT_EQ(paths[0], folder_ / "A/A_0001.JPEG");
  EXPECT_EQ(paths[1], folder_ / "A/A_0002.Png");
  EXPECT_EQ(paths[2], folder_ / "B/B_0003.JPG");
}

TEST_F(FindImagesTest, AFolderInAFolderOfTheSameName) {
  const PairsFile file = read("1 1\nA 1 2\nA 1 lfw 3\n");
  for (const char* name : {"lfw/lfw/A/A_0001.jpg", "lfw/lfw/A/A_0002.jpg", "lfw/lfw/lfw/lfw_0003.jpg"}) touch(name);
  const std::vector<std::filesystem::path> expected = {
      folder_ / "lfw/lfw/A/A_0001.jpg", folder_ / "lfw/lfw/A/A_0002.jpg", folder_ / "lfw/lfw/lfw/lfw_0003.jpg"};
  for (const char* named : {"lfw", "lfw/", "lfw/lfw"}) {
    EXPECT_EQ(find_images(file.images, folder_ / named, "pairs.txt").back().lexically_normal(), expected.back())
        << named;
  }
}

TEST_F(FindImagesTest, NamesMayBeTooLongForAFolder) {
  const std::string name(300, 'x');
  const PairsFile file = read("1 1\n" + name + " 1 2\nA 1 B 3\n");
  EXPECT_EQ(message_of<UserError>([&] { find_images(file.images, folder_.path(), "pairs.txt"); }),
            folder_.path().string() + " has no folder " + name +
                ", which pairs.txt, line 2, names (and 3 more images are absent)");
}

TEST_F(FindImagesTest, AbsentImagesAreNamed) {
  const PairsFile file = read(two_folds);
  touch_all(file);
  const auto refusal = [&] {
    return message_of<UserError>([&] { find_images(file.images, folder_.path(), "pairs.txt"); });
  };
  EXPECT_EQ(refusal(), "");
  const std::string first = (folder_ / "Carl/Carl_0007.jpg").string();
  std::filesystem::remove(first);
  EXPECT_EQ(refusal(), first + ", which pairs.txt, line 4, names, is absent, and so are .jpeg, .png and .pgm");
  std::filesystem::remove_all(folder_ / "Eve");
  EXPECT_EQ(refusal(), first +
                           ", which pairs.txt, line 4, names, is absent, and so are .jpeg, .png and .pgm (and 3 more "
                           "images are absent)");
  touch("Carl/Carl_0007.jpg");
  EXPECT_EQ(refusal(), folder_.path().string() +
                           " has no folder Eve, which pairs.txt, line 6, names (and 2 more images are "
                           "absent)");
  EXPECT_EQ(message_of<UserError>([&] { find_images(file.images, folder_ / "no", "pairs.txt"); }),
            "--images " + (folder_ / "no").string() + ": is no folder; expected one with a folder for each identity");
}

}  // namespace
}  // namespace mma::examples
