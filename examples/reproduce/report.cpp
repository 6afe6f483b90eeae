#include "reproduce/report.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "reproduce/arms.hpp"
#include "reproduce/cells.hpp"
#include "reproduce/statistics.hpp"
#include "support/process/machine.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

using Line = std::vector<std::string>;

void append_cells(Line& line, const Line& more) { line.insert(line.end(), more.begin(), more.end()); }

/// An experiment with the results of all its rows.
struct Found {
  const Experiment& experiment;
  const Standing& standing;
  std::vector<RowResults> rows;

  size_t wanted() const { return standing.seeds.size(); }
  std::string seeds_cell(size_t row) const {
    const size_t have = rows[row].seeds.size();
    return have == wanted() ? std::to_string(have) : c10::str(have, " of ", wanted());
  }
  const ExperimentRow& row(size_t index) const { return experiment.rows[index]; }
};

using Sample = std::vector<double> RowResults::*;

/// Against the row's baseline; "" for a baseline, "not run" where one of both is.
std::string welch_cell(const Found& found, size_t row, Sample sample) {
  const std::optional<size_t> baseline = found.row(row).baseline;
  if (!baseline) return "";
  const std::vector<double>& ours = found.rows[row].*sample;
  const std::vector<double>& theirs = found.rows[*baseline].*sample;
  if (ours.empty() || theirs.empty()) return not_run;
  return p_cell(welch_test(ours, theirs).p);
}

std::string exact_welch(const Found& found, size_t row, Sample sample) {
  const std::optional<size_t> baseline = found.row(row).baseline;
  if (!baseline) return "";
  if (found.rows[row].empty() || found.rows[*baseline].empty()) return not_run;
  return exact_or_empty(welch_test(found.rows[row].*sample, found.rows[*baseline].*sample).p);
}

// --- accuracy, angles and cost by row
// ---------------------------------------------------------------------------------

/// The means' difference to the row's baseline; "" for a baseline, "not run" where one of both is.
std::string gain_cell(const Found& found, size_t row, Sample sample) {
  const std::optional<size_t> baseline = found.row(row).baseline;
  if (!baseline) return "";
  const std::vector<double>& ours = found.rows[row].*sample;
  const std::vector<double>& theirs = found.rows[*baseline].*sample;
  return ours.empty() || theirs.empty() ? not_run : signed_number(mean(ours) - mean(theirs), 2);
}

/// Beside the paper's figures, or, of an experiment that it has not, beside the baseline.
std::string accuracy_table(const Found& found) {
  const bool of_paper = found.experiment.of_paper;
  const bool has_top5 =
      std::ranges::any_of(found.experiment.rows, [](auto& row) { return row.paper.top5.has_value(); });
  TableLines lines = {{"", "top-1 %"}};
  append_cells(lines[0], of_paper ? Line{"paper", "difference"} : Line{"difference to none"});
  if (has_top5) append_cells(lines[0], {"top-5 %", "paper", "difference"});
  append_cells(lines[0], {"seeds", "p"});
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const RowResults& ours = found.rows[i];
    const PaperFigures& paper = found.row(i).paper;
    Line line = {found.row(i).label, mean_cell(ours.top1, 2)};
    append_cells(line, of_paper ? Line{paper_cell(paper.top1, 2), difference_cell(ours.top1, paper.top1, 2)}
                                : Line{gain_cell(found, i, &RowResults::top1)});
    if (has_top5) {
      append_cells(line,
                   {mean_cell(ours.top5, 2), paper_cell(paper.top5, 2), difference_cell(ours.top5, paper.top5, 2)});
    }
    append_cells(line, {found.seeds_cell(i), welch_cell(found, i, &RowResults::top1)});
    lines.push_back(std::move(line));
  }
  std::string text = as_markdown(lines, 1);
  text +=
      "\nMean ± standard deviation over seeds of the mean over the last five epochs. p: Welch's t-test of top-1 "
      "against ";
  std::map<size_t, bool> baselines;
  for (const ExperimentRow& row : found.experiment.rows) {
    if (row.baseline) baselines[*row.baseline] = true;
  }
  return text + (baselines.size() == 1 ? found.row(baselines.begin()->first).label : "the same without MMA") +
         " (-: it needs two seeds of each that do not all agree).\n";
}

std::optional<double> paper_angle(const PaperFigures& paper, size_t layer) {
  return layer < paper.angles.size() ? std::optional(paper.angles[layer]) : std::nullopt;
}

