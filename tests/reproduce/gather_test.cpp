// mma-reproduce gather as a user runs it: on runs written here by hand, whose statistics are scipy's, and on the
// committed ones of a GPU.
#include "reproduce/gather.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "../child_process.hpp"
#include "../support/memory_bounds.hpp"
#include "reproduce/arms.hpp"
#include "reproduce/metrics_csv.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;
using mma::tests::expect_within;
using mma::tests::message_of;
using mma::tests::read_bytes;
using mma::tests::repeated;
using mma::tests::write_bytes;
using nlohmann::ordered_json;
using Words = std::vector<std::string>;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

const std::string csv_head =
    "epoch,learning_rate,loss,regularization_loss,top1_percent,top5_percent,mean_nearest_angle_degrees,pairs_above_0.2,"
    "minimal_angle_degrees:conv,minimal_angle_degrees:fc,seconds,seconds_per_step,peak_memory_mib,finished_at\n";

/// A line of metrics.csv.
std::string csv_line(int epoch, double top1, double angle = 60, double seconds = 9) {
  std::ostringstream line;
  line << epoch << ",0.1,2.5,0," << top1 << ",90.5," << angle << ",7," << angle - 20 << ',' << angle - 10 << ','
       << seconds << ",0.01,655.5,1795834916\n";
  return line.str();
}

/// Six epochs: the last five around top1, which is their mean, the last two points above it.
std::string csv_of(double top1, double angle = 60, double seconds = 9) {
  std::string text = csv_head + csv_line(1, 1, angle, seconds);
  for (int epoch = 2; epoch <= 6; ++epoch) text += csv_line(epoch, top1 + epoch - 4, angle, seconds);
  return text;
}

class Gather : public testing::Test {
 protected:
  std::string at(const std::string& name) const { return folder_ / name; }

  static ordered_json config(const std::string& regularizer, double coefficient, uint64_t seed) {
    Settings settings;
    settings.model = "vgg11-bn-narrow";
    settings.dataset = "cifar100";
    settings.data = "data/cifar-100-binary";
    settings.recipe = "vgg-bn";
    settings.regularizer = regularizer;
    settings.coefficient = coefficient;
    settings.seed = seed;
    settings.epochs = 6;
    settings.batch = 64;
    settings.learning_rate = 0.1;
    settings.milestones = {3, 4};
    return {{"program", "mma-train"},       {"version", "0.1.0"},        {"git_commit", "abc"},
            {"libtorch", "2.11.0"},         {"machine", "a slide rule"}, {"train_images", 50000},
            {"settings", to_json(settings)}};
  }

  void write(const std::string& name, const ordered_json& config, const std::string& csv) const {
    fs::create_directories(at(name));
    write_bytes(at(name + "/config.json"), config.dump());
    write_bytes(at(name + "/metrics.csv"), csv);
  }

  /// "runs/none-1" and so on.
  std::string add(const std::string& regularizer, uint64_t seed, double top1, double angle = 60) const {
    const std::string name = "runs/" + regularizer + "-" + std::to_string(seed);
    write(name, config(regularizer, regularizer == "none" ? 0 : 0.07, seed), csv_of(top1, angle));
    return name;
  }

  void add_three_pairs() const {
    const double without[] = {40, 41, 42}, with[] = {41, 42.5, 43};
    const double angle_without[] = {60, 61, 62}, angle_with[] = {80, 81.5, 83};
    for (const uint64_t seed : {1U, 2U, 3U}) {
      add("none", seed, without[seed - 1], angle_without[seed - 1]);
      add("mma", seed, with[seed - 1], angle_with[seed - 1]);
    }
  }

  Words command(const Words& more) const {
    Words words = {MMA_REPRODUCE_PROGRAM, "gather"};
    words.insert(words.end(), more.begin(), more.end());
    if (std::ranges::count(more, "--out") == 0) words.insert(words.end(), {"--out", at("out")});
    return words;
  }

  std::string output_of(const Words& more) const {
    mma::tests::ChildProcess child(command(more));
    EXPECT_EQ(child.finish(), 0) << child.output() << child.errors();
    return child.output();
  }

  /// Nothing is written then.
  std::string refusal(const Words& more) const {
    mma::tests::ChildProcess child(command(more));
    EXPECT_EQ(child.finish(), 2) << child.output();
    const std::string& text = child.errors();
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_TRUE(text.starts_with("mma-reproduce: ")) << text;
    EXPECT_FALSE(fs::exists(at("out")));
    return text;
  }

