// The program mma-angles as users run it: its figures against a plain double loop, its sentences and exit codes.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "../child_process.hpp"
#include "../support/test_files.hpp"
#include "angles/measuring_progress.hpp"
#include "support/files/tensor_file.hpp"
#include "support/images/plot.hpp"

namespace mma::examples {
namespace {

using namespace mma::tests;
using nlohmann::json;

/// The program, with an environment of its own: "NAME=value".
Outcome run_angles(const std::vector<std::string>& arguments, const std::string& environment = "") {
  std::vector<std::string> words = {MMA_ANGLES};
  if (!environment.empty()) words = {"/usr/bin/env", environment, MMA_ANGLES};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return outcome_of(words);
}

/// Numbers without pattern, in [-0.5, 0.5), the same on every machine.
at::Tensor scattered(const std::vector<int64_t>& shape, uint64_t seed) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  uint64_t state = seed;
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tensor.data_ptr<float>()[i] = static_cast<float>(static_cast<double>(state >> 40) / (1 << 24) - 0.5);
  }
  return tensor;
}

using Rows = std::vector<std::vector<double>>;

struct Expected {
  double minimal_angle = 180;
  double mean_nearest_angle = 0;
  int64_t pairs_above = 0;
  std::vector<int64_t> histogram = std::vector<int64_t>(100, 0);
};

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    ab += a[k] * b[k];
    aa += a[k] * a[k];
    bb += b[k] * b[k];
  }
  return ab / std::sqrt(aa * bb);
}

/// The definitions, written out over all pairs of each group.
Expected expected_of(const std::vector<Rows>& groups, double threshold) {
  Expected expected;
  double sum = 0;
  size_t count = 0;
  for (const Rows& rows : groups) {
    for (size_t i = 0; i < rows.size(); ++i) {
      double nearest = 180;
      for (size_t j = 0; j < rows.size(); ++j) {
        if (i == j) continue;
        const double c = cosine(rows[i], rows[j]);
        nearest = std::min(nearest, std::acos(c) * 180 / std::numbers::pi);
        if (i < j) expected.pairs_above += c > threshold;
        if (i < j) ++expected.histogram[static_cast<size_t>((c + 1) / 0.02)];
      }
      sum += nearest;
      ++count;
      expected.minimal_angle = std::min(expected.minimal_angle, nearest);
    }
  }
  expected.mean_nearest_angle = sum / static_cast<double>(count);
  return expected;
}

/// Row i of a weight [rows, ...] or, transposed, of a weight [in, rows, ...], element by element.
Rows rows_of(const at::Tensor& weight, bool transposed = false) {
  const at::Tensor matrix = weight.reshape({weight.size(0), transposed ? weight.size(1) : 1, -1});
  const int64_t count = transposed ? matrix.size(1) : matrix.size(0);
  Rows rows(static_cast<size_t>(count));
  for (int64_t i = 0; i < matrix.size(0); ++i) {
    for (int64_t j = 0; j < matrix.size(1); ++j) {
      for (int64_t k = 0; k < matrix.size(2); ++k) {
        rows[static_cast<size_t>(transposed ? j : i)].push_back(matrix[i][j][k].item<double>());
      }
    }
  }
  return rows;
}

void expect_layer(const json& layer, const std::string& name, const Expected& expected) {
  EXPECT_EQ(layer.at("name"), name);
  EXPECT_NEAR(layer.at("minimal_angle_degrees").get<double>(), expected.minimal_angle, 1e-4) << name;
  EXPECT_NEAR(layer.at("mean_nearest_angle_degrees").get<double>(), expected.mean_nearest_angle, 1e-4) << name;
  EXPECT_EQ(layer.at("pairs_above"), expected.pairs_above) << name;
  EXPECT_EQ(layer.at("cosine_histogram").get<std::vector<int64_t>>(), expected.histogram) << name;
}

