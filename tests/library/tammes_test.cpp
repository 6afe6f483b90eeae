// The Tammes solvers against known optima and published values, and their promises: the same bits on any number of
// threads, never worse than a given start, stopped at once.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <mma/objectives/maximal_cosine.hpp>
#include <mma/objectives/minimal_angle.hpp>
#include <mma/tammes.hpp>

#include <cmath>
#include <numbers>

#include "reference.hpp"

namespace {

double degrees(double radians) { return radians * 180 / std::numbers::pi; }

/// By a loop over all pairs in extended precision; 2 atan2(|a - b|, |a + b|), as arccos fails at antipodes.
double reference_angle(const at::Tensor& points) {
  const auto rows = reference::units(reference::rows_of(points));
  long double smallest = std::numbers::pi_v<long double>;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      long double difference = 0, sum = 0;
      for (size_t k = 0; k < rows[i].size(); ++k) {
        difference += (rows[i][k] - rows[j][k]) * (rows[i][k] - rows[j][k]);
        sum += (rows[i][k] + rows[j][k]) * (rows[i][k] + rows[j][k]);
      }
      smallest = std::min(smallest, 2 * std::atan2(std::sqrt(difference), std::sqrt(sum)));
    }
  }
  return static_cast<double>(smallest) * 180 / std::numbers::pi;
}

mma::TammesAnnealedOptions annealed(int64_t n, int64_t d, int64_t starts, int64_t hops = 0) {
  mma::TammesAnnealedOptions options;
  options.points = n;
  options.dimension = d;
  options.starts = starts;
  options.hops = hops;
  return options;
}

mma::TammesPaperOptions paper(int64_t n, int64_t d, int64_t starts) {
  mma::TammesPaperOptions options;
  options.points = n;
  options.dimension = d;
  options.starts = starts;
  return options;
}

/// f written out: (1/p) log sum_{i<j} (1 - c_ij)^-p, in extended precision.
long double plain_energy(const at::Tensor& points, int doublings) {
  const auto rows = reference::units(reference::rows_of(points));
  const long double p = std::ldexp(1.0L, doublings);
  long double sum = 0, smallest = 2;
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < i; ++j) smallest = std::min(smallest, 1 - reference::dot(rows[i], rows[j]));
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t j = 0; j < i; ++j) sum += std::pow(smallest / (1 - reference::dot(rows[i], rows[j])), p);
  }
  return std::log(sum) / p - std::log(smallest);
}

TEST(TammesEnergy, ValueIsTheFormulaAndGradientItsDifferences) {
  at::manual_seed(5);
  for (const auto& [n, d] : std::vector<std::pair<int64_t, int64_t>>{{2, 2}, {9, 3}, {30, 4}, {601, 3}}) {
    const at::Tensor rows = at::randn({n, d}, at::kDouble);
    mma::detail::tammes::PowerEnergy energy(n, d, 1);
    at::Tensor gradient = at::empty_like(rows), ignored = at::empty_like(rows);
    const auto value = [&](const at::Tensor& at_rows, at::Tensor& into, int doublings) {
      return energy(at_rows.const_data_ptr<double>(), into.mutable_data_ptr<double>(), doublings);
    };
    for (const int doublings : {0, 3, 8, 20}) {
      EXPECT_NEAR(value(rows, gradient, doublings), static_cast<double>(plain_energy(rows, doublings)), 1e-9);
      if (n > 100 || doublings > 8) continue;
      for (int64_t k = 0; k < rows.numel(); k += 5) {
        at::Tensor there = rows.clone(), back = rows.clone();
        there.view(-1)[k] += 1e-6;
        back.view(-1)[k] -= 1e-6;
        const double slope = (value(there, ignored, doublings) - value(back, ignored, doublings)) / 2e-6;
        EXPECT_NEAR(gradient.view(-1)[k].item<double>(), slope, 1e-6 * std::max(1.0, std::abs(slope)));
      }
    }
  }
}

TEST(TammesEnergy, ManyPointsGiveTheFormulaAndTheSameBitsOnAnyThreads) {
  at::manual_seed(6);
  const int64_t n = mma::detail::tammes::PowerEnergy::many_points + 13;
  const at::Tensor rows = at::randn({n, 3}, at::kDouble);
  std::vector<at::Tensor> gradients;
  for (const int64_t threads : {1, 2, 3}) {
    mma::detail::tammes::PowerEnergy energy(n, 3, threads);
    gradients.push_back(at::empty_like(rows));
    const double value = energy(rows.const_data_ptr<double>(), gradients.back().mutable_data_ptr<double>(), 4);
    EXPECT_NEAR(value, static_cast<double>(plain_energy(rows, 4)), 1e-8);
    EXPECT_TRUE(at::equal(gradients.front(), gradients.back()));
  }
  EXPECT_LT((gradients.front() * rows).sum(1).abs().max().item<double>(), 1e-9);  // along a row nothing changes
}

