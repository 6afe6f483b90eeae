// Reports of runs whose files are written here by hand, against figures computed here.
#include "reproduce/report.hpp"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "../temporary_folder.hpp"
#include "made_runs.hpp"
#include "reproduce/report_plots.hpp"
#include "support/files/tensor_file.hpp"
#include "support/images/plot.hpp"

namespace mma::examples {
namespace {

using mma::tests::MadeEpoch;
using mma::tests::write_config;
using mma::tests::write_finished;
using mma::tests::write_metrics;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

class Reports : public testing::Test {
 protected:
  void plan(const std::string& name, Scale scale, std::vector<uint64_t> seeds) {
    PlanOptions options;
    options.scale = scale;
    options.seeds = standing_.seeds = std::move(seeds);
    options.out = folder_.path();
    options.data = {{"cifar100", "c"}, {"tiny-imagenet", "t"}};
    experiment_ = experiments_named({name}).front();
    standing_.plan = make_plan({experiment_}, options);
  }

  const PlannedRun& run(size_t row, uint64_t seed) const { return standing_.plan.run(experiment_, row, seed); }

  void look() {
    standing_.states.clear();
    for (const PlannedRun& run : standing_.plan.runs) standing_.states.push_back(look_at(run.folder, run.settings));
  }

  ExperimentReport report() {
    look();
    return report_of(experiment_, standing_, first_layers_);
  }

  static std::string cell(const TableLines& csv, const std::string& row, const std::string& column) {
    const auto place = std::ranges::find(csv.front(), column);
    if (place == csv.front().end()) return "no column " + column;
    for (const auto& line : csv) {
      if (line.front() == row) return line.at(static_cast<size_t>(place - csv.front().begin()));
    }
    return "no row " + row;
  }

  static double number(const TableLines& csv, const std::string& row, const std::string& column) {
    return std::stod(cell(csv, row, column));
  }

  mma::tests::TemporaryFolder folder_;
  Experiment experiment_;
  Standing standing_;
  FirstLayers first_layers_;
};

const std::vector<std::pair<std::string, double>> vgg19_angles = {
    {"features.0", 10}, {"features.20", 70.5}, {"features.33", 16.25}, {"features.46", 31}, {"classifier", 54}};

class Table3 : public Reports {
 protected:
  enum Row : size_t { baseline, mma, mhe_s2, mhe_s0, orthogonal };

  /// Two epochs each; two seeds of two rows, one of a third, and a run that is not finished.
  Table3() {
    plan("table3", Scale::smoke, {1, 2});
    write(baseline, 1, 70, 72);  // mean 71
    write(baseline, 2, 72, 74);  // mean 73
    write(mma, 1, 74, 74);
    write(mma, 2, 75, 77);
    write(mhe_s2, 2, 70, 70);
    write_config(run(orthogonal, 1));
    write_metrics(run(orthogonal, 1), {{99, 99, vgg19_angles}});
  }