bool has_papers_angles(const Found& found) {
  return std::ranges::any_of(found.experiment.rows, [](auto& row) { return !row.paper.angles.empty(); });
}

/// The layers' minimal angles, the paper's beside them where it gives any.
std::string angle_table(const Found& found) {
  const bool has_papers = has_papers_angles(found);
  TableLines lines = {{""}};
  for (const LayerColumn& layer : found.experiment.layers) {
    lines[0].push_back(layer.label);
    if (has_papers) lines[0].push_back("paper");
  }
  lines[0].push_back("mean of all layers");
  for (size_t i = 0; i < found.rows.size(); ++i) {
    Line line = {found.row(i).label};
    for (size_t layer = 0; layer < found.experiment.layers.size(); ++layer) {
      line.push_back(mean_cell(found.rows[i].angles[layer], 1));
      if (has_papers) line.push_back(paper_cell(paper_angle(found.row(i).paper, layer), 1));
    }
    line.push_back(mean_cell(found.rows[i].mean_angle, 1));
    lines.push_back(std::move(line));
  }
  return as_markdown(lines, 1) +
         "\nMinimal angles in degrees between the weight vectors of a layer, after the last "
         "epoch.\n";
}

std::string cost_table(const Found& found) {
  const bool has_papers =
      std::ranges::any_of(found.experiment.rows, [](auto& row) { return row.paper.seconds.has_value(); });
  TableLines lines = {{"", "seconds a step"}};
  if (has_papers) lines[0].push_back("paper");
  lines[0].push_back("peak memory, MiB");
  if (has_papers) lines[0].push_back("paper");
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const RowResults& ours = found.rows[i];
    const PaperFigures& paper = found.row(i).paper;
    Line line = {found.row(i).label, mean_cell(ours.seconds, 3)};
    if (has_papers) line.push_back(paper_cell(paper.seconds, 3));
    line.push_back(mean_cell(ours.memory_mib, 0));
    if (has_papers) line.push_back(paper_cell(paper.memory_mib, 0));
    lines.push_back(std::move(line));
  }
  return as_markdown(lines, 1) +
         "\nSeconds: median over a run's epochs. Memory: of the GPU's allocator, on a CPU of the whole process.\n";
}

Line csv_head_of_layers(const Found& found) {
  Line head;
  for (const LayerColumn& layer : found.experiment.layers) {
    head.push_back("minimal_angle_degrees:" + layer.label);
    if (has_papers_angles(found)) head.push_back("minimal_angle_degrees_paper:" + layer.label);
  }
  head.push_back("mean_minimal_angle_degrees");
  return head;
}

Line csv_of_layers(const Found& found, size_t row) {
  Line line;
  for (size_t layer = 0; layer < found.experiment.layers.size(); ++layer) {
    line.push_back(exact_mean(found.rows[row].angles[layer]));
    if (has_papers_angles(found)) line.push_back(exact_or_empty(paper_angle(found.row(row).paper, layer)));
  }
  line.push_back(exact_mean(found.rows[row].mean_angle));
  return line;
}

Line csv_of_accuracy(const std::vector<double>& values, const std::optional<double>& paper) {
  std::string difference;
  if (paper) difference = values.empty() ? not_run : exact_or_empty(mean(values) - *paper);
  return {exact_mean(values), exact_deviation(values), exact_or_empty(paper), difference};
}

TableLines csv_of_rows(const Found& found) {
  TableLines lines = {{"row", "seeds", "top1_percent", "top1_deviation", "top1_paper", "top1_difference", "p_welch",
                       "top5_percent", "top5_deviation", "top5_paper", "top5_difference"}};
  append_cells(lines[0], csv_head_of_layers(found));
  append_cells(lines[0], {"seconds_per_step", "seconds_per_step_paper", "peak_memory_mib", "peak_memory_mib_paper"});
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const RowResults& ours = found.rows[i];
    const PaperFigures& paper = found.row(i).paper;
    Line line = {found.row(i).label, std::to_string(ours.seeds.size())};
    append_cells(line, csv_of_accuracy(ours.top1, paper.top1));
    line.push_back(exact_welch(found, i, &RowResults::top1));
    append_cells(line, csv_of_accuracy(ours.top5, paper.top5));
    append_cells(line, csv_of_layers(found, i));
    append_cells(line, {exact_mean(ours.seconds), exact_or_empty(paper.seconds), exact_mean(ours.memory_mib),
                        exact_or_empty(paper.memory_mib)});
    lines.push_back(std::move(line));
  }
  return lines;
}

