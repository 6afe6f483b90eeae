#include "reproduce/cells.hpp"

#include <cmath>

#include "reproduce/statistics.hpp"
#include "support/terminal/table.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {

std::string mean_cell(const std::vector<double>& values, int digits) {
  if (values.empty()) return not_run;
  const double middle = mean(values);
  if (std::isnan(middle)) return "-";
  const std::string text = formatted("%.*f", digits, middle);
  return values.size() == 1 ? text : text + formatted(" ± %.*f", digits, standard_deviation(values));
}

std::string signed_number(double value, int digits) {
  return std::isnan(value) ? "-" : formatted("%+.*f", digits, value);
}

std::string p_cell(double p) {
  if (std::isnan(p)) return "-";
  return p < 0.0001 ? "< 0.0001" : formatted("%.4f", p);
}

std::string paper_cell(const std::optional<double>& value, int digits) {
  return value ? formatted("%.*f", digits, *value) : "";
}

std::string difference_cell(const std::vector<double>& values, const std::optional<double>& paper, int digits) {
  if (!paper) return "";
  return values.empty() ? not_run : signed_number(mean(values) - *paper, digits);
}

std::string exact_or_empty(double value) { return std::isnan(value) ? "" : exact(value); }

std::string exact_or_empty(const std::optional<double>& value) { return value ? exact_or_empty(*value) : ""; }

std::string exact_mean(const std::vector<double>& values) {
  return values.empty() ? not_run : exact_or_empty(mean(values));
}

std::string exact_deviation(const std::vector<double>& values) {
  return values.empty() ? not_run : exact_or_empty(standard_deviation(values));
}

}  // namespace mma::examples
