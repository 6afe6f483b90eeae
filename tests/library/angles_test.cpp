// The figures of measure_angles against loops over all pairs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/angles.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference.hpp"

namespace {

TEST(MeasureAngles, FiguresAreThoseOfALoop) {
  at::manual_seed(3);
  for (const int64_t n : {2, 3, 7, 33, 101, 257, 1030}) {  // the last: more than one block of cosines
    const at::Tensor matrix = at::randn({n, 6});
    mma::AngleOptions options;
    options.histogram_bins = 10;
    const mma::LayerAngles angles = mma::measure_angles("layer", matrix.unsqueeze(0), options);
    const auto rows = reference::units(reference::rows_of(matrix));
    int64_t above = 0;
    std::vector<int64_t> histogram(10, 0);
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        const double cosine = static_cast<double>(reference::cosine(rows[i], rows[j]));
        above += cosine > 0.2;
        ++histogram[static_cast<size_t>(std::min(9.0, std::floor((cosine + 1) * 5)))];
      }
    }
    const auto nearest = reference::nearest(rows).angle;
    EXPECT_EQ(angles.pairs_above, above) << n;
    EXPECT_EQ(angles.cosine_histogram, histogram) << n;
    EXPECT_NEAR(angles.minimal_angle, static_cast<double>(*std::min_element(nearest.begin(), nearest.end())), 1e-6);
    EXPECT_NEAR(angles.mean_nearest_angle, -reference::minimal_angle_loss(matrix), 1e-6);
  }
}

TEST(MeasureAngles, TellsHowFarItIs) {
  std::vector<double> shares;
  mma::AngleOptions options;
  options.progress = [&](double share) { shares.push_back(share); };
  mma::measure_angles("layer", at::randn({1, 3000, 4}), options);
  ASSERT_GE(shares.size(), 3u);
  EXPECT_GT(shares.front(), 0);
  EXPECT_EQ(shares.back(), 1);
  EXPECT_TRUE(std::is_sorted(shares.begin(), shares.end()));
}

TEST(MeasureAngles, SimplexReachesItsBound) {
  const at::Tensor simplex = at::eye(8, at::kDouble) - 1.0 / 8;
  const mma::LayerAngles angles = mma::measure_angles("simplex", simplex.unsqueeze(0));
  EXPECT_NEAR(angles.simplex_bound, std::acos(-1.0 / 7), 1e-15);
  EXPECT_NEAR(angles.minimal_angle, angles.simplex_bound, 1e-12);
}

TEST(MeasureAngles, GroupsAndZeroRows) {
  at::Tensor rows = at::randn({2, 4, 5});
  rows[1][2].zero_();
  const mma::LayerAngles angles = mma::measure_angles("grouped", rows);
  EXPECT_EQ(angles.groups, 2);
  EXPECT_EQ(angles.zero_rows, 1);
  const at::Tensor kept = at::cat({rows[1].narrow(0, 0, 2), rows[1].narrow(0, 3, 1)});
  EXPECT_NEAR(angles.mean_nearest_angle,
              -(4 * reference::minimal_angle_loss(rows[0]) + 3 * reference::minimal_angle_loss(kept)) / 7, 1e-6);
}

TEST(MeasureAngles, TheMinimalAngleIsThatOfTheClosestGroup) {
  const auto pair = [](double angle) { return at::tensor({1.0, 0.0, std::cos(angle), std::sin(angle)}).view({2, 2}); };
  const auto minimal = [](const std::vector<at::Tensor>& groups) {
    return mma::measure_angles("grouped", at::stack(groups)).minimal_angle;
  };
  EXPECT_NEAR(minimal({pair(0.5), pair(0.2), pair(0.7)}), 0.2, 1e-12);
  EXPECT_NEAR(minimal({pair(0.2), pair(0.5)}), 0.2, 1e-12);
  EXPECT_NEAR(minimal({at::zeros({2, 2}, at::kDouble), pair(0.5)}), 0.5, 1e-12);
}

TEST(MeasureAngles, FiguresThatAreNoneAreNaN) {
  for (const at::Tensor& rows : {at::ones({1, 1, 4}), at::zeros({1, 3, 4}), at::ones({0, 3, 4})}) {
    const mma::LayerAngles angles = mma::measure_angles("nothing", rows);
    EXPECT_TRUE(mma::detail::pairs::is_nan(angles.minimal_angle));
    EXPECT_TRUE(mma::detail::pairs::is_nan(angles.mean_nearest_angle));
    EXPECT_FALSE(angles.note.empty());
  }
}

}  // namespace
