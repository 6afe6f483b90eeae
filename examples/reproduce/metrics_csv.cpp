#include "reproduce/metrics_csv.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string_view>

#include "support/files/file_contents.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr double unmeasured = std::numeric_limits<double>::quiet_NaN();
constexpr double unbounded = std::numeric_limits<double>::max();
const std::string angle_prefix = "minimal_angle_degrees:";

/// What a column's numbers may be.
struct Column {
  double lowest = -unbounded, highest = unbounded;
  bool may_be_missing = false;  ///< the column: versions before it did not write it
  bool may_be_nan = false;      ///< the cell: there was nothing to measure
};

const std::map<std::string, Column>& columns() {
  static const std::map<std::string, Column> known = {
      {"epoch", {.lowest = 1}},
      {"learning_rate", {.lowest = 0}},
      {"loss", {}},
      {"regularization_loss", {}},
      {"top1_percent", {.lowest = 0, .highest = 100}},
      {"top5_percent", {.lowest = 0, .highest = 100}},
      {"mean_nearest_angle_degrees", {.lowest = 0, .highest = 180}},
      {"pairs_above_0.2", {.lowest = 0}},
      {"seconds", {.lowest = 0, .may_be_missing = true, .may_be_nan = true}},
      {"seconds_per_step", {.lowest = 0, .may_be_missing = true, .may_be_nan = true}},
      {"peak_memory_mib", {.lowest = 0, .may_be_missing = true, .may_be_nan = true}},
      {"finished_at", {.lowest = 0, .may_be_missing = true, .may_be_nan = true}}};
  return known;
}

/// A layer with fewer than two usable rows has no angle.
constexpr Column angle_of_layer = {.lowest = 0, .highest = 180, .may_be_nan = true};

/// Null for a column of a newer version.
const Column* column_named(const std::string& name) {
  if (name.starts_with(angle_prefix)) return &angle_of_layer;
  const auto found = columns().find(name);
  return found == columns().end() ? nullptr : &found->second;
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells = {""};
  for (const char character : line) {
    if (character == ',') {
      cells.emplace_back();
    } else {
      cells.back() += character;
    }
  }
  return cells;
}

/// The file's lines with their numbers, for sentences.
class MetricsCsv {
 public:
  explicit MetricsCsv(std::filesystem::path file) : file_(std::move(file)) { read_lines(); }

  std::vector<EpochMetrics> history() {
    read_head();
    std::vector<EpochMetrics> history;
    for (line_ = 1; line_ < lines_.size(); ++line_) {
      history.push_back(epoch_of(numbers()));
      const auto wanted = static_cast<int64_t>(line_);
      if (history.back().epoch != wanted) {
        refuse(c10::str("epoch ", history.back().epoch, " stands where epoch ", wanted, " was expected"));
      }
    }
    return history;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw UserError(c10::str(file_.string(), ", line ", line_ + 1, ": ", what));
  }

  void read_lines() {
    const std::string text = contents_of(file_);
    const std::string mark = "\xEF\xBB\xBF";  // of UTF-8, as spreadsheets put it before a table
    for (size_t begin = text.starts_with(mark) ? mark.size() : 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      line_ = lines_.size();
      if (end == std::string::npos) refuse("the line has no end: the file is cut off, a whole metrics.csv is needed");
      lines_.push_back(text.substr(begin, end - begin));
      if (lines_.back().ends_with('\r')) lines_.back().pop_back();  // as checked out on Windows
      begin = end + 1;
    }
    while (lines_.size() > 1 && lines_.back().empty()) lines_.pop_back();
    line_ = 0;
    if (lines_.empty()) refuse("the file is empty; the names of the columns were expected");
  }

  void read_head() {
    head_ = cells_of(lines_.front());
    std::set<std::string_view> known;
    for (const std::string& name : head_) {
      if (!known.insert(name).second) refuse("the column " + name + " is there twice");
    }
    for (const auto& [name, column] : columns()) {
      if (column.may_be_missing || std::ranges::find(head_, name) != head_.end()) continue;
      refuse("the column " + name + " is missing, which mma-train writes");
    }
  }

  /// The numbers of the present line by their columns' names, in the order of the file.
  std::vector<std::pair<std::string, double>> numbers() const {
    const std::vector<std::string> cells = cells_of(lines_[line_]);
    if (cells.size() != head_.size()) {
      refuse(c10::str(cells.size(), " cells stand below ", head_.size(), " names of columns"));
    }
    std::vector<std::pair<std::string, double>> numbers;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (const Column* column = column_named(head_[i])) {
        numbers.emplace_back(head_[i], number(cells[i], head_[i], *column));
      }
    }
    return numbers;
  }

  double number(const std::string& cell, const std::string& name, const Column& column) const {
    double value = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size()) refuse(name + " is '" + cell + "', not a number");
    if (std::isnan(value) && column.may_be_nan) return value;
    if (!std::isfinite(value)) refuse(name + " is " + cell + "; a finite number is needed");
    if (value < column.lowest || value > column.highest) {
      refuse(c10::str(name, " is ", cell, "; a number ",
                      column.highest == unbounded ? c10::str("not below ", column.lowest)
                                                  : c10::str("from ", column.lowest, " to ", column.highest),
                      " is needed"));
    }
    return value;
  }

  int64_t whole(double value, const char* name) const {
    if (value != std::floor(value) || value > 9e15) refuse(c10::str(name, " is ", value, "; a whole number is needed"));
    return static_cast<int64_t>(value);
  }

  EpochMetrics epoch_of(const std::vector<std::pair<std::string, double>>& numbers) const {
    const auto value = [&](const char* name) {
      const auto found =
          std::ranges::find(numbers, name, [](const auto& each) -> const std::string& { return each.first; });
      return found == numbers.end() ? unmeasured : found->second;
    };
    EpochMetrics metrics;
    metrics.epoch = whole(value("epoch"), "epoch");
    metrics.learning_rate = value("learning_rate");
    metrics.loss = value("loss");
    metrics.regularization_loss = value("regularization_loss");
    metrics.top1 = value("top1_percent");
    metrics.top5 = value("top5_percent");
    metrics.angles.mean_nearest_angle = value("mean_nearest_angle_degrees");
    metrics.angles.pairs_above = whole(value("pairs_above_0.2"), "pairs_above_0.2");
    metrics.seconds = value("seconds");
    metrics.seconds_per_step = value("seconds_per_step");
    metrics.peak_memory_mib = value("peak_memory_mib");
    metrics.finished_at = value("finished_at");
    for (const auto& [name, angle] : numbers) {
      if (name.starts_with(angle_prefix))
        metrics.angles.minimal_angles.emplace_back(name.substr(angle_prefix.size()), angle);
    }
    return metrics;
  }

  std::filesystem::path file_;
  std::vector<std::string> lines_, head_;
  size_t line_ = 0;  ///< from 0: the one looked at
};

}  // namespace

std::vector<EpochMetrics> read_metrics_csv(const std::filesystem::path& file) { return MetricsCsv(file).history(); }

}  // namespace mma::examples