  std::string report() const { return read_bytes(at("out/report.md")); }
  ordered_json json() const { return ordered_json::parse(read_bytes(at("out/report.json"))); }

  mma::tests::TemporaryFolder folder_;
};

// The figures of the three pairs are scipy's: ttest_rel, ttest_ind(equal_var=False), nct, pearsonr.
TEST_F(Gather, ReportsPairsOfSeeds) {
  add_three_pairs();
  const std::string output = output_of({at("runs")});
  EXPECT_CONTAINS(output, "counted: " + at("runs/none-1") + " (none, seed 1)\n");
  EXPECT_CONTAINS(output, "mma 0.07 adds between 0.45 and 1.88 points of top-1 (95 %, 3 pairs): it helps.\nreport: " +
                              at("out/report.md") + "\n");
  EXPECT_CONTAINS(report(), "# mma 0.07 against none: vgg11-bn-narrow on cifar100, 6 epochs\n");
  EXPECT_CONTAINS(report(), "**mma 0.07 adds between 0.45 and 1.88 points");
  EXPECT_CONTAINS(report(),
                  "| none | 3 | 41.00 ± 1.00 | 43.00 ± 1.00 | 90.50 ± 0.00 | 61.00 ± 1.00 | 46.00 ± 1.00 |\n");
  EXPECT_CONTAINS(report(),
                  "| mma 0.07, top-1 % | 3 | +1.17 | 0.29 | +0.45 to +1.88 | 0.0198 | 10 | +1.17 | -1.15 to +3.48 | "
                  "0.2342 |\n");
  EXPECT_CONTAINS(report(), "| all runs | 6 | +0.65 (-0.34 to +0.96) | ");
  EXPECT_CONTAINS(report(), "| mma 0.07 | 3 | too few runs | too few runs |\n");
  EXPECT_CONTAINS(report(), "| fc | 51.0 ± 1.0 | 71.5 ± 1.5 |\n");
  EXPECT_CONTAINS(report(), "| 2 | 41.00 | 42.50 |\n");
  EXPECT_CONTAINS(report(), "| a slide rule | mma-train 0.1.0 | 2.11.0 | abc | 1 | 40.00 | 42.00 | 90.50 | 60.00 |\n");
  EXPECT_CONTAINS(report(), "batch 64");
}

TEST_F(Gather, WritesEveryDigitForTools) {
  add_three_pairs();
  output_of({at("runs")});
  const ordered_json top1 = json().at("comparisons").at(0).at("top1_percent");
  EXPECT_NEAR(top1.at("paired").at("difference").get<double>(), 7. / 6, 1e-12);
  EXPECT_NEAR(top1.at("paired").at("low").get<double>(), 0.44955787837508965, 1e-9);
  EXPECT_NEAR(top1.at("paired").at("high").get<double>(), 1.883775454958244, 1e-9);
  EXPECT_NEAR(top1.at("paired").at("p").get<double>(), 0.01980394118039314, 1e-9);
  EXPECT_NEAR(top1.at("welch").at("p").get<double>(), 0.23420852289773178, 1e-9);
  EXPECT_NEAR(top1.at("deviation").get<double>(), 0.2886751345948129, 1e-12);
  EXPECT_EQ(top1.at("seeds_for_0.3_points"), 10);
  const ordered_json all = json().at("top1_against_angle").at(0).at("mean_nearest_angle");
  EXPECT_NEAR(all.at("coefficient").get<double>(), 0.6500445951194215, 1e-9);
  EXPECT_NEAR(all.at("high").get<double>(), 0.9568294949927255, 1e-9);
  EXPECT_EQ(json().at("runs").size(), 6u);
  EXPECT_EQ(json().at("settings").at("epochs"), 6);
  EXPECT_FALSE(json().at("settings").contains("threads"));
}

TEST_F(Gather, DrawsAPictureOrSaysWhyNot) {
  add_three_pairs();
  const std::string output = output_of({at("runs")});
  if (!plotting_available()) {
    EXPECT_CONTAINS(output, "no picture: gnuplot is not installed");
    EXPECT_LACKS(report(), "report.png");
    return;
  }
  EXPECT_TRUE(read_bytes(at("out/report.png")).starts_with("\x89PNG"));
  EXPECT_CONTAINS(report(), "](report.png)\n");
}

