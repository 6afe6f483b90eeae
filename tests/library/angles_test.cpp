// The report's figures against loops over all pairs, and what a person and a program read.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/angles.hpp>

#include <nlohmann/json.hpp>
#include <sstream>

#include "reference.hpp"

namespace {

TEST(MeasureAngles, FiguresAreThoseOfALoop) {
  at::manual_seed(3);
  for (const int64_t n : {2, 3, 7, 33, 101, 257}) {
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

mma::Report odd_report() {
  mma::Report report;
  report.layers.push_back(mma::measure_angles("features.0", at::eye(3).unsqueeze(0)));
  report.layers.push_back(mma::measure_angles("odd \"name\"\n", at::ones({1, 1, 4})));
  report.layers.push_back(mma::measure_angles("broken", at::full({1, 3, 4}, std::nan(""))));
  return report;
}

TEST(Report, JsonIsRead) {
  const auto json = nlohmann::json::parse(odd_report().json());
  ASSERT_EQ(json["layers"].size(), 3U);
  EXPECT_NEAR(json["layers"][0]["minimal_angle_degrees"].get<double>(), 90.0, 1e-9);
  EXPECT_EQ(json["layers"][1]["name"], "odd \"name\"\n");
  EXPECT_TRUE(json["layers"][1]["minimal_angle_degrees"].is_null());
  EXPECT_EQ(json["layers"][2]["note"], "has NaN or Inf");
}

TEST(Report, TableIsAligned) {
  mma::Report report = odd_report();
  report.layers[1].name = "short";
  std::ostringstream table;
  table << report;
  EXPECT_EQ(
      table.str(),
      "layer       rows  dimension  minimal angle  mean nearest  simplex bound  pairs > 0.2  zero rows  note\n"
      "features.0     3          3         90.000        90.000        120.000            0          0\n"
      "short          1          4              -             -              -            0          0  fewer than "
      "2 rows\n"
      "broken         3          4              -             -        120.000            0          0  has NaN or "
      "Inf\n"
      "angles in degrees\n");
}

}  // namespace
