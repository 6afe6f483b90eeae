// Points in files: every format there and back, what NumPy wrote, and files that nobody should trust.
#include "tammes/points_file.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <sstream>

#include "../support/memory_bounds.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;

const std::string data = std::string(MMA_TEST_DATA) + "/";

at::Tensor fixture() {
  return at::tensor(std::vector<double>{1, 0.5, -0.25, 0.1, -2, 3e-5, -1e10, 7, 0}, at::kDouble).view({3, 3});
}

class PointsFile : public testing::Test {
 protected:
  /// The sentence with which these bytes are refused.
  std::string refusal(const std::string& bytes) const {
    write_bytes(path(), bytes);
    return message_of<UserError>([&] { read_points(path()); });
  }
  void expect_refused(const std::string& bytes, const std::string& sentence) const {
    EXPECT_EQ(refusal(bytes), path() + ": " + sentence);
  }
  at::Tensor read(const std::string& bytes) const {
    write_bytes(path(), bytes);
    return read_points(path());
  }
  std::string path() const { return folder_ / "points"; }

  TemporaryFolder folder_;
};

TEST_F(PointsFile, TakeMemoryByTheirLength) {
  constexpr size_t many = 1'000'000;
  for (const std::string& text :
       {repeated("1\n", many), repeated("1 ", many), repeated(";", many), repeated("\n", many), repeated("1,1\n", many),
        repeated("#\n", many), "\x93NUMPY" + repeated("1", many)}) {
    expect_within(128, path(), text, [&] { read_points(path()); });
  }
}

TEST_F(PointsFile, EveryFormatGivesBackTheSameBits) {
  const at::Tensor points = at::randn({17, 5}, at::kDouble);
  for (const PointsFormat format : {PointsFormat::csv, PointsFormat::txt, PointsFormat::npy}) {
    write_points(path(), points, format);
    EXPECT_TRUE(at::equal(read_points(path()), points));
  }
}

TEST_F(PointsFile, FormatByNameThenByEnding) {
  EXPECT_EQ(points_format("npy", "a.csv"), PointsFormat::npy);
  EXPECT_EQ(points_format("", "a.npy"), PointsFormat::npy);
  EXPECT_EQ(points_format("", "a.txt"), PointsFormat::txt);
  EXPECT_EQ(points_format("", "a.dat"), PointsFormat::csv);
  EXPECT_EQ(points_format("", "a"), PointsFormat::csv);
}

TEST_F(PointsFile, ReadsWhatNumPyWrote) {
  for (const char* name : {"float64.npy", "big_endian.npy", "by_columns.npy"}) {
    EXPECT_TRUE(at::equal(read_points(data + name), fixture())) << name;
  }
  EXPECT_TRUE(at::equal(read_points(data + "float32.npy"), fixture().to(at::kFloat).to(at::kDouble)));
}

TEST_F(PointsFile, WritesTheBytesThatNumPyWrites) {
  write_points(path(), fixture(), PointsFormat::npy);
  EXPECT_EQ(read_bytes(path()), read_bytes(data + "float64.npy"));
}

TEST_F(PointsFile, ReadsTextAsPeopleWriteIt) {
  const at::Tensor expected = at::tensor(std::vector<double>{1.0, 2.0, -0.5, 4e-3}, at::kDouble).view({2, 2});
  for (const char* text :
       {"1,2\n-0.5,4e-3\n", "1 2\n-0.5 4e-3", "# x y\r\n1, 2\r\n\r\n-.5 ,\t.004\r\n", "  +1\t2 \n -5e-1 0.004 "}) {
    EXPECT_TRUE(at::equal(read(text), expected)) << text;
  }
}

/// An octahedron, turned: -p behind p, so that no two points may change places unseen.
const std::vector<double> octahedron = {.6, .8, 0, -.6, -.8, 0, -.8, .6, 0, .8, -.6, 0, 0, 0, 1, 0, 0, -1};

std::string lines_of_octahedron(size_t numbers_a_line, const std::string& separator, double scale = 1) {
  std::ostringstream text;
  for (size_t i = 0; i < octahedron.size(); ++i) {
    text << octahedron[i] * scale << ((i + 1) % numbers_a_line == 0 ? "\r\n" : separator);
  }
  return text.str();
}

