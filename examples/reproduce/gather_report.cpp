#include "reproduce/gather_report.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>

#include "mma/version.hpp"
#include "reproduce/cells.hpp"
#include "support/terminal/table.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

using nlohmann::ordered_json;

std::string interval_cell(double low, double high) {
  return std::isnan(low) ? "-" : formatted("%+.2f to %+.2f", low, high);
}

std::string needed_cell(const std::optional<int>& needed) {
  return needed ? std::to_string(*needed) : "cannot be told";
}

/// The arms beside the baseline.
std::vector<ArmResults> others(const Gathered& gathered) { return {gathered.arms.begin() + 1, gathered.arms.end()}; }

std::string title_of(const Gathered& gathered) {
  const Settings& settings = gathered.found.runs.front().settings;
  std::vector<std::string> names;
  for (const ArmResults& arm : others(gathered)) names.push_back(arm.arm.name());
  const std::string baseline = gathered.arms.front().arm.name();
  return (names.empty() ? baseline : c10::Join(", ", names) + " against " + baseline) +
         c10::str(": ", settings.model, " on ", settings.dataset, ", ", settings.epochs, " epochs");
}

std::string shared_settings(const Gathered& gathered) {
  std::vector<std::string> words;
  for (const OptionRow<Settings>& row : run_options()) {
    const std::string value = text(value_of(row, gathered.found.runs.front().settings));
    if (is_shared(row) && !value.empty()) words.push_back(std::string(row.key) + " " + value);
  }
  return "Shared by all runs: " + c10::Join(", ", words) + ".\n";
}

std::string arm_table(const Gathered& gathered) {
  TableLines lines = {{"", "seeds"}};
  for (const Measure& measure : measures()) lines[0].emplace_back(measure.name);
  lines[0].insert(lines[0].end(), {"mean nearest angle", "minimal angle, mean of layers"});
  for (const ArmResults& arm : gathered.arms) {
    std::vector<std::string> line = {arm.arm.name(), std::to_string(arm.seeds.size())};
    for (const Measure& measure : measures()) line.push_back(mean_cell(arm.*measure.values, 2));
    line.push_back(mean_cell(arm.nearest_angle, 2));
    line.push_back(mean_cell(arm.minimal_angle, 2));
    lines.push_back(std::move(line));
  }
  return as_markdown(lines, 1) +
         "\nMean ± standard deviation over seeds. Top-1 and top-5 are means over a run's last five epochs where no "
         "epoch "
         "is named; angles in degrees after the last epoch.\n";
}

std::vector<std::string> difference_line(const ArmResults& arm, const ArmResults& baseline, const Measure& measure) {
  const AgainstBaseline with = against_baseline(arm, baseline, measure);
  return {arm.arm.name() + ", " + measure.name,
          std::to_string(with.seeds.size()),
          signed_number(mean(with.differences), 2),
          std::isnan(with.paired.low) ? "-" : formatted("%.2f", standard_deviation(with.differences)),
          interval_cell(with.paired.low, with.paired.high),
          p_cell(with.paired.p),
          needed_cell(with.needed),
          signed_number(with.welch.difference, 2),
          interval_cell(with.welch.low, with.welch.high),
          p_cell(with.welch.p)};
}

std::string difference_table(const Gathered& gathered) {
  TableLines lines = {{"", "pairs", "difference", "deviation", "95 % interval", "p, paired t", "seeds for 0.3 points",
                       "Welch: difference", "95 % interval", "p, Welch"}};
  for (const ArmResults& arm : others(gathered)) {
    for (const Measure& measure : measures()) {
      lines.push_back(difference_line(arm, gathered.arms.front(), measure));
    }
  }
  std::string note =
      "\nDifferences in points: a pair is the two runs of one seed, the arm's minus the baseline's; Welch's test takes "
      "all "
      "runs, paired or not. Seeds for 0.3 points: the fewest pairs with which a two-sided paired t-test at level 0.05 "
      "finds a true difference of 0.3 points with probability 0.8, were the differences' true deviation the one seen; "
      "from few pairs that is a rough guess, from fewer than two it cannot be told.";
  if (gathered.arms.size() > 2) note += " Each interval stands for itself: none is widened for the number of arms.";
  return as_markdown(lines, 1) + note + "\n";
}

/// Rows by seed, in rising order; the values that a seed has.
std::string seed_table(const Gathered& gathered) {
  TableLines lines = {{"seed"}};
  std::vector<uint64_t> seeds;
  for (const ArmResults& arm : gathered.arms) {
    lines[0].push_back(arm.arm.name());
    seeds.insert(seeds.end(), arm.seeds.begin(), arm.seeds.end());
  }
  std::ranges::sort(seeds);
  seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());  // ranges::unique: not with clang 14
  for (const uint64_t seed : seeds) {
    std::vector<std::string> line = {std::to_string(seed)};
    for (const ArmResults& arm : gathered.arms) {
      const auto found = std::ranges::find(arm.seeds, seed);
      line.push_back(
          found == arm.seeds.end() ? "" : formatted("%.2f", arm.top1[static_cast<size_t>(found - arm.seeds.begin())]));
    }
    lines.push_back(std::move(line));
  }
  return as_markdown(lines) + "\nTop-1 by seed, percent, means over the last five epochs.\n";
}

