#include "faces/verification_report.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/images/plot.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

using Row = std::vector<std::string>;

/// "1e-3"
std::string short_number(double power_of_ten) {
  return formatted("1e%d", static_cast<int>(std::lround(std::log10(power_of_ten))));
}

std::string percent_or_dash(const std::optional<double>& share) {
  return share ? formatted("%.2f", 100 * *share) : "-";
}

std::string range_of_thresholds(const std::vector<FoldResult>& folds) {
  const auto [least, most] = std::ranges::minmax_element(folds, {}, &FoldResult::threshold);
  const std::string first = formatted("%.4g", least->threshold);
  const std::string last = formatted("%.4g", most->threshold);
  return first == last ? first : first + " to " + last;
}

Row head() {
  Row row = {"set", "pairs", "images", "accuracy, %", "std. error", "threshold"};
  for (const double rate : reported_false_accepts) row.push_back("TAR at " + short_number(rate));
  row.insert(row.end(), {"AUC", "EER, %"});
  return row;
}

Row row_of(const VerificationResult& result) {
  const MeanAccuracy accuracy = mean_accuracy(result.tested);
  Row row = {result.name,
             std::to_string(result.roc.same_pairs() + result.roc.different_pairs()),
             std::to_string(result.images),
             formatted("%.2f", 100 * accuracy.mean),
             percent_or_dash(accuracy.standard_error),
             range_of_thresholds(result.tested)};
  for (const double rate : reported_false_accepts) row.push_back(percent_or_dash(result.roc.true_accepts_at(rate)));
  row.push_back(formatted("%.4f", result.roc.area()));
  row.push_back(formatted("%.2f", 100 * result.roc.equal_error_rate()));
  return row;
}

void print_rows(const std::vector<Row>& rows, std::ostream& stream) {
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blank(widths[i] - row[i].size(), ' ');
      stream << (i == 0 ? row[i] + blank : "  " + blank + row[i]);
    }
    stream << '\n';
  }
}

void print_folds(const VerificationResult& result, std::ostream& stream) {
  stream << result.name << " by fold, %:";
  for (const FoldResult& fold : result.tested) {
    if (std::ssize(result.tested) < result.folds)
      stream << (&fold == &result.tested.front() ? " " : ", ") << fold.fold << ':';
    stream << formatted(" %.2f", 100 * fold.accuracy());
  }
  stream << '\n';
}

void print_what_is_missing(const std::vector<VerificationResult>& results, std::ostream& stream) {
  for (const double rate : reported_false_accepts) {
    for (const VerificationResult& result : results) {
      if (result.roc.true_accepts_at(rate)) continue;
      stream << result.name << ": TAR at FAR " << short_number(rate) << " needs at least "
             << Roc::different_pairs_needed(rate) << " different pairs; there are " << result.roc.different_pairs()
             << ".\n";
    }
  }
}

}  // namespace

void print_table(const std::vector<VerificationResult>& results, std::ostream& stream) {
  std::vector<Row> rows = {head()};
  for (const VerificationResult& result : results) rows.push_back(row_of(result));
  print_rows(rows, stream);
  for (const VerificationResult& result : results) print_folds(result, stream);
  stream
      << "Accuracy: mean over the folds. A pair is taken for one identity where the squared distance of its features "
         "(2 - 2 cosine)\nis below the threshold, which is chosen on the other folds. TAR in % at that FAR.\n";
  for (const VerificationResult& result : results) {
    if (result.folds > 1) continue;
    stream << result.name << " has one fold: its threshold is the best one for itself, its accuracy an upper bound.\n";
  }
  print_what_is_missing(results, stream);
}

nlohmann::ordered_json to_json(const VerificationResult& result) {
  const auto percent = [](const std::optional<double>& share) {
    return share ? nlohmann::ordered_json(100 * *share) : nlohmann::ordered_json();
  };
  const MeanAccuracy accuracy = mean_accuracy(result.tested);
  nlohmann::ordered_json json;
  json["name"] = result.name;
  json["images"] = result.images;
  json["same_pairs"] = result.roc.same_pairs();
  json["different_pairs"] = result.roc.different_pairs();
  json["accuracy_percent"] = 100 * accuracy.mean;
  json["standard_error_percent"] = percent(accuracy.standard_error);
  json["deviation_percent"] = percent(accuracy.deviation);
  for (const double rate : reported_false_accepts) {
    json["true_accepts_percent_at"][short_number(rate)] = percent(result.roc.true_accepts_at(rate));
  }
  json["auc"] = result.roc.area();
  json["eer_percent"] = 100 * result.roc.equal_error_rate();
  for (const FoldResult& fold : result.tested) {
    json["folds"].push_back({{"fold", fold.fold},
                             {"threshold", fold.threshold},
                             {"threshold_cosine", 1 - fold.threshold / 2},
                             {"correct", fold.correct},
                             {"pairs", fold.pairs},
                             {"accuracy_percent", 100 * fold.accuracy()}});
  }
  return json;
}

void plot_roc(const std::vector<VerificationResult>& results, const std::filesystem::path& path) {
  Plot plot;
  plot.title = "true accepts by false accepts";
  plot.x_label = "false accept rate";
  plot.y_label = "true accept rate, %";
  plot.x_is_logarithmic = true;
  double least = 1;
  for (const VerificationResult& result : results) {
    least = std::min(least, 1 / static_cast<double>(result.roc.different_pairs()));
    Series line;
    line.name = formatted("%s  AUC %.4f", result.name.c_str(), result.roc.area());
    for (const Roc::Point& point : result.roc.points()) {
      line.x.push_back(point.false_accepts);
      line.y.push_back(100 * point.true_accepts);
    }
    plot.lines.push_back(std::move(line));
  }
  const double decade = std::pow(10, std::floor(std::log10(least) + 1e-9));
  // A curve begins on the axis' left edge: no false accept at all lies infinitely far to the left.
  for (Series& line : plot.lines) {
    for (double& x : line.x) x = std::max(x, decade);
  }
  plot.x_range = {decade, 1};
  plot.y_range = {0, 100};
  for (double x = decade; x < 2; x *= 10) plot.x_ticks.emplace_back(x, x > 0.5 ? "1" : short_number(x));
  write_png(path, {plot});
}

}  // namespace mma::examples