  void write(Row row, uint64_t seed, double first, double second) {
    write_config(run(row, seed));
    write_metrics(run(row, seed), {{first, 91, vgg19_angles, 0.2, 900}, {second, 91, vgg19_angles, 0.4, 1100}});
  }
};

TEST_F(Table3, SetsOurFiguresBesideThePapers) {
  const std::string text = report().markdown;
  EXPECT_CONTAINS(text, "|  | top-1 % | paper | difference | top-5 % | paper | difference | seeds | p |\n");
  EXPECT_CONTAINS(text, "| baseline | 72.00 ± 1.41 | 72.08 | -0.08 | 91.00 ± 0.00 | 90.50 | +0.50 | 2 |  |\n");
  // Welch with 2 degrees of freedom: t = 3 / sqrt(1 + 1), p = 1 - t / sqrt(t^2 + 2).
  EXPECT_CONTAINS(text, "| MMA | 75.00 ± 1.41 | 73.73 | +1.27 | 91.00 ± 0.00 | 91.21 | -0.21 | 2 | 0.1679 |\n");
  EXPECT_CONTAINS(text, "| MHE (s=2) | 70.00 | 71.91 | -1.91 | 91.00 | 90.76 | +0.24 | 1 of 2 | - |\n");
  EXPECT_CONTAINS(text, "p: Welch's t-test of top-1 against baseline");
}

TEST_F(Table3, SaysNotRunWhereNoRunIsFinished) {
  const std::string text = report().markdown;
  EXPECT_CONTAINS(text, "| MHE (s=0) | not run | 72.08 | not run | not run | 90.72 | not run | 0 of 2 | not run |\n");
  EXPECT_CONTAINS(text, "| orthogonal | not run | 72.83 | not run | not run | 90.98 | not run | 0 of 2 | not run |\n");
  EXPECT_CONTAINS(text, "| MHE (s=0) | not run | 0.253 | not run | 5551 |\n");
  EXPECT_CONTAINS(text,
                  "| MHE (s=0) | not run | 69.6 | not run | 48.6 | not run | 57.8 | not run | 63.4 | not run |\n");
  EXPECT_CONTAINS(text,
                  "5 of 10 runs are finished: 5 by mma-train 0.1.0 at commit abc, LibTorch 2.11.0, cpu, float32, "
                  "on a slide rule.");
}

TEST_F(Table3, HasAnglesAndCost) {
  const std::string text = report().markdown;
  EXPECT_CONTAINS(text,
                  "|  | L3-3 | paper | L4-3 | paper | L5-3 | paper | classifier | paper | mean of all layers |\n");
  EXPECT_CONTAINS(text,
                  "| baseline | 70.5 ± 0.0 | 70.1 | 16.2 ± 0.0 | 16.0 | 31.0 ± 0.0 | 30.8 | 54.0 ± 0.0 | 54.0 | "
                  "36.4 ± 0.0 |\n");
  EXPECT_CONTAINS(text, "|  | seconds a step | paper | peak memory, MiB | paper |\n");
  EXPECT_CONTAINS(text, "| MHE (s=2) | 0.400 | 0.259 | 1100 | 5551 |\n");
}

TEST_F(Reports, OfWhatThePaperHasNotSetsTheBaselineBeside) {
  plan("weight-decay", Scale::smoke, {1});
  const std::vector<std::pair<std::string, double>> angles = {
      {"features.11", 80}, {"features.18", 78}, {"features.25", 70}, {"classifier", 30}};
  for (const auto& [row, top1] : std::vector<std::pair<size_t, double>>{{0, 15.5}, {1, 17.75}, {3, 20}}) {
    write_config(run(row, 1));
    write_metrics(run(row, 1), {{top1 - 1, 40, angles}, {top1 + 1, 40, angles}});
  }
  const std::string text = report().markdown;
  EXPECT_CONTAINS(text, "|  | top-1 % | difference to none | seeds | p |\n");
  EXPECT_CONTAINS(text, "| weight decay 1e-4, none | 15.50 |  | 1 |  |\n");
  EXPECT_CONTAINS(text, "| weight decay 1e-4, MMA 0.07 | 17.75 | +2.25 | 1 | - |\n");
  EXPECT_CONTAINS(text, "| weight decay 1e-4, MMA 0.2 | not run | not run | 0 of 1 | not run |\n");
  EXPECT_CONTAINS(text, "| weight decay 5e-4, none | 20.00 |  | 1 |  |\n");
}

TEST_F(Table3, HasEveryDigitAsCsv) {
  const TableLines csv = report().csv;
  for (const auto& line : csv) EXPECT_EQ(line.size(), csv.front().size());
  ASSERT_EQ(csv.size(), 6u);
  EXPECT_EQ(number(csv, "baseline", "top1_percent"), 72);
  EXPECT_NEAR(number(csv, "baseline", "top1_deviation"), std::sqrt(2), 1e-12);
  EXPECT_EQ(number(csv, "MMA", "top1_paper"), 73.73);
  EXPECT_NEAR(number(csv, "MMA", "top1_difference"), 75 - 73.73, 1e-12);
  EXPECT_NEAR(number(csv, "MMA", "p_welch"), 1 - 3 / std::sqrt(13), 1e-9);
  EXPECT_EQ(number(csv, "MMA", "minimal_angle_degrees:L4-3"), 16.25);
  EXPECT_EQ(number(csv, "MMA", "minimal_angle_degrees_paper:L4-3"), 84.7);
  EXPECT_EQ(cell(csv, "baseline", "p_welch"), "");
  EXPECT_EQ(cell(csv, "MHE (s=2)", "top1_deviation"), "");
  for (const char* column : {"top1_percent", "top1_difference", "p_welch", "top5_percent", "seconds_per_step",
                             "minimal_angle_degrees:L3-3", "mean_minimal_angle_degrees", "peak_memory_mib"}) {
    EXPECT_EQ(cell(csv, "MHE (s=0)", column), "not run") << column;
  }
}

TEST_F(Reports, ComparesMmaOfTable4WithTheSameAugmentation) {
  plan("table4", Scale::smoke, {1, 2});
  const std::vector<std::pair<std::string, double>> angles = {{"fc", 80}};
  for (size_t row = 0; row < 3; ++row) {
    write_finished(run(row, 1), {row == 0 ? 10. : row == 1 ? 71. : 74., 90, angles});
    write_finished(run(row, 2), {row == 0 ? 90. : row == 1 ? 73. : 76., 90, angles});
  }
  const TableLines csv = report().csv;
  EXPECT_NEAR(number(csv, "WRN-28-10-Autoaugment-MMA", "p_welch"), 1 - 3 / std::sqrt(13), 1e-9);
  EXPECT_LACKS(report().markdown, "top-5");  // the paper gives none
}

TEST_F(Reports, TakeTheLastAccuracyForFigures3And4) {
  plan("figure3", Scale::smoke, {1, 2});
  const size_t without = 0, best = 3;
  for (const auto& [row, seed, final_top1] :
       {std::tuple<size_t, uint64_t, double>{without, 1, 71}, {without, 2, 73}, {best, 1, 74}, {best, 2, 76}}) {
    write_config(run(row, seed));
    write_metrics(run(row, seed), {{1, 2, vgg19_angles}, {final_top1, 90, vgg19_angles}});
  }
  const ExperimentReport figure = report();
  EXPECT_CONTAINS(figure.markdown, "| 0 | 72.00 ± 1.41 |  | 2 |  |\n");
  EXPECT_CONTAINS(figure.markdown, "| 0.07 | 75.00 ± 1.41 | +3.00 | 2 | 0.1679 |\n");
  EXPECT_CONTAINS(figure.markdown, "| 0.5 | not run | not run | 0 of 2 | not run |\n");
  EXPECT_EQ(number(figure.csv, "0.07", "final_top1_percent"), 75);
  EXPECT_EQ(cell(figure.csv, "0.2", "final_top1_percent"), "not run");
}

TEST_F(Reports, FollowTheEpochsForFigures5And6) {
  plan("figure5", Scale::smoke, {1, 2});
  for (const uint64_t seed : {1U, 2U}) {
    write_config(run(0, seed));
    write_metrics(run(0, seed), {{10 * static_cast<double>(seed), 50, vgg19_angles}, {60, 80, vgg19_angles}});
  }
  EXPECT_CONTAINS(report().markdown, "| baseline | 15.00 ± 7.07 | 60.00 ± 0.00 | 2 |\n");
  EXPECT_CONTAINS(report().markdown, "| MMA | not run | not run | 0 of 2 |\n");
  EXPECT_EQ(cell(report().csv, "2", "MMA_top1_percent"), "not run");
  write_finished(run(1, 1), {55, 80, vgg19_angles});
  EXPECT_EQ(number(report().csv, "1", "baseline_top1_percent"), 15);
  EXPECT_EQ(number(report().csv, "2", "MMA_top1_percent"), 55);
  EXPECT_CONTAINS(report().markdown, "MMA's mean is above the baseline's after 1 of 2 epochs.");
}

/// Four filters, of which two pairs have a cosine of 0.707 and the others of 0.
void write_checkpoint(const PlannedRun& run) {
  at::Tensor filters = at::zeros({4, 3, 3, 3});
  filters[0][0][0][0] = 1;
  filters[1][0][0][0] = 2;
  filters[1][0][0][1] = 2;
  filters[2][0][0][1] = 1;
  filters[3][2][2][2] = 1;
  TensorFile file;
  file.tensors = {{"model.features.0.weight", filters}, {"optimizer.features.0.weight", filters}};
  file.metadata[checkpoint_record_key] = "{}";
  write_tensor_file(run.folder / "checkpoint.safetensors", file);
}

TEST_F(Reports, CountCosinesOfTheFirstLayerForFigure1) {
  plan("figure1", Scale::smoke, {1, 2});
  write_finished(run(3, 2), {50, 80, vgg19_angles});
  write_checkpoint(run(3, 2));
  const ExperimentReport figure = report();
  EXPECT_CONTAINS(figure.markdown, "| baseline | not run | 495 | not run | not run | 0 of 2 |\n");
  EXPECT_CONTAINS(figure.markdown, "| MMA | 2.0 | 0 | +2.0 | 10.0 | 1 of 2 |\n");
  EXPECT_EQ(number(figure.csv, "MMA", "pairs_above_0.2"), 2);
  if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  ASSERT_TRUE(plot_experiment(experiment_, standing_, first_layers_, folder_ / "picture.png"));
  EXPECT_TRUE(mma::tests::read_bytes(folder_ / "picture.png").starts_with("\x89PNG"));
}

class Study : public Reports {
 protected:
  static constexpr size_t none = 0, mma = 1;
  const std::vector<std::pair<std::string, double>> angles = {
      {"features.11", 60}, {"features.18", 61}, {"features.25", 62}, {"classifier", 63}};