TEST_F(PointsFile, ReadsTextOfOtherPrograms) {
  const at::Tensor expected = at::tensor(octahedron, at::kDouble).view({6, 3});
  const std::string commas = lines_of_octahedron(3, ","), blanks = lines_of_octahedron(3, " ");
  for (const std::string& text :
       {"\xef\xbb\xbf" + commas, "x,y,z\n" + commas, "\xef\xbb\xbf\"x\",\"y\",\"z\"\n" + commas, "x y z\n" + blanks,
        "% six points\n" + blanks, "// six points\n" + blanks, "six points, of an octahedron\n\nx y z\n# so\n" + blanks,
        lines_of_octahedron(3, ";"), "x;y;z\n" + lines_of_octahedron(3, ";"), "6\n" + blanks, "6 3\n" + blanks,
        "3,6\n" + commas, lines_of_octahedron(3, "\t"),
        std::string("0,6;0,8;0\n-0,6;-0,8;0\n-0,8;0,6;0\n0,8;-0,6;0\n0;0;1\n0;0;-1\n"),
        std::string(
            ".6, .8, 0; % one\n-.6, -.8, 0; // two\n-.8, .6, 0; # three\n.8, -.6, 0;\n0, 0, 1;\n0, 0, -1;\n")}) {
    EXPECT_TRUE(at::equal(read(text), expected)) << text;
  }
}

/// As in N. J. A. Sloane's tables.
TEST_F(PointsFile, ReadsOneCoordinateALine) {
  const at::Tensor expected = at::tensor(octahedron, at::kDouble).view({6, 3});
  const std::string text = lines_of_octahedron(1, "");
  const auto read_as = [&](const std::string& name, const std::string& bytes, const PointsShape& asked) {
    write_bytes(folder_ / name, bytes);
    return read_points(folder_ / name, asked);
  };
  EXPECT_TRUE(at::equal(read_as("p", text, {.dimension = 3}), expected));
  EXPECT_TRUE(at::equal(read_as("p", text, {.points = 6}), expected));
  EXPECT_TRUE(at::equal(read_as("pack.3.6.txt", text, {}), expected));
  EXPECT_TRUE(at::equal(read_as("p", lines_of_octahedron(18, " "), {.dimension = 3}), expected));
  EXPECT_EQ(read_as("pack.3.6.txt", text, {.dimension = 6}).size(0), 3);  // the user knows better
  EXPECT_EQ(read_as("p", "1\n-1\n", {.dimension = 1}).sizes(), (std::vector<int64_t>{2, 1}));
  const std::string scaled = lines_of_octahedron(1, "", 100);
  EXPECT_TRUE(at::equal(read_as("p", "3 6 1\r\n" + scaled, {}), 100 * expected));
  EXPECT_TRUE(at::equal(read_as("p", "6 3\n" + scaled, {.dimension = 3}), 100 * expected));
  EXPECT_TRUE(at::equal(read_as("pack.3.6.txt", "100\n" + scaled, {}), 100 * expected));
  EXPECT_TRUE(at::equal(read_as("p", "100\n" + scaled, {.points = 6, .dimension = 3}), 100 * expected));
}

TEST_F(PointsFile, RefusesOneCoordinateALineWithoutADimension) {
  const std::string text = lines_of_octahedron(1, "");
  expect_refused(
      text,
      "it has one number a line: say by -d how many make a point (or in its name, as pack.3.6.txt does for 6 "
      "points in 3 dimensions)");
  const auto refusal_of = [&](const std::string& name, const std::string& bytes, const PointsShape& asked) {
    write_bytes(folder_ / name, bytes);
    return message_of<UserError>([&] { read_points(folder_ / name, asked); }).substr((folder_ / name).string().size());
  };
  EXPECT_EQ(refusal_of("p", text, {.dimension = 4}), ": its 18 numbers are no whole number of points in 4 dimensions");
  EXPECT_EQ(refusal_of("p", "7\n" + text, {.dimension = 3}),
            ": its 19 numbers are no whole number of points in 3 dimensions");
  EXPECT_EQ(refusal_of("p", text, {.dimension = 0}), ": -d 0: at least 1 dimension is needed");
  EXPECT_EQ(refusal_of("pack.3.7.txt", text, {}),
            ": its name says 7 points in 3 dimensions, but it holds 18 numbers; -d can say how many make a point");
  EXPECT_EQ(refusal_of("p", "3 6\n" + text, {.dimension = 2}), ": line 1 says 3 x 6 numbers, which -d 2 contradicts");
  EXPECT_EQ(refusal_of("p", "3 7\n" + text, {}), ": line 2 has 1 number, but line 1 has 2");
}

/// Nothing is taken for a point, or for none, in silence.
TEST_F(PointsFile, RefusesHeadingsThatMayBeMore) {
  expect_refused("id,x,y\n1,2,3\n2,3,4\n", "line 1 names a column 'id'; expected coordinates alone");
  expect_refused(",x,y\n1,2,3\n2,3,4\n", "line 1 names a column ''; expected coordinates alone");
  expect_refused("x,y\n1,2,3\n2,3,4\n", "line 2 has 3 numbers, but line 1 has 2");
  expect_refused(
      "\xff\xfe"
      "1",
      "it is text in UTF-16; expected UTF-8");
  const std::string either = "3 2 5\n1 2 3\n4 5 6\n";
  expect_refused(either,
                 "line 1 may be a point or say that 2 points in 3 dimensions follow: say by -n how many there are");
  EXPECT_EQ(read_points(path(), {.points = 2}).size(0), 2);
  EXPECT_EQ(read_points(path(), {.points = 3}).size(0), 3);
}