// One pair, as it was trained on an H100: figures from its metrics.csv by awk, means of the last five epochs.
TEST_F(Gather, GivesNoVerdictOnOnePair) {
  const std::string committed = std::string(MMA_BENCHMARK_RESULTS) + "/vgg19-bn";
  const std::string output = output_of({committed + "/none-seed123", committed + "/mma-0.07-seed123"});
  EXPECT_CONTAINS(output, "One pair: no interval, no verdict on mma 0.07.\n");
  EXPECT_CONTAINS(report(), "| none | 1 | 68.17 | 68.12 | 89.46 | 56.26 | ");
  EXPECT_CONTAINS(report(), "NVIDIA H100 80GB HBM3, 16 cores (Intel(R) Xeon(R) Processor)");
  EXPECT_CONTAINS(report(), "| - | - | cannot be told | - | - | - |\n");
  EXPECT_CONTAINS(report(), "| all runs | 2 | too few runs | too few runs |\n");
  EXPECT_TRUE(json().at("comparisons").at(0).at("top1_percent").at("paired").at("low").is_null());
}

/// Whoever adds a run writes the report anew.
TEST_F(Gather, TheCommittedReportsAreOfTheCommittedRuns) {
  size_t reports = 0;
  for (const auto& folder : fs::directory_iterator(MMA_BENCHMARK_RESULTS)) {
    if (!fs::exists(folder.path() / "report.json")) continue;
    SCOPED_TRACE(folder.path());
    ++reports;
    const ordered_json committed = ordered_json::parse(read_bytes(folder.path() / "report.json"));
    output_of({folder.path()});
    EXPECT_EQ(json().at("verdicts"), committed.at("verdicts"));
    ASSERT_EQ(json().at("runs").size(), committed.at("runs").size());
    for (size_t i = 0; i < committed.at("runs").size(); ++i) {
      const ordered_json ours = json().at("runs")[i], theirs = committed.at("runs")[i];
      EXPECT_EQ(ours.at("arm"), theirs.at("arm"));
      EXPECT_EQ(ours.at("seed"), theirs.at("seed"));
      EXPECT_EQ(fs::path(ours.at("folder").get<std::string>()).filename(),
                fs::path(theirs.at("folder").get<std::string>()).filename());
      EXPECT_NEAR(ours.at("top1_percent").get<double>(), theirs.at("top1_percent").get<double>(), 1e-9);
    }
  }
  EXPECT_GE(reports, 1u);
}

TEST_F(Gather, TakesFoldersAtAnyDepthAndSaysWhatItLeavesOut) {
  add_three_pairs();
  fs::create_directories(at("runs/deep/er"));
  fs::rename(at("runs/mma-3"), at("runs/deep/er/mma-3"));
  write("runs/begun", config("mma", 0.07, 4), csv_head + csv_line(1, 20));
  write("runs/no-metrics", config("mma", 0.07, 5), "");
  fs::remove(at("runs/no-metrics/metrics.csv"));
  fs::create_directory_symlink(at("runs"), at("runs/again"));  // a circle
  const std::string output = output_of({at("runs") + "/", at("runs/none-1")});
  EXPECT_CONTAINS(output, "counted: " + at("runs/deep/er/mma-3") + " (mma 0.07, seed 3)\n");
  EXPECT_CONTAINS(output, "left out: " + at("runs/begun") + ": it is not finished: 1 of 6 epochs\n");
  EXPECT_CONTAINS(output, "left out: " + at("runs/no-metrics") + ": it has config.json, but no metrics.csv\n");
  EXPECT_CONTAINS(report(), "- " + at("runs/begun") + ": it is not finished");
  EXPECT_EQ(json().at("runs").size(), 6u);
}

TEST_F(Gather, CountsASeedOnceAndRefusesASecondResult) {
  add_three_pairs();
  // The same figures, from a slower machine.
  ordered_json elsewhere = config("mma", 0.07, 2);
  elsewhere["machine"] = "an abacus";
  elsewhere["settings"]["data"] = "/elsewhere";
  elsewhere["settings"]["threads"] = 8;
  elsewhere["settings"]["device"] = "cuda";
  write("copy", elsewhere, csv_of(42.5, 81.5, 1234));
  EXPECT_CONTAINS(output_of({at("runs"), at("copy")}),
                  "left out: " + at("copy") + ": the same figures as in " + at("runs/mma-2") + ", counted once\n");
  EXPECT_EQ(json().at("runs").size(), 6u);
  fs::remove_all(at("out"));
  write("copy", elsewhere, csv_of(42.6, 81.5));
  EXPECT_CONTAINS(refusal({at("runs"), at("copy")}),
                  "the runs in " + at("runs/mma-2") + " and " + at("copy") +
                      " are both of mma 0.07 with seed 2, but their figures differ: a seed counts once");
}

