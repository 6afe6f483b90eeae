// mma-tammes as a user runs it: the figure it prints is the file's, interrupted it keeps the best, bad input is refused
// in one sentence and nothing is overwritten.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <regex>

#include "../child_process.hpp"
#include "../support/test_files.hpp"
#include "support/images/plot.hpp"
#include "tammes/points_file.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;
using Words = std::vector<std::string>;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class MmaTammes : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder_ / name; }

  static std::string output_of(Words words, int exit_code = 0) {
    words.insert(words.begin(), MMA_TAMMES_PROGRAM);
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), exit_code) << child.errors();
    return child.output();
  }

  static std::string refusal(Words words) {
    words.insert(words.begin(), MMA_TAMMES_PROGRAM);
    ChildProcess child(words);
    EXPECT_EQ(child.finish(), 2) << child.output();
    const std::string& text = child.errors();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("mma-tammes: ")) << text;
    return text;
  }

  TemporaryFolder folder_;
};

double printed_angle(const std::string& output) {
  std::smatch match;
  EXPECT_TRUE(std::regex_search(output, match, std::regex("minimal angle +([0-9.]+) degrees"))) << output;
  return std::stod(match[1]);
}

/// By a loop over the file's points.
double angle_of(const std::string& path) {
  const at::Tensor points = read_points(path);
  const auto* p = points.const_data_ptr<double>();
  const int64_t n = points.size(0), d = points.size(1);
  const auto dot = [&](int64_t i, int64_t j) {
    long double sum = 0;
    for (int64_t k = 0; k < d; ++k) sum += static_cast<long double>(p[i * d + k]) * p[j * d + k];
    return sum;
  };
  long double largest = -1;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) largest = std::max(largest, dot(i, j) / std::sqrt(dot(i, i) * dot(j, j)));
  }
  return static_cast<double>(std::acos(largest) * 180 / std::numbers::pi_v<long double>);
}

TEST_F(MmaTammes, FindsTheIcosahedronAndSaysWhatTheFileHolds) {
  for (const char* name : {"p.csv", "p.txt", "p.npy"}) {
    const std::string output = output_of({"solve", "-d", "3", "-n", "12", "--restarts", "2", "--out", at(name)});
    EXPECT_NEAR(printed_angle(output), 63.4349488229, 1e-9);
    EXPECT_NEAR(printed_angle(output), angle_of(at(name)), 2e-10);
    EXPECT_CONTAINS(output, "optimal         63.4349488 degrees: reached (icosahedron)");
    EXPECT_CONTAINS(output, "contacts        30 pairs");
  }
}

TEST_F(MmaTammes, AnswersWithoutASearchWhereItCan) {
  const std::string simplex = output_of({"solve", "-d", "9", "-n", "4"});
  EXPECT_CONTAINS(simplex, "without a search");
  EXPECT_NEAR(printed_angle(simplex), 109.4712206345, 1e-9);
  EXPECT_NEAR(printed_angle(output_of({"solve", "-d", "2", "-n", "360"})), 1, 1e-9);
  EXPECT_NEAR(printed_angle(output_of({"solve", "-d", "1", "-n", "2"})), 180, 1e-9);
  EXPECT_NEAR(printed_angle(output_of({"solve", "-d", "1", "-n", "3"})), 0, 1e-9);
  EXPECT_NEAR(printed_angle(output_of({"solve", "-d", "64", "-n", "128"})), 90, 1e-9);
}

TEST_F(MmaTammes, ThePapersMethodTakesAnyObjective) {
  const std::string output =
      output_of({"solve", "-d", "3", "-n", "4", "--method", "paper", "--objective", "mhe-s0", "--restarts", "1"});
  EXPECT_NEAR(printed_angle(output), 109.47, 0.1);
  EXPECT_CONTAINS(output, "objective mhe-s0");
}