class AnglesTest : public ::testing::Test {
 protected:
  std::string write(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                    const std::map<std::string, std::string>& metadata = {}) const {
    write_tensor_file(path_, {tensors, metadata});
    return path_;
  }

  json layers(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {path_, "--json"});
    const Outcome outcome = run_angles(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    return json::parse(outcome.output).at("layers");
  }

  std::vector<std::string> layer_names(const std::vector<std::string>& arguments) const {
    std::vector<std::string> names;
    for (const json& layer : layers(arguments)) names.push_back(layer.at("name"));
    return names;
  }

  void expect_refused(const std::vector<std::string>& arguments, const std::string& sentence) const {
    const Outcome outcome = run_angles(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.output, "mma-angles: " + sentence + "\n");
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "weights.safetensors";
};

using Names = std::vector<std::string>;

TEST_F(AnglesTest, FiguresOfLinearAndConvolution) {
  const at::Tensor conv = scattered({16, 3, 3, 3}, 1);
  const at::Tensor linear = scattered({20, 8}, 2);
  write({{"conv.weight", conv}, {"conv.bias", scattered({16}, 3)}, {"fc.weight", linear}});
  const json measured = layers({});
  ASSERT_EQ(measured.size(), 2u);
  expect_layer(measured[0], "conv", expected_of({rows_of(conv)}, 0.2));
  expect_layer(measured[1], "fc", expected_of({rows_of(linear)}, 0.2));
  EXPECT_EQ(measured[0].at("rows"), 16);
  EXPECT_EQ(measured[0].at("dimension"), 27);
}

TEST_F(AnglesTest, CosineThreshold) {
  const at::Tensor linear = scattered({20, 8}, 2);
  write({{"fc.weight", linear}});
  for (const char* threshold : {"-1", "-0.3", "0", "0.5"}) {
    expect_layer(layers({"--cosine", threshold})[0], "fc", expected_of({rows_of(linear)}, std::stod(threshold)));
  }
}

TEST_F(AnglesTest, TransposedConvolution) {
  const at::Tensor weight = scattered({4, 6, 3, 3}, 4);
  write({{"up.weight", weight}});
  const json layer = layers({"--transposed", "up"})[0];
  expect_layer(layer, "up", expected_of({rows_of(weight, true)}, 0.2));
  EXPECT_EQ(layer.at("rows"), 6);
  EXPECT_EQ(layer.at("dimension"), 36);
}

TEST_F(AnglesTest, GroupedConvolution) {
  const at::Tensor weight = scattered({12, 2, 3, 3}, 5);
  write({{"grouped.weight", weight}});
  const Rows rows = rows_of(weight);
  const std::vector<Rows> thirds = {
      {rows.begin(), rows.begin() + 4}, {rows.begin() + 4, rows.begin() + 8}, {rows.begin() + 8, rows.end()}};
  const json layer = layers({"--groups", "gr*=3"})[0];
  expect_layer(layer, "grouped", expected_of(thirds, 0.2));
  EXPECT_EQ(layer.at("groups"), 3);
  EXPECT_EQ(layer.at("rows"), 4);
}

TEST_F(AnglesTest, WhichTensorsAreLayers) {
  const at::Tensor matrix = scattered({3, 4}, 6);
  write({{"b.weight", matrix},
         {"a.weight", matrix.to(at::kHalf)},
         {"norm.weight", scattered({4}, 7)},
         {"counts.weight", at::arange(6).reshape({2, 3})},
         {"lstm.weight_ih_l0", matrix.to(at::kDouble)},
         {"attention.in_proj_weight", matrix}});
  EXPECT_EQ(layer_names({}), (Names{"b", "a", "attention.in_proj_weight"}));
  EXPECT_EQ(layer_names({"--include", "lstm.*"}), (Names{"b", "a", "lstm.weight_ih_l0", "attention.in_proj_weight"}));
  EXPECT_EQ(layer_names({"--exclude", "a*"}), (Names{"b"}));
  EXPECT_EQ(layer_names({"--exclude", "a", "--exclude", "b.weight"}), (Names{"attention.in_proj_weight"}));
}

TEST_F(AnglesTest, OnlyTheLayersThatAreAskedFor) {
  const at::Tensor matrix = scattered({3, 4}, 6);
  write({{"a.weight", matrix}, {"b.weight", matrix}, {"c.weight", matrix}});
  EXPECT_EQ(layer_names({"--only", "b", "--only", "a.weight"}), (Names{"a", "b"}));
  EXPECT_EQ(layer_names({"--only", "[bc]", "--exclude", "c"}), (Names{"b"}));
}

TEST_F(AnglesTest, SeveralFilesSideBySide) {
  const at::Tensor one = scattered({20, 8}, 2), other = scattered({16, 8}, 3);
  const std::string run = folder_ / "with mma";
  std::filesystem::create_directory(run);
  const std::string checkpoint = run + "/checkpoint.safetensors";
  write_tensor_file(checkpoint, {{{"model.fc.weight", other}}, {{"mma-train", "{}"}}});
  write({{"fc.weight", one}});
  const json measured = layers({checkpoint});  // then the path of write()
  ASSERT_EQ(measured.size(), 2u);
  expect_layer(measured[0], "with mma: fc", expected_of({rows_of(other)}, 0.2));
  expect_layer(measured[1], "weights.safetensors: fc", expected_of({rows_of(one)}, 0.2));
}

TEST_F(AnglesTest, CheckpointOfATraining) {
  const at::Tensor matrix = scattered({3, 4}, 6);
  write({{"model.fc.weight", matrix}, {"optimizer.fc.weight", matrix}}, {{"mma-train", "{}"}});
  EXPECT_EQ(layer_names({}), (Names{"fc"}));
}

TEST_F(AnglesTest, LayersWithoutAngles) {
  at::Tensor with_nan = scattered({3, 4}, 6);
  with_nan[1][2] = std::nan("");
  write({{"one.weight", scattered({1, 5}, 1)}, {"zero.weight", at::zeros({3, 5})}, {"nan.weight", with_nan}});
  for (const json& layer : layers({})) {
    EXPECT_TRUE(layer.at("minimal_angle_degrees").is_null()) << layer;
    EXPECT_NE(layer.at("note"), "") << layer;
  }
}

TEST_F(AnglesTest, Table) {
  write({{"fc.weight", scattered({20, 8}, 2)}});
  const Outcome outcome = run_angles({path_, "--cosine", "0.25"});
  EXPECT_EQ(outcome.exit_code, 0);
  const Expected expected = expected_of({rows_of(scattered({20, 8}, 2))}, 0.25);
  char angle[16];
  snprintf(angle, sizeof angle, "%.3f", expected.minimal_angle);
  for (const char* cell : {"fc ", " 20 ", " 8 ", static_cast<const char*>(angle), "pairs > 0.25", "degrees"}) {
    EXPECT_NE(outcome.output.find(cell), std::string::npos) << cell << '\n' << outcome.output;
  }
}

TEST_F(AnglesTest, Picture) {
  if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  write({{"fc.weight", scattered({20, 8}, 2)}, {"one.weight", scattered({1, 8}, 2)}});
  const auto picture = folder_ / "it's a picture.png";
  write_bytes(picture, "old");
  EXPECT_EQ(run_angles({path_, "--plot", picture}).exit_code, 0);
  const std::string bytes = read_bytes(picture);
  ASSERT_GT(bytes.size(), 5000u);
  EXPECT_EQ(bytes.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(bytes.substr(16, 8), std::string("\0\0\x03\x20\0\0\x01\xf4", 8));  // 800 x 500: one panel, one has no pairs
}

TEST_F(AnglesTest, PictureThatCannotBe) {
  write({{"one.weight", scattered({1, 8}, 2)}});
  const std::string picture = folder_ / "a.png";
  expect_refused({path_, "--plot", picture}, "cannot draw " + picture + ": no layer has two weight vectors");
  write({{"fc.weight", scattered({5, 8}, 2)}});
  const Outcome without = run_angles({path_, "--plot", picture}, "PATH=/nowhere");
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_NE(without.output.find("the program gnuplot is not installed"), std::string::npos) << without.output;
  EXPECT_FALSE(std::filesystem::exists(picture));
  if (!plotting_available()) return;
  const std::string nowhere = folder_ / "no/such/a.png";
  expect_refused({path_, "--plot", nowhere}, "cannot write " + nowhere + ": No such file or directory");
}

/// The figures of PyTorch in float64, in degrees.
struct Figures {
  double minimal, mean;
  int64_t pairs, zero_rows = 0;
};

/// Files that the real tools wrote, and what is right for each of their layers.
TEST_F(AnglesTest, FilesAsPeopleHaveThem) {
  using Layers = std::vector<std::pair<std::string, Figures>>;
  const Figures conv{60.250, 73.850, 4}, fc{54.144, 67.803, 9};
  const Layers both = {{"conv1", conv}, {"fc", fc}};
  const Layers of_libtorch = {{"conv1", {68.224, 78.681, 2}}, {"fc", {49.606, 67.011, 14}}};
  std::vector<std::pair<std::string, Layers>> cases;
  for (const char* name : {"legacy.pth", "legacy_ckpt.pth.tar", "multistep_counter_ckpt.pt", "numpy_array.pt",
                           "dtype_attr.pt", "defaultdict.pt", "compiled.pt", "nested2.pt", "weights_key.pt"}) {
    cases.emplace_back(name, both);
  }
  cases.emplace_back("cpp_torch_save.pt", of_libtorch);
  cases.emplace_back("cpp_pickle_save.pt", of_libtorch);
  cases.emplace_back("pruned.pt", Layers{{"conv1", {71.467, 78.879, 2, 4}}, {"fc", fc}});
  cases.emplace_back("reparametrised.pt", Layers{{"0", {66.532, 71.750, 4}},
                                                 {"1", {55.975, 72.355, 4}},
                                                 {"2", {46.586, 66.126, 2}},
                                                 {"3", {55.213, 60.035, 4}},
                                                 {"4", {90, 90, 0}},
                                                 {"5", {53.304, 66.389, 1}}});
  cases.emplace_back("float8.pt", Layers{{"a", {30.932, 48.071, 4}}});
  cases.emplace_back("complex.pt", Layers{{"a", {43.021, 63.090, 2}}});
  cases.emplace_back("quant.pt", Layers{{"a", {43.669, 64.440, 4}}});
  cases.emplace_back("sparse.pt", Layers{{"a", {18.811, 35.034, 6}}});
  cases.emplace_back("tensor_with_attr.pt", Layers{{"a", {30.700, 59.489, 1}}});
  cases.emplace_back("f8.safetensors", Layers{{"a", {34.830, 52.924, 3}}, {"b", {56.901, 70.737, 2}}});
  cases.emplace_back("u32_mlx.safetensors", Layers{{"b", {49.362, 65.054, 3}}});
  cases.emplace_back("subclass.pt", Layers{{"a", {23.973, 53.580, 3}}});
  for (const auto& [name, expected] : cases) {
    const Outcome outcome = run_angles({std::string(MMA_TEST_DATA) + "/" + name, "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << name << outcome.output;
    const json report = json::parse(outcome.output);
    std::map<std::string, json> measured;
    for (const json& layer : report.at("layers")) measured[layer.at("name")] = layer;
    for (const auto& [layer, figures] : expected) {
      ASSERT_TRUE(measured.contains(layer)) << name << ": " << layer << '\n' << outcome.output;
      EXPECT_NEAR(measured[layer].at("minimal_angle_degrees").get<double>(), figures.minimal, 6e-4) << name << layer;
      EXPECT_NEAR(measured[layer].at("mean_nearest_angle_degrees").get<double>(), figures.mean, 6e-4) << name << layer;
      EXPECT_EQ(measured[layer].at("pairs_above"), figures.pairs) << name << layer;
      EXPECT_EQ(measured[layer].at("zero_rows"), figures.zero_rows) << name << layer;
    }
  }
}

std::string table_of(const std::string& name) { return run_angles({std::string(MMA_TEST_DATA) + "/" + name}).output; }

TEST_F(AnglesTest, RareTensorsAreNamed) {
  EXPECT_NE(table_of("quant.pt").find("1 tensor skipped: q (a quantized tensor)"), std::string::npos);
  EXPECT_NE(table_of("sparse.pt").find("1 tensor skipped: s (a sparse tensor)"), std::string::npos);
  EXPECT_NE(table_of("complex.pt").find("(torch.complex64)"), std::string::npos) << table_of("complex.pt");
  EXPECT_NE(table_of("u32_mlx.safetensors").find("a.weight (torch.uint32)"), std::string::npos);
  EXPECT_NE(table_of("u32_mlx.safetensors").find("1 tensor left out: a.scales; --include shows them"),
            std::string::npos);
  EXPECT_NE(table_of("f8.safetensors").find("torch.float8_e4m3fn"), std::string::npos);
  EXPECT_NE(table_of("pruned.pt").find("pruned"), std::string::npos);
  EXPECT_NE(table_of("lfs-pointer.pt").find("is a pointer of Git LFS"), std::string::npos);
}

TEST_F(AnglesTest, MatricesThatAreNotShownAreCounted) {
  const at::Tensor matrix = scattered({3, 4}, 6);
  std::vector<std::pair<std::string, at::Tensor>> tensors = {{"fc.weight", matrix}, {"off.weight", matrix}};
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) tensors.emplace_back(std::string("lstm.") + name, matrix);
  write(tensors);
  const std::string line =
      "6 tensors left out: lstm.a, lstm.b, lstm.c, lstm.d, lstm.e and 1 more; --include shows them";
  EXPECT_NE(run_angles({path_, "--exclude", "off"}).output.find(line), std::string::npos);
  EXPECT_EQ(run_angles({path_, "--include", "lstm.*"}).output.find("left out"), std::string::npos);
  const Outcome outcome = run_angles({path_, "--json"});
  EXPECT_EQ(json::parse(outcome.output).at("left_out").size(), 6u);
}

TEST_F(AnglesTest, KeyOfTheDictionary) {
  write({{"ema.fc.weight", scattered({3, 4}, 6)}, {"net.fc.weight", scattered({3, 4}, 7)}});
  expect_layer(layers({"--key", "net"})[0], "fc", expected_of({rows_of(scattered({3, 4}, 7))}, 0.2));
  expect_refused({path_, "--key", "x"}, path_ + ": --key x: no tensor's name begins with x.");
}

/// More rows than are compared at a time. Of so many cosines some round to the other side of a bin's edge.
TEST_F(AnglesTest, ManyRows) {
  const at::Tensor weight = scattered({1100, 5}, 8);
  write({{"wte.weight", weight}});
  const json layer = layers({})[0];
  const Expected expected = expected_of({rows_of(weight)}, 0.2);
  EXPECT_NEAR(layer.at("mean_nearest_angle_degrees").get<double>(), expected.mean_nearest_angle, 1e-4);
  EXPECT_NEAR(layer.at("pairs_above").get<double>(), static_cast<double>(expected.pairs_above), 3);
  for (size_t k = 0; k < expected.histogram.size(); ++k) {
    EXPECT_NEAR(layer.at("cosine_histogram")[k].get<double>(), static_cast<double>(expected.histogram[k]), 3) << k;
  }
}

TEST_F(AnglesTest, BadFiles) {
  const std::string absent = folder_ / "absent";
  expect_refused({absent}, "cannot read " + absent + ": No such file or directory");
  write({{"norm.weight", scattered({4}, 7)}, {"counts.weight", at::arange(6).reshape({2, 3})}});
  const std::string expected = "expected floating-point tensors of two or more dimensions whose names end in 'weight'";
  expect_refused({path_}, path_ + ": holds no layers; " + expected +
                              "; 1 tensor skipped: counts.weight (torch.int64); no layer can be like that");
  write({{"matrix", scattered({4, 4}, 7)}});
  expect_refused({path_},
                 path_ + ": no layers are left; " + expected + "; 1 tensor left out: matrix; --include shows them");
  const std::string bytes = read_bytes(path_);
  write_bytes(path_, bytes.substr(0, bytes.size() - 3));
  const Outcome truncated = run_angles({path_});
  EXPECT_EQ(truncated.exit_code, 2);
  EXPECT_NE(truncated.output.find(path_ + ": is truncated"), std::string::npos) << truncated.output;
}

TEST_F(AnglesTest, BadPatterns) {
  write({{"fc.weight", scattered({5, 8}, 2)}});
  const std::string nothing = ": matches none of the file's 1 weights; expected a pattern for names such as fc.weight";
  for (const std::string& option : std::vector<std::string>{"--include", "--exclude", "--only", "--transposed"}) {
    expect_refused({path_, option, "conv*"}, option + " conv*" + nothing);
    expect_refused({path_, option, "[f"}, option + " [f" + nothing);
  }
  expect_refused({path_, "--groups", "conv=2"}, "--groups conv" + nothing);
  expect_refused({path_, "--groups", "fc=2"}, "--groups 2: does not divide the 5 filters of fc.weight");
  for (const std::string& text :
       std::vector<std::string>{"fc", "fc=", "fc=0", "fc=-1", "fc=2x", "=2", "fc=99999999999999999999"}) {
    expect_refused({path_, "--groups", text},
                   "--groups " + text + ": expected GLOB=N with N of at least 1, such as 'layer1.*=32'");
  }
}

TEST_F(AnglesTest, BadOptions) {
  write({{"fc.weight", scattered({5, 8}, 2)}});
  for (const char* cosine : {"2", "-1.5", "nan"}) {
    expect_refused({path_, "--cosine", cosine}, "--cosine: expected a number from -1 to 1");
  }
  EXPECT_EQ(run_angles({path_, "--cosine", "x"}).exit_code, 2);
  EXPECT_EQ(run_angles({path_, "--unknown"}).exit_code, 2);
  EXPECT_EQ(run_angles({}).exit_code, 2);
}

TEST_F(AnglesTest, NeedsAnOutputForWhatItPrints) {
  write({{"fc.weight", scattered({5, 8}, 2)}});
  for (const std::string& last : Names{path_, "--json", "--help", "--version"}) {
    expect_output_needed({MMA_ANGLES, path_, last == path_ ? "--only=fc" : last}, "mma-angles");
  }
}

TEST_F(AnglesTest, NamesFilesThatTheSystemRefuses) {
  const std::string long_name = folder_ / std::string(5000, 'n'), loop = folder_ / "loop";
  std::filesystem::create_symlink(loop, loop);
  expect_refused({long_name}, "cannot read " + long_name + ": File name too long");
  expect_refused({loop}, "cannot read " + loop + ": Too many levels of symbolic links");
}

TEST(MeasuringProgress, Line) {
  EXPECT_EQ(measuring_line("wte", 0.5, 60, 100), "wte [############............]  50 %  1:00 min left");
  EXPECT_EQ(measuring_line("wte", 0, 0, 100), "wte [........................]   0 %");
  EXPECT_EQ(measuring_line("wte", 0.5, 60, 9), "wte [###");
}

TEST_F(AnglesTest, HelpAndVersion) {
  const Outcome help = run_angles({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  for (const char* option :
       {"--key", "--json", "--plot", "--cosine", "--include", "--exclude", "--only", "--transposed", "--groups"}) {
    EXPECT_NE(help.output.find(option), std::string::npos) << option;
  }
  EXPECT_EQ(run_angles({"--version"}).exit_code, 0);
}

}  // namespace
}  // namespace mma::examples