/// A folder copied under another seed would count as a pair more.
TEST_F(Gather, RefusesACopyUnderAnotherSeed) {
  add_three_pairs();
  write("copy", config("mma", 0.07, 9), csv_of(42.5, 81.5, 1234));
  EXPECT_CONTAINS(refusal({at("runs"), at("copy")}), "the runs in " + at("runs/mma-2") + " and " + at("copy") +
                                                         " have the same figures to the last digit, but the seeds 2 "
                                                         "and 9: one is a copy of the other");
}

TEST_F(Gather, RefusesRunsWhoseProcessesNormalisedOtherPieces) {
  add_three_pairs();
  ordered_json parallel = config("mma", 0.07, 9);
  parallel["processes"] = 4;
  write("other", parallel, csv_of(40));
  EXPECT_CONTAINS(refusal({at("runs"), at("other")}), ": processes is 1 in the one and 4 in the other");
  parallel["settings"]["sync_batch_norm"] = true;
  ordered_json alone = config("none", 0, 9);
  alone["settings"]["sync_batch_norm"] = true;
  write("other", parallel, csv_of(40));
  write("alone", alone, csv_of(39));
  EXPECT_CONTAINS(output_of({at("alone"), at("other")}), "One pair: ");
}

/// Among those that recorded it, whichever comes first.
TEST_F(Gather, RefusesOtherDataBehindARunThatDoesNotSay) {
  ordered_json silent = config("mma", 0.07, 1), one = config("mma", 0.07, 2), other = config("none", 0, 1);
  silent.erase("train_images");
  other["train_images"] = 99;
  write("a", silent, csv_of(40));
  write("b", one, csv_of(41));
  write("c", other, csv_of(42));
  EXPECT_CONTAINS(refusal({at("a"), at("b"), at("c")}), "the runs in " + at("b") + " and " + at("c") +
                                                            " are not of one comparison: train_images is 50000 in "
                                                            "the one and 99 in the other");
}

TEST_F(Gather, RefusesRunsOfOtherPrograms) {
  ordered_json faces = config("none", 0, 1);
  faces["program"] = "mma-faces";
  write("faces", faces, csv_of(40));
  EXPECT_CONTAINS(refusal({at("faces")}), "the run in " + at("faces") + " is of mma-faces; one of mma-train is needed");
}

/// What stands in a table or a command comes from outside.
TEST_F(Gather, NamesOfFoldersDoNotBreakTheReport) {
  ordered_json run = config("none", 0, 1);
  run["machine"] = "a | b\nc";
  write("it's a|b $x `y`", run, csv_of(40));
  output_of({at("it's a|b $x `y`")});
  EXPECT_CONTAINS(report(), "| " + at("it's a\\|b $x `y`") + " | none | a \\| b c | mma-train");
  EXPECT_CONTAINS(report(), "`` mma-reproduce gather '" + at("it'\\''s a|b $x `y`") + "' --out " + at("out") + " ``\n");
}

TEST_F(Gather, RefusesOtherSettingsByNameAndBothValues) {
  add_three_pairs();
  const auto other = [&](const std::string& key, const ordered_json& value) {
    ordered_json changed = config("mma", 0.07, 9);
    changed["settings"][key] = value;
    write("other", changed, csv_of(40));
    return refusal({at("runs"), at("other")});
  };
  EXPECT_CONTAINS(other("batch", 128), "the runs in " + at("runs/mma-1") + " and " + at("other") +
                                           " are not of one comparison: --batch is 64 in the one and 128 in the other");
  EXPECT_CONTAINS(other("milestones", {3, 5}), "--milestones is 3,4 in the one and 3,5 in the other");
  EXPECT_CONTAINS(other("precision", "bf16"), "--precision is float32 in the one and bf16 in the other");
  EXPECT_CONTAINS(other("autoaugment", true), "--autoaugment is no in the one and yes in the other");
  EXPECT_CONTAINS(other("of_tomorrow", 3), "of_tomorrow is not there in the one and 3 in the other");
  ordered_json other_data = config("mma", 0.07, 9);
  other_data["train_images"] = 49999;
  write("other", other_data, csv_of(40));
  EXPECT_CONTAINS(refusal({at("runs"), at("other")}), "train_images is 50000 in the one and 49999 in the other");
  write("other", config("mma", 0.07, 9), csv_of(40).replace(csv_head.find(":fc"), 3, ":fx"));
  EXPECT_CONTAINS(refusal({at("runs"), at("other")}), " have minimal angles of different layers");
}