  Study() { plan("study", Scale::full, {1, 2, 3}); }

  /// 15 epochs; only the last five count.
  void write(size_t row, uint64_t seed, double top1) {
    std::vector<MadeEpoch> epochs(10, {1, 1, angles});
    for (const double deviation : {-2, -1, 0, 1, 2}) epochs.push_back({top1 + deviation, 70, angles});
    write_config(run(row, seed));
    write_metrics(run(row, seed), epochs);
  }
};

TEST_F(Study, ComparesSeedBySeed) {
  const double without[] = {40, 41, 42}, with[] = {41, 42.5, 43};
  for (const uint64_t seed : {1U, 2U, 3U}) {
    write(none, seed, without[seed - 1]);
    write(mma, seed, with[seed - 1]);
  }
  const ExperimentReport study = report();
  // The differences are 1, 1.5 and 1: mean 7/6, deviation 1/sqrt(12), t = 7, so p = 1 - 7 / sqrt(51).
  const double quantile = 4.302652729911275;  // of Student's t, 2 degrees of freedom, 0.975: from tables
  EXPECT_NEAR(number(study.csv, "MMA", "difference"), 7. / 6, 1e-12);
  EXPECT_NEAR(number(study.csv, "MMA", "t_paired"), 7, 1e-9);
  EXPECT_NEAR(number(study.csv, "MMA", "p_paired"), 1 - 7 / std::sqrt(51), 1e-9);
  EXPECT_NEAR(number(study.csv, "MMA", "low"), 7. / 6 - quantile / 6, 1e-9);
  EXPECT_NEAR(number(study.csv, "MMA", "high"), 7. / 6 + quantile / 6, 1e-9);
  EXPECT_EQ(number(study.csv, "MMA", "minimal_angle_degrees:block 4"), 61);
  EXPECT_CONTAINS(study.markdown, "MMA adds between 0.45 and 1.88 points of top-1 (95 %, 3 pairs): it helps.\n\n|");
  // Welch's p, the smallest detectable effect and the seeds are scipy's (ttest_ind; nct).
  EXPECT_CONTAINS(study.markdown,
                  "| MMA | 42.17 ± 1.04 | 70.00 ± 0.00 | +1.17 | +0.45 to +1.88 | 0.0198 | 0.2342 | 0.94 | 10 | 3 |\n");
  EXPECT_CONTAINS(study.markdown,
                  "| MHE (s=2) | not run | not run | not run | not run | not run | not run | not run | not run | "
                  "0 of 3 |\n");
  if (!plotting_available()) GTEST_SKIP() << "gnuplot is not installed";
  ASSERT_TRUE(plot_experiment(experiment_, standing_, first_layers_, folder_ / "picture.png"));
}

TEST_F(Study, SaysPlainlyWhenMmaDoesNotHelp) {
  for (const uint64_t seed : {1U, 2U, 3U}) write(none, seed, 40 + static_cast<double>(seed));
  EXPECT_EQ(report().markdown.find("helps"), std::string::npos);
  write(mma, 1, 90);
  EXPECT_CONTAINS(report().markdown, "One pair: no interval, no verdict on MMA.\n");
  const double alike[] = {41.5, 41, 43.5}, worse[] = {39, 40.5, 41};
  for (const uint64_t seed : {1U, 2U, 3U}) write(mma, seed, alike[seed - 1]);
  EXPECT_CONTAINS(report().markdown, "The interval of MMA from -");
  EXPECT_CONTAINS(report().markdown, " points of top-1 (95 %, 3 pairs) holds 0: not shown either way.");
  for (const uint64_t seed : {1U, 2U, 3U}) write(mma, seed, worse[seed - 1]);
  EXPECT_CONTAINS(report().markdown, "MMA takes between ");
}

TEST_F(Study, PairsOnlySeedsThatBothHave) {
  write(none, 1, 40);
  write(none, 3, 42);
  write(mma, 2, 90);
  write(mma, 3, 43);
  write(mma, 1, 40.5);
  EXPECT_EQ(cell(report().csv, "MMA", "pairs"), "2");
  EXPECT_NEAR(number(report().csv, "MMA", "difference"), 0.75, 1e-12);
}

TEST_F(Reports, DrawNothingOfNothing) {
  plan("table5", Scale::smoke, {1});
  look();
  EXPECT_FALSE(plot_experiment(experiment_, standing_, first_layers_, folder_ / "picture.png"));
}

}  // namespace
}  // namespace mma::examples