TEST_F(MmaTammes, ImprovesAGivenSetAndNeverMakesItWorse) {
  write_bytes(at("given.csv"), "1,0,0\n0.9,0.1,0\n0,1,0\n-1,0,0.2\n0,-1,0\n0,0,1\n0.1,0,-1\n0.5,0.5,0.5\n");
  const std::string first =
      output_of({"solve", "--start", at("given.csv"), "--restarts", "8", "--out", at("better.csv")});
  EXPECT_NEAR(printed_angle(first), 74.8584922, 1e-6);  // the square antiprism of Schuette and van der Waerden
  const double before = angle_of(at("better.csv"));
  output_of({"solve", "--start", at("better.csv"), "--method", "paper", "--out", at("better.csv")});
  EXPECT_GE(angle_of(at("better.csv")), before - 1e-12);
}

/// As Sloane's tables have them.
TEST_F(MmaTammes, ImprovesOneCoordinateALine) {
  const std::string octahedron = "0.6\n0.8\n0\n-0.6\n-0.8\n0\n-0.8\n0.6\n0\n0.8\n-0.6\n0\n0\n0\n1\n0\n0\n-1\n";
  write_bytes(at("pack.3.6.txt"), octahedron);
  write_bytes(at("points"), octahedron);
  for (const Words& words : {Words{"solve", "--restarts", "1", "--start", at("pack.3.6.txt")},
                             Words{"solve", "--restarts", "1", "--start", at("points"), "-d", "3"}}) {
    const std::string output = output_of(words);
    EXPECT_CONTAINS(output, "6 points in 3 dimensions");
    EXPECT_NEAR(printed_angle(output), 90, 1e-9);
  }
  EXPECT_CONTAINS(refusal({"solve", "--start", at("points")}), "it has one number a line: say by -d how many make");
  EXPECT_CONTAINS(refusal({"solve", "--start", at("points"), "-d", "0"}), "-d 0: at least 1 dimension is needed");
}

TEST_F(MmaTammes, AnInterruptedSearchGivesTheBestSoFar) {
  for (const int signal : {SIGINT, SIGTERM}) {
    ChildProcess child(
        {MMA_TAMMES_PROGRAM, "solve", "-d", "4", "-n", "60", "--restarts", "5000", "--out", at("p.csv")});
    ASSERT_TRUE(child.wait_for_line("annealed"));
    child.send(signal);
    EXPECT_EQ(child.finish(), 128 + signal) << child.errors();
    EXPECT_CONTAINS(child.output(), "interrupted: this is the best so far");
    EXPECT_NEAR(printed_angle(child.output()), angle_of(at("p.csv")), 2e-10);
    EXPECT_GT(angle_of(at("p.csv")), 30);
  }
}

TEST_F(MmaTammes, Table1HoldsEveryColumnAndGoesOnWhereItWas) {
  const Words words = {"table1", "--out", at("table1"), "--largest", "6", "--seeds", "1", "--iterations", "500"};
  const std::string first = output_of(words);
  EXPECT_CONTAINS(first, "d=5 n=6 mhe-s2, seed 1, 500 iterations: ");
  const std::string markdown = read_bytes(at("table1/table1.md"));
  EXPECT_CONTAINS(markdown, "| 3 | 4 | 109.5 | 109.4712206 | 109.4712206 | 109.5 | ");
  EXPECT_EQ(std::ranges::count(read_bytes(at("table1/table1.csv")), '\n'), 4);  // titles, three rows
  const std::string second = output_of(words);
  EXPECT_EQ(second.find("mhe-s2, seed 1"), std::string::npos);  // nothing is computed again
  EXPECT_EQ(read_bytes(at("table1/table1.md")), markdown);
  write_bytes(at("table1/table1-cells.json"), "[1]");
  const std::string foreign = at("table1/table1-cells.json") + " is not what table1 wrote: ";
  EXPECT_CONTAINS(refusal(words), foreign + "it is no object; remove it to begin anew");
  write_bytes(at("table1/table1-cells.json"), std::string(100000, '['));
  EXPECT_CONTAINS(refusal(words), foreign + "it is nested more than 64 deep");
}