TEST_F(Gather, GivesRunsOfOlderVersionsTheDefaults) {
  add("none", 1, 40);
  ordered_json older = config("mma", 0.07, 1);
  for (const char* newer : {"padding", "deterministic", "cudnn_benchmark"}) {
    ASSERT_EQ(older["settings"].erase(newer), 1u) << newer;
  }
  write("older", older, csv_of(41));
  EXPECT_CONTAINS(output_of({at("runs"), at("older")}), "One pair: ");
  fs::remove_all(at("out"));
  ordered_json other = config("none", 0, 2);
  other["settings"]["padding"] = 2;
  write("runs/none-2", other, csv_of(41));
  EXPECT_CONTAINS(refusal({at("older"), at("runs/none-2")}),
                  "--padding is 4 (which its config.json does not say: the default) in the one and 2 in the other");
}

TEST_F(Gather, TellsArmsApartAndTakesAnyForBaseline) {
  add_three_pairs();
  ordered_json hidden = config("mma", 0.07, 1);
  hidden["settings"]["scope"] = "hidden";
  write("runs/hidden", hidden, csv_of(40.5));
  ordered_json none = config("none", 0, 4);
  none["settings"]["scope"] = "hidden";  // of nothing
  write("runs/none-4", none, csv_of(43));
  EXPECT_CONTAINS(output_of({at("runs")}), "One pair: no interval, no verdict on mma 0.07 hidden.\n");
  EXPECT_CONTAINS(report(), "# mma 0.07, mma 0.07 hidden against none: ");
  EXPECT_CONTAINS(report(), "| none | 4 | ");
  EXPECT_CONTAINS(report(), "none is widened for the number of arms");
  const std::string against = output_of({at("runs"), "--baseline", "mma 0.07"});
  EXPECT_CONTAINS(against, "none takes between 0.45 and 1.88 points of top-1 (95 %, 3 pairs): it harms.\n");
  fs::remove_all(at("out"));
  EXPECT_CONTAINS(
      refusal({at("runs"), "--baseline", "mma"}),
      "--baseline mma: several arms are of this regularizer; one of 'mma 0.07', 'mma 0.07 hidden', 'none' is needed");
  EXPECT_CONTAINS(refusal({at("runs"), "--baseline", "mhe"}), "--baseline mhe: no run is of it; one of ");
}

TEST_F(Gather, ReportsOneArmAlone) {
  add("none", 1, 40);
  add("none", 2, 41);
  EXPECT_CONTAINS(output_of({at("runs")}), "All runs are of none: nothing to compare.\n");
  EXPECT_LACKS(report(), "## Differences");
}

TEST_F(Gather, RefusesWhatHoldsNoRun) {
  EXPECT_CONTAINS(refusal({at("nowhere")}), at("nowhere") + ": there is no such folder");
  fs::create_directories(at("empty/folder"));
  EXPECT_CONTAINS(refusal({at("empty")}), at("empty") + " holds no run: no folder in it has a config.json");
  write_bytes(at("file"), "");
  EXPECT_CONTAINS(refusal({at("file")}), at("file") + " is no folder");
  write("begun", config("mma", 0.07, 4), csv_head);
  EXPECT_CONTAINS(refusal({at("begun")}), "no finished run was found");
  EXPECT_CONTAINS(refusal({"--baseline", "none"}), "DIR is required");
  mma::tests::ChildProcess child({MMA_REPRODUCE_PROGRAM, "table2", "gather", at("begun")});
  EXPECT_EQ(child.finish(), 2);
  EXPECT_CONTAINS(child.errors(), "gather is a command of its own and comes first");
}

