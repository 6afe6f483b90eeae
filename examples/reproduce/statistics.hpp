// What seeds tell: means with their deviations, Student's t-tests, and how small an effect so many seeds can show.
#pragma once

#include <optional>
#include <vector>

namespace mma::examples {

/// NaN for an empty sample.
double mean(const std::vector<double>& sample);

/// The sample's, with n - 1; NaN for fewer than two values.
double standard_deviation(const std::vector<double>& sample);

/// NaN for an empty sample; of an even number the mean of the two in the middle.
double median(std::vector<double> sample);

/// A two-sided test of whether two means differ. Everything is NaN where there are too few values, everything but the
/// difference where the values do not scatter.
struct TTest {
  double difference;  ///< mean of the first sample minus that of the second
  double statistic;
  double degrees;    ///< of freedom
  double p;          ///< how often chance alone gives such a difference
  double low, high;  ///< 95 % confidence interval of the difference
};

/// Welch's: two independent samples whose deviations may differ.
TTest welch_test(const std::vector<double>& first, const std::vector<double>& second);

/// By pairs: first[i] and second[i] belong together, as runs from the same seed do. Both must be of one length.
TTest paired_test(const std::vector<double>& first, const std::vector<double>& second);

/// The smallest true difference that a two-sided paired test at level `alpha` finds with probability `power`, when the
/// differences of `pairs` pairs have this deviation: noncentrality * deviation / sqrt(pairs), where |T| of the
/// noncentral t distribution with pairs - 1 degrees of freedom exceeds its critical value with that probability.
/// NaN for fewer than two pairs.
double smallest_detectable_effect(double deviation, int pairs, double alpha = 0.05, double power = 0.8);

/// The fewest pairs with which such a test finds a true difference of `effect` with that probability. Nothing where the
/// deviation is not known, or 0: then the differences tell nothing of chance.
std::optional<int> pairs_needed(double effect, double deviation, double alpha = 0.05, double power = 0.8);

/// Pearson's, with the 95 % interval of Fisher's transformation. Everything is NaN for fewer than four pairs, which
/// have no interval, and where one of the two does not vary.
struct Correlation {
  double coefficient;
  double low, high;
};

/// x[i] and y[i] belong together. Both must be of one length.
Correlation correlation(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace mma::examples
