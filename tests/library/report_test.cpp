// What a person and a program read of a report.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/report.hpp>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace {

mma::Report odd_report() {
  mma::Report report;
  report.layers.push_back(mma::measure_angles("features.0", at::eye(3).unsqueeze(0)));
  report.layers.push_back(mma::measure_angles("odd \"name\"\n", at::ones({1, 1, 4})));
  report.layers.push_back(mma::measure_angles("broken", at::full({1, 3, 4}, std::nan(""))));
  return report;
}

mma::Report lacking_report() {
  mma::Report report;
  report.left_out.push_back({"lstm.weight_ih_l0", {20, 4}, "LSTM"});
  report.left_out.push_back({"odd \"name\"", {5, 3, 4}, "Bilinear"});
  return report;
}

std::string table_of(const mma::Report& report) {
  std::ostringstream table;
  table << report;
  return table.str();
}

TEST(Report, JsonIsRead) {
  const auto json = nlohmann::json::parse(odd_report().json());
  ASSERT_EQ(json["layers"].size(), 3U);
  EXPECT_NEAR(json["layers"][0]["minimal_angle_degrees"].get<double>(), 90.0, 1e-9);
  EXPECT_EQ(json["layers"][1]["name"], "odd \"name\"\n");
  EXPECT_TRUE(json["layers"][1]["minimal_angle_degrees"].is_null());
  EXPECT_EQ(json["layers"][2]["note"], "has NaN or Inf");
  EXPECT_TRUE(json["left_out"].empty());
}

TEST(Report, TableIsAligned) {
  mma::Report report = odd_report();
  report.layers[1].name = "short";
  EXPECT_EQ(
      table_of(report),
      "layer       rows  dimension  minimal angle  mean nearest  simplex bound  pairs > 0.2  zero rows  note\n"
      "features.0     3          3         90.000        90.000        120.000            0          0\n"
      "short          1          4              -             -              -            0          0  fewer than "
      "2 rows\n"
      "broken         3          4              -             -        120.000            0          0  has NaN or "
      "Inf\n"
      "angles in degrees\n");
}

TEST(Report, WhatWasLeftOutFollowsTheTable) {
  mma::Report report = lacking_report();
  const std::string lines =
      "left out, Regularizer::add() takes them:\n"
      "  lstm.weight_ih_l0 [20, 4] of LSTM\n"
      "  odd \"name\" [5, 3, 4] of Bilinear\n";
  EXPECT_EQ(table_of(report), "no layers\n" + lines);
  report.layers.push_back(mma::measure_angles("fc", at::eye(3).unsqueeze(0)));
  const std::string table = table_of(report);
  EXPECT_EQ(table.substr(table.find("left out")), lines);
  EXPECT_EQ(table_of(mma::Report()), "no layers\n");
}

TEST(Report, JsonListsWhatWasLeftOut) {
  const auto json = nlohmann::json::parse(lacking_report().json());
  EXPECT_TRUE(json["layers"].empty());
  EXPECT_EQ(json["left_out"], nlohmann::json::parse(R"([
    {"name": "lstm.weight_ih_l0", "sizes": [20, 4], "module": "LSTM"},
    {"name": "odd \"name\"", "sizes": [5, 3, 4], "module": "Bilinear"}])"));
}

TEST(Report, NumbersThatAreNoneAreNull) {
  mma::Report report;
  report.layers.emplace_back();
  report.layers.back().coefficient = std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(report.json());
  for (const char* key :
       {"minimal_angle_degrees", "mean_nearest_angle_degrees", "simplex_bound_degrees", "coefficient"}) {
    EXPECT_TRUE(json["layers"][0][key].is_null()) << key;
  }
}

}  // namespace