TEST_F(Gather, RefusesADamagedConfig) {
  add("none", 1, 40);
  const std::string file = at("runs/none-1/config.json"), whole = read_bytes(file);
  write_bytes(file, whole.substr(0, whole.size() / 2));
  EXPECT_CONTAINS(refusal({at("runs")}),
                  "the config.json in " + at("runs/none-1") + " is not one that mma-train wrote");
  ordered_json lacking = ordered_json::parse(whole);
  lacking["settings"].erase("epochs");
  write_bytes(file, lacking.dump());
  EXPECT_CONTAINS(refusal({at("runs")}), "is not one that mma-train wrote: in its settings, there is no 'epochs'");
  ordered_json wrong = ordered_json::parse(whole);
  wrong["settings"]["epochs"] = -1;
  write_bytes(file, wrong.dump());
  EXPECT_CONTAINS(refusal({at("runs")}), " is not one that mma-train wrote: --epochs -1: at least 1 is needed");
}

TEST_F(Gather, RefusesADamagedCsvByFileAndLine) {
  const auto read = [&](const std::string& text) {
    write_bytes(at("metrics.csv"), text);
    const std::string sentence = message_of<UserError>([&] { read_metrics_csv(at("metrics.csv")); });
    EXPECT_TRUE(sentence.starts_with(at("metrics.csv") + ", line ")) << sentence;
    return sentence.substr(std::min(sentence.size(), at("metrics.csv").size() + 2));
  };
  const std::string whole = csv_of(40);
  const auto with = [&](const std::string& part, const std::string& instead) {
    std::string changed = whole;
    const size_t place = changed.rfind(part);
    EXPECT_NE(place, std::string::npos) << part;
    return changed.replace(place, part.size(), instead);
  };
  EXPECT_CONTAINS(read(""), "line 1: the file is empty");
  EXPECT_CONTAINS(read(whole.substr(0, whole.size() - 1)), "line 7: the line has no end: the file is cut off");
  EXPECT_CONTAINS(read(with("top5_percent", "top5")), "line 1: the column top5_percent is missing");
  EXPECT_CONTAINS(read(with("conv", "fc")), "line 1: the column minimal_angle_degrees:fc is there twice");
  EXPECT_CONTAINS(read(with("655.5,", "")), "line 7: 13 cells stand below 14 names of columns");
  EXPECT_CONTAINS(read(with("6,0.1,", "7,0.1,")), "line 7: epoch 7 stands where epoch 6 was expected");
  EXPECT_CONTAINS(read(with("6,0.1,", "6.5,0.1,")), "line 7: epoch is 6.5; a whole number is needed");
  EXPECT_CONTAINS(read(with("2.5", "nan")), "line 7: loss is nan; a finite number is needed");
  EXPECT_CONTAINS(read(with("90.5", "inf")), "line 7: top5_percent is inf; a finite number is needed");
  EXPECT_CONTAINS(read(with("90.5", "905")), "line 7: top5_percent is 905; a number from 0 to 100 is needed");
  EXPECT_CONTAINS(read(with("90.5", "9O.5")), "line 7: top5_percent is '9O.5', not a number");
  EXPECT_CONTAINS(read(with("90.5", "")), "line 7: top5_percent is '', not a number");
}

