#include "reproduce/statistics.hpp"

#include <algorithm>
#include <boost/math/distributions/non_central_t.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <boost/math/statistics/bivariate_statistics.hpp>
#include <cmath>
#include <limits>
#include <numeric>

namespace mma::examples {
namespace {

using boost::math::complement;
using boost::math::non_central_t;
using boost::math::students_t;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double confidence = 0.95;

double count_of(const std::vector<double>& sample) { return static_cast<double>(sample.size()); }

/// How far |T| goes with probability 1 - alpha.
double critical_value(double degrees, double alpha) {
  return boost::math::quantile(complement(students_t(degrees), alpha / 2));
}

constexpr TTest untested = {not_a_number, not_a_number, not_a_number, not_a_number, not_a_number, not_a_number};

double largest_of(const std::vector<double>& sample) {
  double largest = 0;
  for (const double value : sample) largest = std::max(largest, std::abs(value));
  return largest;
}

/// From a difference, its standard error and the degrees of freedom. `largest` of the values tells what rounding alone
/// may scatter.
TTest t_test(double difference, double error, double degrees, double largest) {
  constexpr double rounding = 1e-12;
  TTest test = untested;
  test.difference = difference;
  if (error <= rounding * largest) return test;  // all values alike: they tell nothing of chance
  test.degrees = degrees;
  test.statistic = difference / error;
  test.p = 2 * boost::math::cdf(complement(students_t(degrees), std::abs(test.statistic)));
  const double margin = critical_value(degrees, 1 - confidence) * error;
  test.low = difference - margin;
  test.high = difference + margin;
  return test;
}

}  // namespace

double mean(const std::vector<double>& sample) {
  return std::accumulate(sample.begin(), sample.end(), 0.0) / count_of(sample);
}

double standard_deviation(const std::vector<double>& sample) {
  if (sample.size() < 2) return not_a_number;
  const double middle = mean(sample);
  double squares = 0;
  for (const double value : sample) squares += (value - middle) * (value - middle);
  return std::sqrt(squares / (count_of(sample) - 1));
}

double median(std::vector<double> sample) {
  if (sample.empty()) return not_a_number;
  std::ranges::sort(sample);
  const size_t half = sample.size() / 2;
  return sample.size() % 2 == 1 ? sample[half] : (sample[half - 1] + sample[half]) / 2;
}

TTest welch_test(const std::vector<double>& first, const std::vector<double>& second) {
  if (first.size() < 2 || second.size() < 2) return untested;
  const double of_first = std::pow(standard_deviation(first), 2) / count_of(first);
  const double of_second = std::pow(standard_deviation(second), 2) / count_of(second);
  const double both = of_first + of_second;
  const double degrees = both * both /
                         (of_first * of_first / (count_of(first) - 1) +
                          of_second * of_second / (count_of(second) - 1));  // Welch and Satterthwaite
  return t_test(mean(first) - mean(second), std::sqrt(both), degrees, std::max(largest_of(first), largest_of(second)));
}

TTest paired_test(const std::vector<double>& first, const std::vector<double>& second) {
  std::vector<double> differences;
  for (size_t i = 0; i < std::min(first.size(), second.size()); ++i) differences.push_back(first[i] - second[i]);
  if (differences.size() < 2) return untested;
  const double count = count_of(differences);
  return t_test(mean(differences), standard_deviation(differences) / std::sqrt(count), count - 1,
                std::max(largest_of(first), largest_of(second)));
}

double smallest_detectable_effect(double deviation, int pairs, double alpha, double power) {
  if (pairs < 2 || std::isnan(deviation)) return not_a_number;
  const double degrees = pairs - 1;
  const double critical = critical_value(degrees, alpha);
  const auto probability_of_finding = [&](double noncentrality) {
    const non_central_t distribution(degrees, noncentrality);
    return boost::math::cdf(complement(distribution, critical)) + boost::math::cdf(distribution, -critical);
  };
  double low = 0, high = 1;
  while (probability_of_finding(high) < power) high *= 2;
  for (int halving = 0; halving < 60; ++halving) {
    const double middle = (low + high) / 2;
    (probability_of_finding(middle) < power ? low : high) = middle;
  }
  return high * deviation / std::sqrt(static_cast<double>(pairs));
}

std::optional<int> pairs_needed(double effect, double deviation, double alpha, double power) {
  constexpr int most = 1 << 24;
  if (!(deviation > 0) || !(effect > 0)) return std::nullopt;
  const auto are_enough = [&](int pairs) {
    return smallest_detectable_effect(deviation, pairs, alpha, power) <= effect;
  };
  int high = 2;
  while (!are_enough(high)) {
    if (high >= most) return std::nullopt;
    high *= 2;
  }
  int low = high / 2;  // too few, or 1
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    (are_enough(middle) ? high : low) = middle;
  }
  return high;
}

Correlation correlation(const std::vector<double>& x, const std::vector<double>& y) {
  constexpr Correlation untold = {not_a_number, not_a_number, not_a_number};
  if (x.size() < 4 || std::ranges::minmax(x).min == std::ranges::minmax(x).max ||
      std::ranges::minmax(y).min == std::ranges::minmax(y).max) {
    return untold;
  }
  const double coefficient = std::clamp(boost::math::statistics::correlation_coefficient(x, y), -1.0, 1.0);
  const double margin = boost::math::quantile(boost::math::normal(), (1 + confidence) / 2) / std::sqrt(count_of(x) - 3);
  const double middle = std::atanh(coefficient);
  return {coefficient, std::tanh(middle - margin), std::tanh(middle + margin)};
}

}  // namespace mma::examples
