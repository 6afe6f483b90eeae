// The statistics of reports against scipy's and statsmodels' numbers (data/make_statistics.py and
// data/make_gather_statistics.py).
#include "reproduce/statistics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

namespace mma::examples {
namespace {

using Numbers = std::vector<double>;

std::vector<Numbers> published_lines() {
  std::ifstream file(MMA_STATISTICS);
  std::vector<Numbers> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    lines.emplace_back();
    for (std::string word; words >> word;) lines.back().push_back(std::stod(word));
  }
  return lines;
}

void expect_near(double ours, double theirs, double relative) {
  EXPECT_NEAR(ours, theirs, relative * std::abs(theirs) + 1e-15);
}

void expect_test(const TTest& test, const Numbers& published) {
  expect_near(test.statistic, published[0], 1e-9);
  expect_near(test.degrees, published[1], 1e-9);
  expect_near(test.p, published[2], 1e-9);
  expect_near(test.low, published[3], 1e-9);
  expect_near(test.high, published[4], 1e-9);
}

TEST(Statistics, AreThoseOfScipyAndStatsmodels) {
  const std::vector<Numbers> lines = published_lines();
  ASSERT_EQ(lines.size(), 25u);
  for (size_t i = 0; i < lines.size(); i += 5) {
    SCOPED_TRACE(i / 5);
    const Numbers& first = lines[i];
    const Numbers& second = lines[i + 1];
    expect_test(welch_test(first, second), lines[i + 2]);
    expect_test(paired_test(first, second), lines[i + 3]);
    expect_near(standard_deviation(first), lines[i + 4][0], 1e-12);
    expect_near(standard_deviation(second), lines[i + 4][1], 1e-12);
    Numbers differences;
    for (size_t k = 0; k < first.size(); ++k) differences.push_back(first[k] - second[k]);
    const double effect =
        smallest_detectable_effect(standard_deviation(differences), static_cast<int>(differences.size()));
    expect_near(effect, lines[i + 4][2], 1e-6);  // statsmodels' own search stops there
  }
}

Numbers numbers_in(const std::string& line) {
  std::istringstream words(line);
  Numbers numbers;
  for (double number = 0; words >> number;) numbers.push_back(number);
  return numbers;
}

TEST(Statistics, PairsNeededAreThoseOfScipyAndStatsmodels) {
  std::ifstream file(MMA_GATHER_STATISTICS);
  size_t cases = 0;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("needed ")) continue;
    SCOPED_TRACE(line);
    const Numbers numbers = numbers_in(line.substr(7));
    ASSERT_EQ(numbers.size(), 5u);
    EXPECT_EQ(pairs_needed(numbers[0], numbers[1], numbers[2], numbers[3]), static_cast<int>(numbers[4]));
    ++cases;
  }
  EXPECT_EQ(cases, 8u);
}

TEST(Statistics, CorrelationsAreThoseOfScipy) {
  std::ifstream file(MMA_GATHER_STATISTICS);
  size_t cases = 0;
  for (std::string line, x, y, published; std::getline(file, line);) {
    if (line != "correlation") continue;
    ASSERT_TRUE(std::getline(file, x) && std::getline(file, y) && std::getline(file, published));
    SCOPED_TRACE(x);
    const Correlation ours = correlation(numbers_in(x), numbers_in(y));
    const Numbers theirs = numbers_in(published);
    expect_near(ours.coefficient, theirs.at(0), 1e-12);
    expect_near(ours.low, theirs.at(1), 1e-9);
    expect_near(ours.high, theirs.at(2), 1e-9);
    ++cases;
  }
  EXPECT_EQ(cases, 4u);
}

TEST(Statistics, OfTooLittleTellNeitherPairsNorCorrelation) {
  EXPECT_EQ(pairs_needed(0.3, 0), std::nullopt);
  EXPECT_EQ(pairs_needed(0.3, standard_deviation({1})), std::nullopt);
  EXPECT_TRUE(std::isnan(correlation({1, 2, 3}, {1, 2, 4}).coefficient));
  EXPECT_TRUE(std::isnan(correlation({1, 2, 3, 4}, {5, 5, 5, 5}).coefficient));
  EXPECT_TRUE(std::isnan(correlation({2, 2, 2, 2}, {1, 2, 3, 5}).low));
}

TEST(Statistics, OfTheSameSampleTwiceShowNoDifference) {
  const Numbers sample = {70.5, 71, 72.25};
  EXPECT_EQ(welch_test(sample, sample).difference, 0);
  EXPECT_EQ(welch_test(sample, sample).p, 1);
  EXPECT_TRUE(std::isnan(paired_test(sample, sample).p));  // no deviation at all between the pairs
}

/// Three differences of 1.1, which float64 does not hold: they scatter by 1e-14.
TEST(Statistics, TakeRoundingForNoScatter) {
  const Numbers without = {15.73, 31.81, 42.7}, with = {16.83, 32.91, 43.8};
  ASSERT_NE(with[0] - without[0], with[2] - without[2]);
  EXPECT_TRUE(std::isnan(paired_test(with, without).p));
  EXPECT_TRUE(std::isnan(paired_test(with, without).low));
  EXPECT_NEAR(paired_test(with, without).difference, 1.1, 1e-12);
  EXPECT_TRUE(std::isnan(welch_test({0.1 + 0.2, 0.3}, {0.7, 0.1 + 0.6}).p));
  EXPECT_LT(paired_test({1 + 1e-9, 2 + 1e-9, 3 + 1.1e-9}, {1, 2, 3}).p, 1);  // small, but no rounding
}

TEST(Statistics, WithoutEnoughValuesAreNotANumber) {
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(median({})));
  EXPECT_EQ(mean({3}), 3);
  EXPECT_TRUE(std::isnan(standard_deviation({3})));
  EXPECT_TRUE(std::isnan(welch_test({1, 2}, {3}).p));
  EXPECT_TRUE(std::isnan(paired_test({1}, {2}).p));
  EXPECT_TRUE(std::isnan(smallest_detectable_effect(0.3, 1)));
  EXPECT_TRUE(std::isnan(welch_test({2, 2}, {2, 2}).p));
}

TEST(Statistics, TheMedianIsTheMiddle) {
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

TEST(Statistics, MoreSeedsShowSmallerEffects) {
  EXPECT_LT(smallest_detectable_effect(0.3, 10), smallest_detectable_effect(0.3, 5));
  EXPECT_LT(smallest_detectable_effect(0.3, 1000), 0.03);
}

}  // namespace
}  // namespace mma::examples
