// The analytic solution against its definition: unit rows, all angles arccos(-1/(n-1)).
#include <gtest/gtest.h>
#include <mma/simplex.hpp>

#include <cmath>

namespace {

TEST(Simplex, AllAnglesAreEqual) {
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{
           {2, 1}, {2, 5}, {3, 2}, {4, 3}, {4, 64}, {5, 4}, {6, 5}, {17, 16}, {17, 99}, {100, 99}, {257, 300}}) {
    const at::Tensor points = mma::simplex(n, d);
    ASSERT_EQ(points.sizes(), (at::IntArrayRef{n, d}));
    ASSERT_EQ(points.scalar_type(), at::kDouble);
    const auto* p = points.const_data_ptr<double>();
    double worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j <= i; ++j) {
        double cosine = 0, difference = 0, sum = 0;
        for (int64_t k = 0; k < d; ++k) {
          const double a = p[i * d + k], b = p[j * d + k];
          cosine += a * b;
          difference += (a - b) * (a - b);
          sum += (a + b) * (a + b);
        }
        const double angle = 2 * std::atan2(std::sqrt(difference), std::sqrt(sum));
        worst = std::max(worst, i == j ? std::abs(cosine - 1) : std::abs(angle - std::acos(-1.0 / double(n - 1))));
      }
    }
    EXPECT_LT(worst, 1e-12) << n << " points in " << d << " dimensions";
  }
}

TEST(Simplex, TwoPointsAreOpposite) {
  const at::Tensor points = mma::simplex(2, 3);
  EXPECT_LT((points[0] + points[1]).abs().max().item<double>(), 1e-15);
}

TEST(Simplex, AngleHasKnownValues) {
  EXPECT_NEAR(mma::simplex_angle(2) * 180 / M_PI, 180, 1e-12);
  EXPECT_NEAR(mma::simplex_angle(3) * 180 / M_PI, 120, 1e-12);
  EXPECT_NEAR(mma::simplex_angle(4) * 180 / M_PI, 109.47122063449069, 1e-12);
}

TEST(Simplex, RefusesWhatDoesNotExistInOneSentence) {
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{{1, 3}, {0, 3}, {-4, 3}, {5, 3}, {2, 0}}) {
    try {
      mma::simplex(n, d);
      FAIL() << n << ' ' << d;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what_without_backtrace())
                    .find("simplex got n = " + std::to_string(n) + " points in d = " + std::to_string(d)),
                std::string::npos);
    }
  }
  EXPECT_THROW(mma::simplex_angle(1), c10::Error);
}

}  // namespace