std::string layer_table(const Gathered& gathered) {
  if (gathered.arms.front().layers.empty()) return "";
  TableLines lines = {{"layer"}};
  for (const ArmResults& arm : gathered.arms) lines[0].push_back(arm.arm.name());
  for (size_t layer = 0; layer < gathered.arms.front().layers.size(); ++layer) {
    lines.push_back({gathered.arms.front().layers[layer].first});
    for (const ArmResults& arm : gathered.arms) lines.back().push_back(mean_cell(arm.layers[layer].second, 1));
  }
  return "\n" + as_markdown(lines, 1) + "\nMinimal angles in degrees after the last epoch.\n";
}

/// Runs whose accuracy is set against their angles: all, and each arm's own.
struct AngleSample {
  std::string name;
  std::vector<double> top1, nearest_angle, minimal_angle;
};

std::vector<AngleSample> angle_samples(const Gathered& gathered) {
  std::vector<AngleSample> samples = {{"all runs", {}, {}, {}}};
  for (const ArmResults& arm : gathered.arms) {
    const AngleSample of_arm = {arm.arm.name(), arm.top1, arm.nearest_angle, arm.minimal_angle};
    for (const auto values : {&AngleSample::top1, &AngleSample::nearest_angle, &AngleSample::minimal_angle}) {
      (samples[0].*values).insert((samples[0].*values).end(), (of_arm.*values).begin(), (of_arm.*values).end());
    }
    samples.push_back(of_arm);
  }
  if (gathered.arms.size() == 1) samples.pop_back();  // it is all runs
  return samples;
}

std::string correlation_cell(const std::vector<double>& angles, const std::vector<double>& top1) {
  const Correlation found = correlation(angles, top1);
  if (!std::isnan(found.coefficient)) {
    return formatted("%+.2f (%+.2f to %+.2f)", found.coefficient, found.low, found.high);
  }
  return top1.size() < 4 ? "too few runs" : "cannot be told";
}

std::string correlation_table(const Gathered& gathered) {
  TableLines lines = {{"", "runs", "with the mean nearest angle", "with the mean minimal angle"}};
  for (const AngleSample& sample : angle_samples(gathered)) {
    lines.push_back({sample.name, std::to_string(sample.top1.size()),
                     correlation_cell(sample.nearest_angle, sample.top1),
                     correlation_cell(sample.minimal_angle, sample.top1)});
  }
  return as_markdown(lines, 1) +
         "\nPearson's correlation of top-1 (mean over the last five epochs) with the angles after the last epoch, with "
         "its "
         "95 % interval; fewer than four runs have none. Over all runs, what tells the arms apart is in it too.\n";
}

std::string recorded(const ordered_json& json, const char* key) {
  const bool is_there = json.is_object() && json.contains(key) && json[key].is_string();
  return is_there ? json[key].get<std::string>() : "not recorded";
}

std::string run_table(const Gathered& gathered) {
  TableLines lines = {{"folder", "arm", "machine", "made by", "LibTorch", "commit", "seed", "top-1 %", "last",
                       "top-5 %", "mean nearest angle"}};
  for (const ArmResults& arm : gathered.arms) {
    for (size_t i = 0; i < arm.runs.size(); ++i) {
      const GatheredRun& run = gathered.found.runs[arm.runs[i]];
      lines.push_back({run.folder.string(), arm.arm.name(), recorded(run.config, "machine"),
                       recorded(run.config, "program") + " " + recorded(run.config, "version"),
                       recorded(run.config, "libtorch"), recorded(run.config, "git_commit"),
                       std::to_string(arm.seeds[i]), formatted("%.2f", arm.top1[i]),
                       formatted("%.2f", arm.final_top1[i]), formatted("%.2f", arm.top5[i]),
                       formatted("%.2f", arm.nearest_angle[i])});
    }
  }
  return as_markdown(lines, 6);
}

/// In Markdown, where a back quote in it would end it.
std::string as_code(const std::string& text) {
  return text.find('`') == std::string::npos ? "`" + text + "`" : "`` " + text + " ``";
}

std::string left_out(const Gathered& gathered) {
  std::string text;
  for (const LeftOut& each : gathered.found.left_out) text += "- " + each.folder.string() + ": " + each.why + "\n";
  return text.empty() ? "" : "\nNot counted:\n\n" + text;
}