TEST_F(Gather, TakesMemoryByTheLengthOfACsv) {
  std::string columns;
  for (int i = 0; i < 100'000; ++i) columns += "column" + std::to_string(i) + ",";
  for (const std::string& text : {repeated("\n", 1'000'000), repeated("1,", 1'000'000) + "\n", columns + "epoch\n",
                                  columns + "epoch\n" + repeated("1,", 100'000) + "1\n"}) {
    expect_within(256, at("metrics.csv"), text, [&] { read_metrics_csv(at("metrics.csv")); });
  }
}

TEST_F(Gather, ReadsTheCsvOfOtherVersions) {
  write_bytes(
      at("metrics.csv"),
      "epoch,learning_rate,loss,regularization_loss,top1_percent,top5_percent,mean_nearest_angle_degrees,"
      "pairs_above_0.2,minimal_angle_degrees:fc,of_tomorrow,seconds\r\n1,0.1,4.5,-0.25,12.5,50,80.25,3,nan,soon,7\r\n");
  const std::vector<EpochMetrics> history = read_metrics_csv(at("metrics.csv"));
  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].top1, 12.5);
  EXPECT_EQ(history[0].regularization_loss, -0.25);
  EXPECT_EQ(history[0].angles.mean_nearest_angle, 80.25);
  EXPECT_EQ(history[0].angles.pairs_above, 3);
  ASSERT_EQ(history[0].angles.minimal_angles.size(), 1u);
  EXPECT_EQ(history[0].angles.minimal_angles[0].first, "fc");
  EXPECT_TRUE(std::isnan(history[0].angles.minimal_angles[0].second));
  EXPECT_EQ(history[0].seconds, 7);
  EXPECT_TRUE(std::isnan(history[0].peak_memory_mib));
}

/// As a spreadsheet or an editor leaves it; an empty line between others is none of these.
TEST_F(Gather, ReadsACsvWithAMarkBeforeItAndEmptyLinesBehind) {
  write_bytes(at("metrics.csv"), "\xEF\xBB\xBF" + csv_of(40) + "\r\n\n");
  EXPECT_EQ(read_metrics_csv(at("metrics.csv")).size(), 6u);
  write_bytes(at("metrics.csv"), csv_head + csv_line(1, 40) + "\n" + csv_line(2, 40));
  EXPECT_CONTAINS(message_of<UserError>([&] { read_metrics_csv(at("metrics.csv")); }),
                  ", line 3: 1 cells stand below 14 names of columns");
  write_bytes(at("metrics.csv"), "\xEF\xBB\xBF");
  EXPECT_CONTAINS(message_of<UserError>([&] { read_metrics_csv(at("metrics.csv")); }), ", line 1: the file is empty");
}

TEST_F(Gather, ReplacesItsOwnReportAlone) {
  add("none", 1, 40);
  output_of({at("runs")});
  output_of({at("runs")});
  fs::create_directories(at("reproduction"));
  write_bytes(at("reproduction/report.md"), "of mma-reproduce all");
  fs::remove_all(at("out"));
  EXPECT_CONTAINS(refusal({at("runs"), "--out", at("reproduction")}),
                  "--out " + at("reproduction") + ": its report.md is not one that mma-reproduce gather wrote");
  EXPECT_EQ(read_bytes(at("reproduction/report.md")), "of mma-reproduce all");
  EXPECT_CONTAINS(refusal({at("runs"), "--out", at("reproduction/report.md")}), ": this folder cannot be made");
}

/// An arm of these differences to a baseline.
AgainstBaseline against(const std::vector<double>& differences) {
  ArmResults arm, baseline;
  for (size_t i = 0; i < differences.size(); ++i) {
    arm.seeds.push_back(i);
    arm.top1.push_back(50 + differences[i]);
  }
  baseline.seeds = arm.seeds;
  baseline.top1.assign(differences.size(), 50);
  return against_baseline(arm, baseline, measures().front());
}

// The intervals are scipy's: t.interval(0.95, n - 1, mean, sem).
TEST(GatherVerdict, FollowsFromTheIntervalAlone) {
  EXPECT_EQ(verdict_on("mma 0.07", against({0.5, 1, 0.75})),
            "mma 0.07 adds between 0.13 and 1.37 points of top-1 (95 %, 3 pairs): it helps.");
  EXPECT_EQ(verdict_on("mma 0.07", against({-0.5, -1, -0.75})),
            "mma 0.07 takes between 0.13 and 1.37 points of top-1 (95 %, 3 pairs): it harms.");
  EXPECT_EQ(
      verdict_on("mma 0.07", against({0.5, 2, 0.25})),
      "The interval of mma 0.07 from -1.43 to 3.27 points of top-1 (95 %, 3 pairs) holds 0: not shown either way.");
  EXPECT_EQ(verdict_on("mma 0.07", against({3})), "One pair: no interval, no verdict on mma 0.07.");
  EXPECT_EQ(verdict_on("mma 0.07", against({})),
            "No seed in common with the baseline: no interval, no verdict on mma 0.07.");
  EXPECT_EQ(verdict_on("mma 0.07", against({0.5, 0.5})),
            "The differences of 2 pairs do not scatter: no interval, no verdict on mma 0.07.");
}

TEST_F(Gather, HelpsWithExamples) {
  mma::tests::ChildProcess child({MMA_REPRODUCE_PROGRAM, "gather", "--help"});
  EXPECT_EQ(child.finish(), 0);
  for (const char* part : {"Examples:\n  mma-reproduce gather", "--baseline", "--out", "counted once"}) {
    EXPECT_CONTAINS(child.output(), part);
  }
}

}  // namespace
}  // namespace mma::examples