TEST_F(MmaTammes, Table1KeepsASecondOneOutOfItsFolder) {
  ChildProcess child({MMA_TAMMES_PROGRAM, "table1", "--out", at("table"), "--iterations", "1000000000"});
  ASSERT_TRUE(child.wait_for_line("")) << child.errors();
  EXPECT_EQ(refusal({"table1", "--out", at("table")}), "mma-tammes: " + at("table") + " is being written by process " +
                                                           std::to_string(child.id()) +
                                                           ": wait for its end, or choose another folder by --out\n");
  child.send(SIGTERM);
  EXPECT_EQ(child.finish(), 128 + SIGTERM) << child.errors();
}

TEST_F(MmaTammes, DrawsItsPictures) {
  if (!plotting_available()) GTEST_SKIP() << "no gnuplot";
  output_of({"solve", "-d", "3", "-n", "6", "--plot", at("sphere.png")});
  output_of({"gradients", "--plot", at("gradients.png"), "--out", at("gradients.csv")});
  for (const char* name : {"sphere.png", "gradients.png"}) {
    EXPECT_TRUE(read_bytes(at(name)).starts_with("\x89PNG")) << name;
  }
  EXPECT_TRUE(read_bytes(at("gradients.csv")).starts_with("angle_radians,cosine (Eq 7),MMA (Eq 8),"));
}

TEST_F(MmaTammes, RefusesBadInputAndOverwritesNothing) {
  write_bytes(at("out.csv"), "old");
  write_bytes(at("nan.csv"), "1,nan\n2,3\n");
  write_bytes(at("good.csv"), "1,0,0\n0,1,0\n0,0,1\n1,1,1\n-1,2,1\n1,1,-4\n2,3,4\n");
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"-d", "3", "-n", "1"}, "-n 1: at least 2 points are needed"},
      {{"-d", "0", "-n", "5"}, "-d 0: at least 1 dimension is needed"},
      {{"-d", "-3", "-n", "5"}, "-d -3: at least 1 dimension is needed"},
      {{"-d", "3"}, "-d and -n are needed"},
      {{"-d", "9999999", "-n", "9999999"}, "at most 67 million numbers"},
      {{"-d", "three", "-n", "5"}, "three"},
      {{"-d", "3", "-n", "5", "--method", "magic"}, "--method magic: one of annealed, paper is needed"},
      {{"-d", "3", "-n", "5", "--method", "paper", "--objective", "magic"}, "--objective magic: one of mma, "},
      {{"-d", "3", "-n", "5", "--objective", "mma"}, "--objective belongs to --method paper"},
      {{"-d", "3", "-n", "5", "--restarts", "0"}, "--restarts 0: at least 1 is needed"},
      {{"-d", "3", "-n", "5", "--restarts", "99999999999999"}, "--restarts 99999999999999: at most 1000000 is needed"},
      {{"-d", "3", "-n", "1000000", "--method", "paper", "--restarts", "50"}, "--restarts 50: at most 22 is needed"},
      {{"-d", "3", "-n", "5", "--threads", "5000"}, "--threads 5000: at most 4096 is needed"},
      {{"-d", "3", "-n", "5", "--threads", "0"}, "--threads 0: at least 1 is needed"},
      {{"-d", "3", "-n", "5", "--seed", "-1"}, "--seed: -1, but a whole number not below 0 is needed"},
      {{"-d", "3", "-n", "5", "--device", "tpu"}, "--device tpu: one of cpu, cuda is needed"},
      {{"-d", "3", "-n", "5", "--format", "xml"}, "--format xml: one of csv, npy, txt is needed"},
      {{"-d", "3", "-n", "5", "--out", at("absent/p.csv")}, "its folder does not exist or cannot be written to"},
      {{"-d", "3", "-n", "5", "--out", folder_.path()}, "this is a folder"},
      {{"-d", "4", "-n", "9", "--plot", at("p.png")}, "--plot draws points in 3 dimensions, not in 4"},
      {{"--start", at("nan.csv")}, "point 1 is not finite"},
      {{"--start", at("absent.csv")}, "cannot read "},
      {{"--start", at("good.csv"), "-n", "9"}, "holds 7 points in 3 dimensions, which -n or -d contradicts"},
      {{"--unheard-of"}, "--unheard-of"},
  };
  for (const auto& [words, sentence] : cases) {
    SCOPED_TRACE(testing::PrintToString(words));
    Words all = {"solve"};
    all.insert(all.end(), words.begin(), words.end());
    if (std::ranges::find(words, "--out") == words.end()) all.insert(all.end(), {"--out", at("out.csv")});
    EXPECT_CONTAINS(refusal(all), sentence);
    EXPECT_EQ(read_bytes(at("out.csv")), "old");
  }
  EXPECT_CONTAINS(refusal({"gradients"}), "--plot or --out is needed");
  EXPECT_CONTAINS(refusal({"table1", "--seeds", "0", "--out", at("t")}), "--seeds 0: at least 1 is needed");
  EXPECT_CONTAINS(refusal({"table1", "--seeds", "99999999", "--out", at("t")}),
                  "--seeds 99999999: at most 10000 is needed");
  EXPECT_CONTAINS(refusal({"table1", "--threads", "5000", "--out", at("t")}), "--threads 5000: at most 4096 is needed");
  EXPECT_CONTAINS(refusal({"dance"}), "dance");
}