TEST_F(PointsFile, RefusesTextThatIsNotPoints) {
  expect_refused("", "it holds no points");
  expect_refused("\n\n# nothing\n", "it holds no points");
  expect_refused("1,2,3\n", "it holds a single point; at least 2 are needed");
  expect_refused("1,2\n3,4,5\n", "line 2 has 3 numbers, but line 1 has 2");
  expect_refused("1,2\n3\n", "line 2 has 1 number, but line 1 has 2");
  expect_refused("1,2\n3,4\n\n5,6,7\n", "line 4 has 3 numbers, but line 2 has 2");
  expect_refused("1,2\nx,y\n", "line 2 has 'x' where a number is expected");
  expect_refused("x,2\n3,4\n", "line 1 has 'x' where a number is expected");
  expect_refused("1,2\n3,\n", "line 2 ends in a comma");
  expect_refused("1,2\n,3\n", "line 2 has '' where a number is expected");
  expect_refused("1,2\n3,4abc\n", "line 2 has '4abc' where a number is expected");
  expect_refused("1,2 3\n4,5\n", "line 1 has '2 3' where a number is expected");
  expect_refused("1;2,3,4\n", "line 1 has '2,3,4' where a number is expected");
  expect_refused("1,2\nnan,4\n", "point 2 is not finite");
  expect_refused("inf,2\n3,4\n", "point 1 is not finite");
  expect_refused("1,2\n1e999,4\n", "line 2 has '1e999', which is beyond the range of numbers");
  expect_refused("1,2\n0,0\n3,4\n", "point 2 is zero and so has no direction");
  EXPECT_NE(refusal("\x7f"
                    "ELF\x02\x01\x01 binary"),
            "");
  EXPECT_EQ(message_of<UserError>([&] { read_points(folder_ / "absent"); }),
            "cannot read " + (folder_ / "absent").string() + ": No such file or directory");
  EXPECT_NE(message_of<UserError>([&] { read_points(folder_.path()); }), "");
}

std::string npy(const std::string& header, size_t bytes, char version = 1) {
  std::string text = "\x93NUMPY";
  text += version;
  text += '\0';
  text += static_cast<char>(header.size() % 256);
  text += static_cast<char>(header.size() / 256);
  if (version > 1) text += std::string(2, '\0');
  return text + header + std::string(bytes, '?');
}

TEST_F(PointsFile, RefusesHostileNpy) {
  const auto header = [](const std::string& type, const std::string& shape) {
    return "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  };
  EXPECT_EQ(read(npy(header("<f8", "(2, 2)"), 32)).size(0), 2);
  EXPECT_EQ(read(npy(header("<f8", "(2, 2)"), 32, 2)).size(0), 2);
  const std::string promise = "its npy header promises ";
  expect_refused(npy(header("<f8", "(2, 2)"), 31), promise + "2 x 2 numbers, but 31 bytes follow it");
  expect_refused(npy(header("<f8", "(2, 2)"), 40), promise + "2 x 2 numbers, but 40 bytes follow it");
  expect_refused(npy(header("<f8", "(4294967296, 4294967296)"), 0),
                 promise + "4294967296 x 4294967296 numbers, but 0 bytes follow it");
  expect_refused(npy(header("<f8", "(9999999999, 2)"), 16), promise + "9999999999 x 2 numbers, but 16 bytes follow it");
  expect_refused(npy(header("<f8", "(0, 3)"), 0), "it holds no points");
  expect_refused(npy(header("<f8", "(4,)"), 32), "its shape is (4,); expected (points, dimension)");
  expect_refused(npy(header("<f8", "(2, 1, 2)"), 32), "its shape is (2, 1, 2); expected (points, dimension)");
  expect_refused(npy(header("<i8", "(2, 2)"), 32), "it holds numbers of type '<i8'; expected float64 or float32");
  expect_refused(npy(header("|O", "(2, 2)"), 32), "it holds numbers of type '|O'; expected float64 or float32");
  expect_refused(npy("__import__('os').system('true')\n", 32), "its npy header is not that of a matrix of numbers");
  expect_refused(npy("", 0), "its npy header is not that of a matrix of numbers");
  expect_refused(npy(header("<f8", "(2, 2)"), 32, 9), "it is not a whole npy file");
  expect_refused("\x93NUMPY", "it is not a whole npy file");
  expect_refused(npy(header("<f8", "(2, 2)"), 32).substr(0, 40), "it is not a whole npy file");
  EXPECT_NE(refusal(npy(std::string(60000, '('), 32)), "");
}

TEST_F(PointsFile, AFailedWriteLeavesWhatWasThere) {
  EXPECT_NE(message_of<UserError>([&] { write_points(folder_ / "no" / "p.csv", fixture(), PointsFormat::csv); }), "");
}

}  // namespace
}  // namespace mma::examples