TEST(MinimalAngleOfPoints, IsThatOfALoopAndRefusesOtherThings) {
  at::manual_seed(7);
  const at::Tensor points = at::randn({57, 4}, at::kDouble);
  EXPECT_NEAR(degrees(mma::minimal_angle(points)), reference_angle(points), 1e-10);
  EXPECT_NEAR(degrees(mma::minimal_angle(at::eye(3))), 90, 1e-12);
  EXPECT_THROW(mma::minimal_angle(at::randn({1, 3})), c10::Error);
  EXPECT_THROW(mma::minimal_angle(at::zeros({2, 3})), c10::Error);
}

TEST(UnitRows, LieOnTheRaysOfThePointsAndRefuseWhatHasNone) {
  const at::Tensor rows = mma::unit_rows(at::tensor({3.0F, 4.0F, 0.0F, -2.0F}).view({2, 2}));
  EXPECT_EQ(rows.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::allclose(rows, at::tensor({0.6, 0.8, 0.0, -1.0}, at::kDouble).view({2, 2}), 0, 1e-15));
  EXPECT_THROW(mma::unit_rows(at::zeros({2, 3})), c10::Error);
  EXPECT_THROW(mma::unit_rows(at::ones({3})), c10::Error);
}

TEST(TammesAnnealed, FindsKnownOptima) {
  struct Case {
    int64_t n, d, starts;
    double degrees;
  };
  for (const Case& c : {
           Case{2, 3, 1, 180},
           {4, 3, 1, 109.4712206},
           {5, 4, 1, 104.4775122},
           {6, 5, 1, 101.5369590},
           {7, 2, 1, 360.0 / 7},
           {8, 4, 2, 90},
           {12, 3, 4, 63.4349488},
           {30, 3, 12, 38.5971159},
           {30, 5, 12, 65.6046968},
       }) {
    const mma::TammesResult result = mma::tammes_annealed(annealed(c.n, c.d, c.starts));
    EXPECT_NEAR(degrees(result.minimal_angle), c.degrees, 1e-4) << c.n << " points in " << c.d;
    EXPECT_NEAR(reference_angle(result.points), degrees(result.minimal_angle), 1e-9);
    EXPECT_EQ(result.start_angles.size(), static_cast<size_t>(c.starts));
    EXPECT_NEAR((result.points.square().sum(1) - 1).abs().max().item<double>(), 0, 1e-14);
  }
}

TEST(TammesAnnealed, TheSameBitsOnAnyNumberOfThreadsAndOthersForOtherSeeds) {
  const int threads_before = at::get_num_threads();
  auto options = annealed(14, 4, 5, 9);
  const mma::TammesResult one = mma::tammes_annealed(options);
  for (const int64_t threads : {2, 3}) {
    options.threads = threads;
    const mma::TammesResult more = mma::tammes_annealed(options);
    EXPECT_TRUE(at::equal(more.points, one.points)) << threads;
    EXPECT_EQ(more.minimal_angle, one.minimal_angle);
    EXPECT_EQ(more.start_angles, one.start_angles);
  }
  options.seed = 2;
  EXPECT_FALSE(at::equal(mma::tammes_annealed(options).points, one.points));
  EXPECT_EQ(at::get_num_threads(), threads_before);
}

TEST(TammesAnnealed, HopsOnlyImprove) {
  const double without = mma::tammes_annealed(annealed(24, 4, 1)).minimal_angle;
  EXPECT_GT(mma::tammes_annealed(annealed(24, 4, 1, 16)).minimal_angle, without);
}