TEST_F(MmaTammes, RefusesAGpuThatIsNotThere) {
  const Words words = {MMA_TAMMES_PROGRAM, "solve", "-d",         "3", "-n",       "4",
                       "--method",         "paper", "--restarts", "1", "--device", "cuda"};
  ChildProcess child(words);
  if (child.finish() == 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_CONTAINS(child.errors(), "--device cuda: this machine has no NVIDIA GPU");
}

TEST_F(MmaTammes, NeedsAnOutputForWhatItPrints) {
  const std::vector<Words> all = {{"--help"},
                                  {"solve", "--help"},
                                  {"solve", "-d", "2", "-n", "3"},
                                  {"gradients", "--out", at("figure2.csv")},
                                  {"table1", "--out", at("t"), "--largest", "4", "--seeds", "1", "--iterations", "5"}};
  for (Words words : all) {
    words.insert(words.begin(), MMA_TAMMES_PROGRAM);
    expect_output_needed(words, "mma-tammes");
  }
}

TEST_F(MmaTammes, NamesFilesThatTheSystemRefuses) {
  const std::string name(5000, 'n');
  std::filesystem::create_symlink(at("loop"), at("loop"));
  EXPECT_CONTAINS(refusal({"table1", "--out", at(name)}), "--out " + at(name) + ": this folder cannot be made: File");
  EXPECT_CONTAINS(refusal({"table1", "--out", at("loop")}), at("loop") + ": this folder cannot be made: Too many");
  EXPECT_CONTAINS(refusal({"solve", "-d", "2", "-n", "3", "--out", at(name)}), at(name));
  EXPECT_CONTAINS(refusal({"solve", "--start", at(name)}), at(name));
  EXPECT_CONTAINS(refusal({"solve", "--start", at("loop")}), at("loop"));
  EXPECT_CONTAINS(refusal({"solve", "-d", "3", "-n", "3", "--plot", at(name)}), at(name));
  EXPECT_CONTAINS(refusal({"gradients", "--out", at(name)}), at(name));
}

TEST_F(MmaTammes, HelpShowsAnExampleForEach) {
  EXPECT_EQ(output_of({}), output_of({"--help"}));
  for (const char* job : {"solve", "table1", "gradients"}) {
    EXPECT_CONTAINS(output_of({"--help"}), std::string("mma-tammes ") + job);
    EXPECT_CONTAINS(output_of({job, "--help"}), std::string("  mma-tammes ") + job);
  }
}

}  // namespace
}  // namespace mma::examples