// --- Figures 3 and 4
// --------------------------------------------------------------------------------------------------

std::string coefficient_table(const Found& found) {
  TableLines lines = {{"coefficient", "final top-1 %", "difference to 0", "seeds", "p"}};
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const std::vector<double>& ours = found.rows[i].final_top1;
    const std::vector<double>& without = found.rows[0].final_top1;
    std::string difference;
    if (i > 0) difference = ours.empty() || without.empty() ? not_run : signed_number(mean(ours) - mean(without), 2);
    lines.push_back({found.row(i).label, mean_cell(ours, 2), difference, found.seeds_cell(i),
                     welch_cell(found, i, &RowResults::final_top1)});
  }
  return as_markdown(lines) +
         "\nMean ± standard deviation over seeds of the test accuracy after the last epoch. p: Welch's t-test against "
         "coefficient 0.\n";
}

TableLines csv_of_coefficients(const Found& found) {
  TableLines lines = {{"coefficient", "seeds", "final_top1_percent", "final_top1_deviation", "p_welch"}};
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const std::vector<double>& ours = found.rows[i].final_top1;
    lines.push_back({found.row(i).label, std::to_string(ours.size()), exact_mean(ours), exact_deviation(ours),
                     exact_welch(found, i, &RowResults::final_top1)});
  }
  return lines;
}

// --- Figures 5 and 6
// --------------------------------------------------------------------------------------------------

int64_t epochs_of(const Found& found) {
  return found.standing.plan.run(found.experiment, 0, found.standing.seeds.front()).settings.epochs;
}

/// Top-1 after an epoch (from 1) by seed.
std::vector<double> top1_after(const Found& found, size_t row, int64_t epoch) {
  std::vector<double> values;
  for (const size_t run : found.rows[row].runs) {
    values.push_back(found.standing.states[run].history.at(static_cast<size_t>(epoch - 1)).top1);
  }
  return values;
}

std::string epochs_above(const Found& found) {
  if (found.rows[0].empty() || found.rows[1].empty()) return "";
  int64_t above = 0;
  const int64_t epochs = epochs_of(found);
  for (int64_t epoch = 1; epoch <= epochs; ++epoch) {
    if (mean(top1_after(found, 1, epoch)) > mean(top1_after(found, 0, epoch))) ++above;
  }
  return c10::str("\nMMA's mean is above the baseline's after ", above, " of ", epochs, " epochs.\n");
}

std::string curve_table(const Found& found) {
  const int64_t epochs = epochs_of(found);
  TableLines lines = {{"top-1 % after epoch"}};
  std::vector<int64_t> shown;
  for (const int64_t part : {1, 2, 3, 4}) {
    const int64_t epoch = std::max<int64_t>(1, part * epochs / 4);
    if (shown.empty() || epoch > shown.back()) shown.push_back(epoch);
  }
  for (const int64_t epoch : shown) lines[0].push_back(std::to_string(epoch));
  lines[0].push_back("seeds");
  for (size_t row = 0; row < found.rows.size(); ++row) {
    Line line = {found.row(row).label};
    for (const int64_t epoch : shown) line.push_back(mean_cell(top1_after(found, row, epoch), 2));
    line.push_back(found.seeds_cell(row));
    lines.push_back(std::move(line));
  }
  return as_markdown(lines, 1) + epochs_above(found);
}