// --- for tools
// --------------------------------------------------------------------------------------------------------

ordered_json json_of_sample(const std::vector<double>& values) {
  return {{"mean", mean(values)}, {"deviation", standard_deviation(values)}};
}

ordered_json json_of_arm(const ArmResults& arm) {
  ordered_json json = {{"name", arm.arm.name()},
                       {"regularizer", arm.arm.regularizer},
                       {"coefficient", arm.arm.coefficient},
                       {"scope", arm.arm.scope},
                       {"seeds", arm.seeds}};
  for (const Measure& measure : measures()) json[measure.key] = json_of_sample(arm.*measure.values);
  json["mean_nearest_angle_degrees"] = json_of_sample(arm.nearest_angle);
  json["mean_minimal_angle_degrees"] = json_of_sample(arm.minimal_angle);
  ordered_json& layers = json["minimal_angle_degrees"] = ordered_json::object();
  for (const auto& [name, angles] : arm.layers) layers[name] = json_of_sample(angles);
  return json;
}

ordered_json json_of_test(const TTest& test) {
  return {{"difference", test.difference}, {"low", test.low},         {"high", test.high},
          {"t", test.statistic},           {"degrees", test.degrees}, {"p", test.p}};
}

ordered_json json_of_comparison(const ArmResults& arm, const ArmResults& baseline) {
  ordered_json json = {{"arm", arm.arm.name()}, {"baseline", baseline.arm.name()}};
  for (const Measure& measure : measures()) {
    const AgainstBaseline with = against_baseline(arm, baseline, measure);
    ordered_json paired = json_of_test(with.paired);
    paired["difference"] = mean(with.differences);  // which a single pair has too
    json[measure.key] = {{"seeds", with.seeds},
                         {"differences", with.differences},
                         {"deviation", standard_deviation(with.differences)},
                         {"paired", paired},
                         {"welch", json_of_test(with.welch)},
                         {"seeds_for_0.3_points", with.needed ? ordered_json(*with.needed) : ordered_json()}};
  }
  json["verdict"] = verdict_on(arm.arm.name(), against_baseline(arm, baseline, measures().front()));
  return json;
}

ordered_json json_of_correlation(const Correlation& found) {
  return {{"coefficient", found.coefficient}, {"low", found.low}, {"high", found.high}};
}

ordered_json json_of_runs(const Gathered& gathered) {
  ordered_json runs = ordered_json::array();
  for (const ArmResults& arm : gathered.arms) {
    for (size_t i = 0; i < arm.runs.size(); ++i) {
      const GatheredRun& run = gathered.found.runs[arm.runs[i]];
      ordered_json json = {{"folder", run.folder.string()}, {"arm", arm.arm.name()}, {"seed", arm.seeds[i]}};
      for (const char* key : {"program", "version", "git_commit", "libtorch", "machine"}) {
        json[key] = run.config.contains(key) ? run.config[key] : ordered_json();
      }
      for (const Measure& measure : measures()) json[measure.key] = (arm.*measure.values)[i];
      json["mean_nearest_angle_degrees"] = arm.nearest_angle[i];
      json["mean_minimal_angle_degrees"] = arm.minimal_angle[i];
      runs.push_back(std::move(json));
    }
  }
  return runs;
}

// --- the picture
// ------------------------------------------------------------------------------------------------------

Plot top1_by_epoch(const Gathered& gathered) {
  Plot plot = {
      .title = "Top-1 by epoch, mean over seeds", .x_label = "epoch", .y_label = "percent", .lines = {}, .bars = {}};
  for (const ArmResults& arm : gathered.arms) {
    Series series = {.name = arm.arm.name(), .x = {}, .y = {}};
    const size_t epochs = gathered.found.runs[arm.runs.front()].history.size();
    for (size_t epoch = 0; epoch < epochs; ++epoch) {
      std::vector<double> values;
      for (const size_t run : arm.runs) values.push_back(gathered.found.runs[run].history[epoch].top1);
      series.x.push_back(static_cast<double>(epoch + 1));
      series.y.push_back(mean(values));
    }
    plot.lines.push_back(std::move(series));
  }
  return plot;
}

