// The polish against published values and exact solutions; what is known about n points; Figure 2 against its formulas.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mma/angles.hpp>

#include "tammes/gradients.hpp"
#include "tammes/known_values.hpp"
#include "tammes/polish.hpp"
#include "tammes/solve.hpp"

namespace mma::examples {
namespace {

double polished_degrees(int64_t n, int64_t d, int64_t starts) {
  TammesAnnealedOptions options;
  options.points = n;
  options.dimension = d;
  options.starts = starts;
  options.hops = 0;
  options.last_doubling = 16;
  const Solution solution = anneal_and_polish(options, "test");
  EXPECT_GT(solution.polish_rounds, 0);
  return degrees(minimal_angle(solution.points));
}

TEST(Polish, ReachesPublishedValues) {
  EXPECT_NEAR(polished_degrees(12, 3, 2), 63.4349488229220, 1e-9);  // arctan 2
  EXPECT_NEAR(polished_degrees(30, 3, 12), 38.5971159, 1e-6);
  EXPECT_NEAR(polished_degrees(30, 5, 12), 65.6046968, 1e-6);
  EXPECT_NEAR(polished_degrees(8, 3, 4), 74.8584922, 1e-6);  // the square antiprism of Schuette and van der Waerden
}

TEST(Polish, OnlyRaisesTheAngleAndStops) {
  at::manual_seed(3);
  const at::Tensor random = mma::detail::tammes::unit(at::randn({20, 4}, at::kDouble));
  const Polished polished = polish(random);
  EXPECT_GT(minimal_angle(polished.points), minimal_angle(random));
  EXPECT_NEAR((polished.points.square().sum(1) - 1).abs().max().item<double>(), 0, 1e-14);
  EXPECT_EQ(polish(random, [] { return true; }).rounds, 0);
  const at::Tensor ends = at::tensor(std::vector<double>{1.0, -1.0, 1.0}, at::kDouble).view({3, 1});
  EXPECT_TRUE(at::equal(polish(ends).points, ends));
}

TEST(ExactSolution, ReachesItsBound) {
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{
           {2, 1}, {2, 7}, {4, 3}, {7, 2}, {100, 2}, {6, 3}, {5, 3}, {6, 4}, {8, 4}, {20, 10}, {65, 64}}) {
    const auto exact = exact_solution(n, d);
    ASSERT_TRUE(exact) << n << ' ' << d;
    EXPECT_NEAR(degrees(minimal_angle(exact->points)), upper_bound(n, d).degrees, 1e-9) << n << ' ' << d;
    EXPECT_TRUE(known_value(n, d)->proven);
  }
  EXPECT_EQ(minimal_angle(exact_solution(5, 1)->points), 0);
  EXPECT_FALSE(exact_solution(7, 3));
  EXPECT_FALSE(known_value(31, 3));
}

TEST(KnownValue, IsBelowTheBound) {
  for (const auto& [d, n] : std::vector<std::pair<int64_t, int64_t>>{
           {3, 12}, {3, 30}, {3, 130}, {4, 30}, {4, 120}, {4, 130}, {4, 600}, {5, 30}, {5, 130}, {8, 240}}) {
    const auto known = known_value(n, d);
    ASSERT_TRUE(known);
    EXPECT_LT(known->degrees, upper_bound(n, d).degrees + 1e-6) << d << ' ' << n;
  }
  EXPECT_NEAR(upper_bound(12, 3).degrees, 63.4349488229220, 1e-9);  // where the bound is reached
}

TEST(Gradients, AreThePapersFormulas) {
  const auto curves = gradient_curves();
  ASSERT_EQ(curves.size(), 4U);
  for (size_t i = 0; i < curves[0].angles.size(); ++i) {
    const double theta = curves[0].angles[i], distance = 2 * std::sin(theta / 2);
    const double chain = std::cos(theta / 2);                            // d distance / d theta
    EXPECT_NEAR(curves[0].norms[i], std::sin(theta), 1e-9);              // Eq 7
    EXPECT_NEAR(curves[1].norms[i], 1, 1e-9);                            // Eq 8
    if (theta < 0.05) continue;                                          // where the energies are continued linearly
    EXPECT_NEAR(curves[2].norms[i] * distance * distance, chain, 1e-6);  // Eq 10, s = 1
    EXPECT_NEAR(curves[3].norms[i] * distance, chain, 1e-6);             // Eq 12
  }
}

}  // namespace
}  // namespace mma::examples