TableLines csv_of_curves(const Found& found) {
  TableLines lines = {{"epoch"}};
  for (const ExperimentRow& row : found.experiment.rows) {
    append_cells(lines[0], {row.label + "_top1_percent", row.label + "_top1_deviation"});
  }
  for (int64_t epoch = 1; epoch <= epochs_of(found); ++epoch) {
    Line line = {std::to_string(epoch)};
    for (size_t row = 0; row < found.rows.size(); ++row) {
      const std::vector<double> values = top1_after(found, row, epoch);
      append_cells(line, {exact_mean(values), exact_deviation(values)});
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

// --- Figure 1
// ---------------------------------------------------------------------------------------------------------

std::vector<double> pairs_above(const Found& found, size_t row, FirstLayers& first_layers) {
  std::vector<double> counts;
  for (const size_t run : found.rows[row].runs) {
    const auto& folder = found.standing.plan.runs[run].folder;
    counts.push_back(static_cast<double>(first_layers.of(folder, found.experiment.layers[0].name).pairs_above));
  }
  return counts;
}

ExperimentReport cosines_report(const Found& found, FirstLayers& first_layers) {
  TableLines lines = {{"", "pairs with a cosine above 0.2", "paper", "difference", "minimal angle", "seeds"}};
  TableLines csv = {
      {"row", "seeds", "pairs_above_0.2", "pairs_above_0.2_deviation", "paper", "difference", "minimal_angle_degrees"}};
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const std::vector<double> counts = pairs_above(found, i, first_layers);
    const std::vector<double>& angles = found.rows[i].angles[0];
    const std::optional<double> paper = found.row(i).paper.pairs_above;
    lines.push_back({found.row(i).label, mean_cell(counts, 1), paper_cell(paper, 0), difference_cell(counts, paper, 1),
                     mean_cell(angles, 1), found.seeds_cell(i)});
    Line line = {found.row(i).label, std::to_string(counts.size())};
    append_cells(line, csv_of_accuracy(counts, paper));
    line.push_back(exact_mean(angles));
    csv.push_back(std::move(line));
  }
  return {as_markdown(lines, 1) +
              "\nOf 2,016 pairs; mean ± standard deviation over seeds. The picture is that of the "
              "first finished seed.\n",
          csv};
}

// --- the study
// --------------------------------------------------------------------------------------------------------

/// Statistics of a row against its baseline, by pairs of seeds.
struct Paired {
  AgainstBaseline top1;
  double smallest = 0;  ///< detectable effect
};

Paired paired(const RowResults& row, const RowResults& baseline) {
  const auto top1_of = [](const RowResults& results) {
    ArmResults arm;
    arm.seeds = results.seeds;
    arm.top1 = results.top1;
    return arm;
  };
  const AgainstBaseline top1 = against_baseline(top1_of(row), top1_of(baseline), measures().front());
  if (std::isnan(top1.paired.low)) return {top1, top1.paired.low};  // of no scatter nothing can be told
  return {top1,
          smallest_detectable_effect(standard_deviation(top1.differences), static_cast<int>(top1.differences.size()))};
}

/// A sentence for each row that has been run beside its baseline.
std::string verdicts_on(const Found& found) {
  std::string text;
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const std::optional<size_t> baseline = found.row(i).baseline;
    if (!baseline || found.rows[i].empty() || found.rows[*baseline].empty()) continue;
    text += "- " + verdict_on(found.row(i).label, paired(found.rows[i], found.rows[*baseline]).top1) + "\n";
  }
  return text.empty() ? text : text + "\n";
}

std::string interval(const TTest& test) {
  return std::isnan(test.low) ? "-" : formatted("%+.2f to %+.2f", test.low, test.high);
}

std::string study_table(const Found& found) {
  TableLines lines = {{"", "top-1 %", "top-5 %", "difference to none", "95 % interval", "p paired", "p Welch",
                       "smallest detectable", "seeds for 0.3 points", "seeds"}};
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const RowResults& ours = found.rows[i];
    Line line = {found.row(i).label, mean_cell(ours.top1, 2), mean_cell(ours.top5, 2)};
    const RowResults& none = found.rows[found.row(i).baseline.value_or(i)];
    const Paired with = paired(ours, none);
    if (!found.row(i).baseline) {
      append_cells(line, Line(6));
    } else if (with.top1.seeds.empty()) {
      append_cells(line, Line(6, not_run));
    } else {
      const TTest &test = with.top1.paired, &welch = with.top1.welch;
      append_cells(line, {signed_number(mean(with.top1.differences), 2), interval(test), p_cell(test.p),
                          p_cell(welch.p), std::isnan(with.smallest) ? "-" : formatted("%.2f", with.smallest),
                          with.top1.needed ? std::to_string(*with.top1.needed) : "-"});
    }
    line.push_back(found.seeds_cell(i));
    lines.push_back(std::move(line));
  }
  return as_markdown(lines, 1) + R"(
Mean ± standard deviation over seeds of the mean over the last five epochs. Difference, interval and paired t-test: seed
by seed. Smallest detectable: the true difference that a paired t-test of so many seeds finds at level 0.05 with
probability 0.8, noncentrality × s / √n with s the deviation of the n differences, where |T| with n - 1 degrees of freedom
and that noncentrality exceeds its critical value with probability 0.8. Seeds for 0.3 points: how many of them it is 0.3
for.
)";
}

