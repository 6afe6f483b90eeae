// The statistics of reports against scipy's and statsmodels' numbers (data/make_statistics.py).
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

TEST(Statistics, OfTheSameSampleTwiceShowNoDifference) {
  const Numbers sample = {70.5, 71, 72.25};
  EXPECT_EQ(welch_test(sample, sample).difference, 0);
  EXPECT_EQ(welch_test(sample, sample).p, 1);
  EXPECT_TRUE(std::isnan(paired_test(sample, sample).p));  // no deviation at all between the pairs
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