TEST(TammesAnnealed, AGivenStartIsImprovedAndNeverMadeWorse) {
  auto options = annealed(12, 3, 1);
  at::manual_seed(1);
  options.start = at::randn({12, 3}, at::kDouble);
  EXPECT_NEAR(degrees(mma::tammes_annealed(options).minimal_angle), 63.4349488, 1e-4);

  const double golden = (1 + std::sqrt(5.0)) / 2;
  std::vector<double> icosahedron;
  for (const double a : {-1.0, 1.0}) {
    for (const double b : {-golden, golden}) icosahedron.insert(icosahedron.end(), {0, a, b, a, b, 0, b, 0, a});
  }
  options.start = at::tensor(icosahedron, at::kDouble).view({12, 3});
  const double exact = mma::minimal_angle(options.start);
  EXPECT_GE(mma::tammes_annealed(options).minimal_angle, exact - 1e-15);

  options.start = at::ones({12, 3});  // twelve times the same point
  EXPECT_GT(degrees(mma::tammes_annealed(options).minimal_angle), 60);
}

TEST(TammesAnnealed, StopsWhenAskedAndTellsHowFarItIs) {
  auto options = annealed(40, 3, 1000);
  int64_t calls = 0;
  double done = -1;
  mma::TammesCallbacks callbacks;
  callbacks.progress = [&](const mma::TammesProgress& progress) {
    EXPECT_GE(progress.done, done);
    done = progress.done;
  };
  callbacks.stop = [&] { return ++calls == 5; };
  const mma::TammesResult result = mma::tammes_annealed(options, callbacks);
  EXPECT_EQ(calls, 5);
  EXPECT_GT(result.minimal_angle, 0);
  EXPECT_GT(done, 0);
  EXPECT_LT(done, 0.01);
}

TEST(TammesAnnealed, AQuickSpreadOfManyPointsIsNearTheBound) {
  const int64_t n = 2000;
  const mma::TammesResult result = mma::tammes_annealed(mma::quick_tammes_options(n, 3));
  const double hexagonal = degrees(std::sqrt(8 * std::numbers::pi / (std::sqrt(3.0) * n)));  // of the plane: the bound
  EXPECT_GT(degrees(result.minimal_angle), 0.93 * hexagonal);
  EXPECT_LT(degrees(result.minimal_angle), hexagonal);
}

TEST(TammesPaper, ReachesThePapersFiguresOnSmallRows) {
  EXPECT_NEAR(degrees(mma::tammes_paper(mma::MinimalAngle{}, paper(4, 3, 2)).minimal_angle), 109.4712, 0.1);
  const mma::TammesResult thirty = mma::tammes_paper(mma::MinimalAngle{}, paper(30, 3, 3));
  EXPECT_GT(degrees(thirty.minimal_angle), 38.5 - 0.3);
  EXPECT_NEAR(reference_angle(thirty.points), degrees(thirty.minimal_angle), 1e-9);
  EXPECT_EQ(thirty.start_angles.size(), 3U);
}

TEST(TammesPaper, AStartOfTheBatchIsTheSameAloneAndInCompany) {
  auto options = paper(10, 3, 3);
  options.iterations = 300;
  const mma::TammesResult three = mma::tammes_paper(mma::MinimalAngle{}, options);
  options.starts = 1;
  for (size_t k = 0; k < 3; ++k) {
    options.seed = 1 + k;
    EXPECT_NEAR(mma::tammes_paper(mma::MinimalAngle{}, options).minimal_angle, three.start_angles[k], 1e-9);
  }
}

TEST(TammesPaper, TakesAnyObjectiveAndAStart) {
  auto options = paper(6, 3, 1);
  options.iterations = 2000;
  at::manual_seed(2);
  options.start = at::randn({6, 3}, at::kDouble);
  const mma::TammesResult result = mma::tammes_paper(mma::MaximalCosine{}, options);
  EXPECT_NEAR(degrees(result.minimal_angle), 90, 1);
  EXPECT_GT(result.minimal_angle, mma::minimal_angle(options.start));
}

TEST(Tammes, RefusesWhatMakesNoSense) {
  EXPECT_THROW(mma::tammes_annealed(annealed(1, 3, 1)), c10::Error);
  EXPECT_THROW(mma::tammes_annealed(annealed(5, 0, 1)), c10::Error);
  EXPECT_THROW(mma::tammes_annealed(annealed(5, 3, 0)), c10::Error);
  EXPECT_THROW(mma::tammes_paper(mma::MinimalAngle{}, paper(1, 3, 1)), c10::Error);
  auto options = annealed(3, 2, 1);
  for (const at::Tensor& start : {at::zeros({3, 2}), at::ones({3, 3}), at::full({3, 2}, std::nan(""))}) {
    options.start = start;
    EXPECT_THROW(mma::tammes_annealed(options), c10::Error);
  }
}

}  // namespace