TableLines csv_of_study(const Found& found) {
  TableLines lines = {{"regularizer", "seeds", "top1_percent", "top1_deviation", "top5_percent", "top5_deviation",
                       "pairs", "difference", "low", "high", "t_paired", "p_paired", "p_welch", "smallest_detectable"}};
  append_cells(lines[0], csv_head_of_layers(found));
  append_cells(lines[0], {"seconds_per_step", "peak_memory_mib"});
  for (size_t i = 0; i < found.rows.size(); ++i) {
    const RowResults& ours = found.rows[i];
    Line line = {found.row(i).label,    std::to_string(ours.seeds.size()),
                 exact_mean(ours.top1), exact_deviation(ours.top1),
                 exact_mean(ours.top5), exact_deviation(ours.top5)};
    const RowResults& none = found.rows[found.row(i).baseline.value_or(i)];
    const Paired with = paired(ours, none);
    if (!found.row(i).baseline) {
      append_cells(line, Line(8));
    } else if (with.top1.seeds.empty()) {
      append_cells(line, {"0"});
      append_cells(line, Line(7, not_run));
    } else {
      const TTest& test = with.top1.paired;
      line.push_back(std::to_string(with.top1.seeds.size()));
      for (const double value : {mean(with.top1.differences), test.low, test.high, test.statistic, test.p,
                                 with.top1.welch.p, with.smallest}) {
        line.push_back(exact_or_empty(value));
      }
    }
    append_cells(line, csv_of_layers(found, i));
    append_cells(line, {exact_mean(ours.seconds), exact_mean(ours.memory_mib)});
    lines.push_back(std::move(line));
  }
  return lines;
}

// --- all
// --------------------------------------------------------------------------------------------------------------

ExperimentReport body_of(const Found& found, FirstLayers& first_layers) {
  switch (found.experiment.kind) {
    case ExperimentKind::Coefficients:
      return {coefficient_table(found), csv_of_coefficients(found)};
    case ExperimentKind::Curves:
      return {curve_table(found), csv_of_curves(found)};
    case ExperimentKind::Cosines:
      return cosines_report(found, first_layers);
    case ExperimentKind::Study:
      return {verdicts_on(found) + study_table(found) + "\n" + angle_table(found) + "\n" + cost_table(found),
              csv_of_study(found)};
    case ExperimentKind::Table:
      break;
  }
  return {accuracy_table(found) + "\n" + angle_table(found) + "\n" + cost_table(found), csv_of_rows(found)};
}

/// "mma-train 0.1.0 at 1a2b3c, LibTorch 2.11.0, cpu, float32, on 2 cores (...)"
std::string maker_of(const nlohmann::ordered_json& config) {
  const auto text = [](const nlohmann::ordered_json& json, const char* key, const char* otherwise) {
    return json.is_object() && json.contains(key) && json[key].is_string() ? json[key].get<std::string>() : otherwise;
  };
  const nlohmann::ordered_json settings = config.is_object() ? config["settings"] : nlohmann::ordered_json();
  return c10::str("mma-train ", text(config, "version", "?"), " at commit ", text(config, "git_commit", "unknown"),
                  ", LibTorch ", text(config, "libtorch", "?"), ", ", text(settings, "device", "?"), ", ",
                  text(settings, "precision", "?"), ", on ",
                  text(config, "machine", "a machine that was not recorded"));
}

}  // namespace

std::string provenance_of(const Experiment& experiment, const Standing& standing) {
  std::map<std::string, int> makers;
  size_t wanted = 0, finished = 0;
  for (size_t i = 0; i < standing.plan.runs.size(); ++i) {
    const std::vector<std::string>& users = standing.plan.runs[i].experiments;
    if (std::ranges::find(users, experiment.name) == users.end()) continue;
    ++wanted;
    if (standing.states[i].status != RunStatus::finished) continue;
    ++finished;
    ++makers[maker_of(standing.states[i].config)];
  }
  std::string text = c10::str(finished, " of ", wanted, " runs are finished");
  for (const auto& [maker, count] : makers)
    text += c10::str(text.ends_with("finished") ? ": " : "; ", count, " by ", maker);
  return text + ". Report written on " + machine_description("cpu") + ".\n";
}

ExperimentReport report_of(const Experiment& experiment, const Standing& standing, FirstLayers& first_layers) {
  Found found = {experiment, standing, {}};
  for (size_t row = 0; row < experiment.rows.size(); ++row) found.rows.push_back(results_of(experiment, row, standing));
  ExperimentReport report = body_of(found, first_layers);
  const std::string note = experiment.note.empty() ? "" : experiment.note + "\n\n";
  report.markdown = note + report.markdown + "\n" + provenance_of(experiment, standing);
  return report;
}

}  // namespace mma::examples
