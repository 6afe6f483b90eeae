// The words in a report's cells.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

inline constexpr const char* not_run = "not run";

/// "72.08 ± 0.21"; of one value without a deviation, of none "not run".
std::string mean_cell(const std::vector<double>& values, int digits);

/// With its sign: "+0.12", "-0.07".
std::string signed_number(double value, int digits);

/// "0.0312", "< 0.0001"; "-" where there is nothing to test.
std::string p_cell(double p);

std::string paper_cell(const std::optional<double>& value, int digits);

/// Ours minus the paper's; "" where it gives none.
std::string difference_cell(const std::vector<double>& values, const std::optional<double>& paper, int digits);

/// For CSV: every digit; of nothing "not run", NaN is empty.
std::string exact_mean(const std::vector<double>& values);
std::string exact_deviation(const std::vector<double>& values);
std::string exact_or_empty(double value);
std::string exact_or_empty(const std::optional<double>& value);

}  // namespace mma::examples