/// The mean of each arm's differences with its interval, and beside it the pairs' own.
Plot differences_by_arm(const Gathered& gathered) {
  Plot plot = {.title = "Top-1 minus " + gathered.arms.front().arm.name() + "'s, 95 % intervals",
               .x_label = "",
               .y_label = "points",
               .lines = {},
               .bars = {}};
  Series zero = {.name = "", .x = {-0.5, 0.5}, .y = {0, 0}};
  Series means = {.name = "mean", .x = {}, .y = {}, .joined = false};
  Series pairs = {.name = "pairs", .x = {}, .y = {}, .joined = false};
  for (const ArmResults& arm : others(gathered)) {
    const AgainstBaseline with = against_baseline(arm, gathered.arms.front(), measures().front());
    const auto place = static_cast<double>(plot.x_ticks.size());
    plot.x_ticks.emplace_back(place, arm.arm.name());
    zero.x.back() = place + 0.5;
    means.x.push_back(place);
    means.y.push_back(mean(with.differences));
    means.deviation.push_back((with.paired.high - with.paired.low) / 2);
    for (const double difference : with.differences) {
      pairs.x.push_back(place + 0.12);
      pairs.y.push_back(difference);
    }
  }
  plot.x_range = {zero.x.front(), zero.x.back()};
  plot.lines = {means, pairs, zero};
  return plot;
}

/// A little more than the values span: a point on the frame is hard to see.
std::pair<double, double> range_around(const std::vector<double>& values) {
  const auto [low, high] = std::ranges::minmax(values);
  const double margin = high > low ? 0.1 * (high - low) : 1;
  return {low - margin, high + margin};
}

Plot top1_by_angle(const Gathered& gathered) {
  Plot plot = {.title = "Top-1 against angle, a point a run",
               .x_label = "mean nearest angle, degrees",
               .y_label = "percent",
               .lines = {},
               .bars = {}};
  for (const ArmResults& arm : gathered.arms) {
    plot.lines.push_back({.name = arm.arm.name(), .x = arm.nearest_angle, .y = arm.top1, .joined = false});
  }
  const AngleSample all = angle_samples(gathered).front();
  plot.x_range = range_around(all.nearest_angle);
  plot.y_range = range_around(all.top1);
  return plot;
}

}  // namespace

std::vector<std::string> verdicts_on(const Gathered& gathered) {
  std::vector<std::string> verdicts;
  for (const ArmResults& arm : others(gathered)) {
    verdicts.push_back(verdict_on(arm.arm.name(), against_baseline(arm, gathered.arms.front(), measures().front())));
  }
  if (verdicts.empty())
    verdicts.push_back("All runs are of " + gathered.arms.front().arm.name() + ": nothing to compare.");
  return verdicts;
}

std::string markdown_of(const Gathered& gathered, const std::string& command, const std::string& picture) {
  std::string text = "# " + title_of(gathered) + "\n\n";
  for (const std::string& verdict : verdicts_on(gathered)) text += "**" + verdict + "**\n\n";
  text += arm_table(gathered);
  if (gathered.arms.size() > 1)
    text += "\n## Differences to " + gathered.arms.front().arm.name() + "\n\n" + difference_table(gathered);
  text += "\n" + seed_table(gathered);
  text += "\n## Accuracy and angles\n\n" + correlation_table(gathered) + layer_table(gathered);
  if (!picture.empty()) text += "\n![" + title_of(gathered) + "](" + picture + ")\n";
  text += "\n## Runs\n\n" + run_table(gathered) + "\n" + shared_settings(gathered) + left_out(gathered);
  return text + "\nCommand (mma " + std::string(version) + "): " + as_code(command) + "\n";
}

ordered_json json_of(const Gathered& gathered, const std::string& command) {
  ordered_json json = {{"program", "mma-reproduce gather"}, {"version", std::string(version)}, {"command", command}};
  for (const OptionRow<Settings>& row : run_options()) {
    if (is_shared(row)) json["settings"][row.key] = value_of(row, gathered.found.runs.front().settings);
  }
  for (const std::string& verdict : verdicts_on(gathered)) json["verdicts"].push_back(verdict);
  for (const ArmResults& arm : gathered.arms) json["arms"].push_back(json_of_arm(arm));
  json["comparisons"] = ordered_json::array();
  for (const ArmResults& arm : others(gathered)) {
    json["comparisons"].push_back(json_of_comparison(arm, gathered.arms.front()));
  }
  for (const AngleSample& sample : angle_samples(gathered)) {
    json["top1_against_angle"].push_back(
        {{"runs_of", sample.name},
         {"runs", sample.top1.size()},
         {"mean_nearest_angle", json_of_correlation(correlation(sample.nearest_angle, sample.top1))},
         {"mean_minimal_angle", json_of_correlation(correlation(sample.minimal_angle, sample.top1))}});
  }
  json["runs"] = json_of_runs(gathered);
  json["left_out"] = ordered_json::array();
  for (const LeftOut& each : gathered.found.left_out) {
    json["left_out"].push_back({{"folder", each.folder.string()}, {"why", each.why}});
  }
  return json;
}

std::vector<Plot> panels_of(const Gathered& gathered) {
  std::vector<Plot> panels = {top1_by_epoch(gathered)};
  if (gathered.arms.size() > 1) panels.push_back(differences_by_arm(gathered));
  panels.push_back(top1_by_angle(gathered));
  return panels;
}

}  // namespace mma::examples
