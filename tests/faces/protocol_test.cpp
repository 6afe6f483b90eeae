// LFW's protocol and the ROC against NumPy, SciPy and scikit-learn (reference_protocol.py), and on cases whose result
// is known without any of them.
#include "faces/protocol.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../support/test_files.hpp"
#include "faces/embedding.hpp"
#include "faces/roc.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::message_of;
using nlohmann::json;
using Vector = std::vector<double>;

// The features of reference_protocol.py.

/// Numbers without pattern in [-0.5, 0.5).
Vector scattered(uint64_t seed, size_t count) {
  Vector numbers;
  uint64_t state = seed;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    numbers.push_back(static_cast<double>(state >> 40) / (1 << 24) - 0.5);
  }
  return numbers;
}

struct Case {
  at::Tensor features;  ///< rows 2 p and 2 p + 1 are pair p
  std::vector<ImagePair> pairs;
  int64_t folds = 10;
};

/// In each fold first the pairs of one identity, then the different ones.
std::vector<ImagePair> pairs_of(int64_t half, int64_t folds = 10) {
  std::vector<ImagePair> pairs;
  for (int64_t pair = 0; pair < 2 * half * folds; ++pair) {
    pairs.push_back({2 * pair, 2 * pair + 1, pair % (2 * half) < half});
  }
  return pairs;
}

at::Tensor tensor_of(const std::vector<Vector>& rows) {
  at::Tensor tensor = at::empty({std::ssize(rows), std::ssize(rows[0])}, at::kDouble);
  double* to = tensor.data_ptr<double>();
  for (const Vector& row : rows) to = std::ranges::copy(row, to).out;
  return tensor;
}

Case noisy_identities(int64_t half, double noise = 0.9) {
  Case result{{}, pairs_of(half)};
  std::vector<Vector> rows;
  for (const ImagePair& pair : result.pairs) {
    for (const int64_t image : {pair.first, pair.second}) {
      const int64_t place = pair.first / 2;
      const int64_t identity = pair.same || image % 2 == 0 ? place : place + 100000;
      Vector row = scattered(static_cast<uint64_t>(identity + 1), 8);
      const Vector noises = scattered(static_cast<uint64_t>(image + 500000), 8);
      for (size_t k = 0; k < row.size(); ++k) row[k] += noise * noises[k];
      rows.push_back(row);
    }
  }
  result.features = tensor_of(rows);
  return result;
}

Case uneven_folds() {
  Case result = noisy_identities(120);
  result.pairs.resize(2393);
  return result;
}

Case many_ties(int64_t half) {
  std::vector<Vector> corners;
  for (size_t k = 0; k < 4; ++k) {
    for (const double sign : {1, -1}) {
      corners.emplace_back(4, 0.0);
      corners.back()[k] = sign;
    }
  }
  for (unsigned n = 0; n < 16; ++n) {
    corners.emplace_back(4, -0.5);
    for (unsigned k = 0; k < 4; ++k) {
      if ((n >> k & 1) != 0) corners.back()[k] = 0.5;
    }
  }
  Case result{{}, pairs_of(half)};
  std::vector<Vector> rows;
  for (const ImagePair& pair : result.pairs) {
    const auto place = static_cast<uint64_t>(pair.first / 2);
    const auto corner = [](double draw) { return static_cast<size_t>((draw + 0.5) * 24); };
    const size_t first = corner(scattered(place + 1, 1)[0]);
    const Vector draws = scattered(place + 700000, 2);
    rows.push_back(corners[first]);
    rows.push_back(corners[pair.same && draws[0] + 0.5 < 0.4 ? first : corner(draws[1])]);
  }
  result.features = tensor_of(rows);
  return result;
}

std::vector<Fold> folds_of(const Case& data) {
  const Fold scored = distances(data.features, data.pairs);
  const std::vector<int64_t> ends = fold_boundaries(std::ssize(scored), data.folds);
  std::vector<Fold> folds;
  for (size_t i = 1; i < ends.size(); ++i) folds.emplace_back(scored.begin() + ends[i - 1], scored.begin() + ends[i]);
  return folds;
}

void expect_folds(const std::vector<FoldResult>& folds, const json& expected) {
  ASSERT_EQ(folds.size(), expected.at("folds").size());
  for (size_t i = 0; i < folds.size(); ++i) {
    const json& fold = expected.at("folds")[i];
    EXPECT_EQ(folds[i].fold, static_cast<int64_t>(i) + 1);
    EXPECT_NEAR(folds[i].threshold, fold.at("threshold").get<double>(), 1e-12) << i;
    EXPECT_EQ(folds[i].correct, fold.at("correct")) << i;
    EXPECT_EQ(folds[i].pairs, fold.at("pairs")) << i;
  }
  const MeanAccuracy accuracy = mean_accuracy(folds);
  EXPECT_NEAR(accuracy.mean, expected.at("mean").get<double>(), 1e-12);
  EXPECT_NEAR(accuracy.deviation.value(), expected.at("deviation").get<double>(), 1e-12);
  EXPECT_NEAR(accuracy.standard_error.value(), expected.at("standard_error").get<double>(), 1e-12);
}

void expect_reference(const Case& data, const std::string& name) {
  std::ifstream stream(MMA_TEST_DATA "/protocol.json");
  const json expected = json::parse(stream).at(name);
  const std::vector<Fold> folds = folds_of(data);
  expect_folds(cross_validate(folds, {}, ThresholdSet::Midpoints), expected.at("midpoints"));
  expect_folds(cross_validate(folds, {}, ThresholdSet::Grid), expected.at("grid"));
  const Roc roc(distances(data.features, data.pairs), "pairs");
  EXPECT_NEAR(roc.area(), expected.at("auc").get<double>(), 1e-12);
  EXPECT_NEAR(roc.equal_error_rate(), expected.at("eer").get<double>(), 1e-9);
  EXPECT_NEAR(roc.true_accepts_at(1e-2).value(), expected.at("tar")[0].get<double>(), 1e-12);
  EXPECT_NEAR(roc.true_accepts_at(1e-3).value(), expected.at("tar")[1].get<double>(), 1e-12);
  EXPECT_FALSE(roc.true_accepts_at(1e-4).has_value());
}

TEST(FacesProtocol, ScikitLearnsFigures) { expect_reference(noisy_identities(120), "noisy identities"); }

TEST(FacesProtocol, ScikitLearnsFiguresOfUnevenFolds) { expect_reference(uneven_folds(), "uneven folds"); }

TEST(FacesProtocol, ScikitLearnsFiguresWithManyTies) { expect_reference(many_ties(120), "many ties"); }

TEST(FacesProtocol, PerfectFeaturesAreRightAlways) {
  const Case data = noisy_identities(30, 0);
  for (const ThresholdSet set : {ThresholdSet::Midpoints, ThresholdSet::Grid}) {
    const MeanAccuracy accuracy = mean_accuracy(cross_validate(folds_of(data), {}, set));
    EXPECT_EQ(accuracy.mean, 1);
    EXPECT_EQ(accuracy.standard_error, 0);
  }
  const Roc roc(distances(data.features, data.pairs), "pairs");
  EXPECT_EQ(roc.area(), 1);
  EXPECT_EQ(roc.equal_error_rate(), 0);
  EXPECT_EQ(roc.true_accepts_at(1e-2), 1);
}

TEST(FacesProtocol, RandomFeaturesAreRightHalfOfTheTime) {
  Case data = noisy_identities(300);
  for (int64_t image = 0; image < data.features.size(0); ++image) {
    data.features[image].copy_(at::tensor(scattered(static_cast<uint64_t>(image) + 900000, 8)));
  }
  const MeanAccuracy accuracy = mean_accuracy(cross_validate(folds_of(data), {}, ThresholdSet::Midpoints));
  EXPECT_NEAR(accuracy.mean, 0.5, 4 * std::sqrt(0.25 / 6000));  // four deviations of a fair coin's 6000 throws
  EXPECT_NEAR(Roc(distances(data.features, data.pairs), "pairs").area(), 0.5, 0.03);
}

/// Two pairs of one identity near each other, two different ones far apart, in each of ten folds.
std::vector<Fold> clear_folds() {
  return std::vector<Fold>(10, Fold{{0.5, true}, {0.6, true}, {3, false}, {3.5, false}});
}

TEST(FacesProtocol, OneWrongPairInOneFold) {
  std::vector<Fold> folds = clear_folds();
  folds[6][0].distance = 3.2;
  const auto results = cross_validate(folds, {}, ThresholdSet::Midpoints);
  for (const FoldResult& result : results) {
    EXPECT_EQ(result.correct, result.fold == 7 ? 3 : 4);
    EXPECT_DOUBLE_EQ(result.threshold, 1.8);  // 36 or 35 of 36 are right there
  }
  const MeanAccuracy accuracy = mean_accuracy(results);
  EXPECT_DOUBLE_EQ(accuracy.mean, 0.975);
  EXPECT_NEAR(accuracy.standard_error.value(), 0.025, 1e-15);  // sqrt((9 * 0.025^2 + 0.225^2) / 9 / 10)
}

TEST(FacesProtocol, TheThresholdComesFromTheOtherFolds) {
  std::vector<Fold> folds = clear_folds();
  folds[2] = {
      {3.1, true}, {3.2, true}, {3.3, false}, {3.9, false}};  // parted by 3.25, and by no other fold's threshold
  const auto results = cross_validate(folds, {}, ThresholdSet::Midpoints);
  EXPECT_DOUBLE_EQ(results[2].threshold, 1.8);
  EXPECT_EQ(results[2].correct, 2);
  const auto own = cross_validate({folds[2], folds[2]}, {}, ThresholdSet::Midpoints);
  EXPECT_DOUBLE_EQ(own[0].threshold, 3.25);
  EXPECT_EQ(own[0].correct, 4);
}

TEST(FacesProtocol, SomeFoldsAlone) {
  std::vector<Fold> folds = clear_folds();
  folds[9] = {{3.1, true}, {3.2, true}, {3.3, false}, {3.9, false}};
  const auto all = cross_validate(folds, {}, ThresholdSet::Midpoints);
  const auto some = cross_validate(folds, {.held_out = {10, 9}}, ThresholdSet::Midpoints);
  ASSERT_EQ(some.size(), 2u);
  EXPECT_EQ(some[0].fold, 9);
  EXPECT_EQ(some[0].threshold, all[8].threshold);
  EXPECT_EQ(some[1].correct, all[9].correct);
  const auto among = cross_validate(folds, {.held_out = {9, 10}, .for_thresholds = {9, 10}}, ThresholdSet::Midpoints);
  EXPECT_DOUBLE_EQ(among[0].threshold, 3.25);  // fold 10's; 3 is below it
  EXPECT_EQ(among[0].correct, 3);
  EXPECT_DOUBLE_EQ(among[1].threshold, 1.8);
}

TEST(FacesProtocol, OneFoldHasNoStandardError) {
  const auto results = cross_validate(clear_folds(), {.held_out = {4}}, ThresholdSet::Midpoints);
  EXPECT_EQ(mean_accuracy(results).mean, 1);
  EXPECT_FALSE(mean_accuracy(results).standard_error.has_value());
  EXPECT_FALSE(mean_accuracy(results).deviation.has_value());
}

TEST(FacesProtocol, RefusedFolds) {
  const auto sentence = [](const FoldChoice& choice) {
    return message_of<UserError>([&] { cross_validate(clear_folds(), choice, ThresholdSet::Grid); });
  };
  EXPECT_EQ(sentence({.held_out = {11}}), "--folds names fold 11; expected numbers from 1 to 10");
  EXPECT_EQ(sentence({.held_out = {0, 1}}), "--folds names fold 0; expected numbers from 1 to 10");
  EXPECT_EQ(sentence({.held_out = {3, 4, 3}}), "--folds names fold 3 twice");
  EXPECT_EQ(sentence({.for_thresholds = {-1}}), "--threshold-folds names fold -1; expected numbers from 1 to 10");
  EXPECT_EQ(sentence({.held_out = {3, 4}, .for_thresholds = {4}}),
            "fold 4 has no other fold to choose its threshold on");
  EXPECT_EQ(message_of<UserError>([] { threshold_set_named("best"); }),
            "--thresholds best: one of midpoints, grid is needed");
}

TEST(FacesProtocol, BestThresholdsOfSmallSets) {
  const auto best = [](const Fold& pairs) { return best_threshold(pairs, ThresholdSet::Midpoints); };
  EXPECT_EQ(best({}), 0);
  EXPECT_EQ(best({{1, true}}), 5);                            // all are taken for the same
  EXPECT_EQ(best({{1, false}}), 0);                           // none is
  EXPECT_EQ(best({{1, true}, {1, false}}), 0);                // no threshold parts them: the smallest
  EXPECT_EQ(best({{3, false}, {1, true}, {2, false}}), 1.5);  // in any order
  EXPECT_EQ(best({{1, true}, {2, false}, {3, true}}), 1.5);   // as right as 5
  EXPECT_EQ(best({{0, true}, {0, true}, {1, false}}), 0.5);
  const double next = std::nextafter(1.0, 2.0);
  const double between = best({{1, true}, {next, false}});
  EXPECT_TRUE(1 < between && !(next < between));
  const auto best_of_grid = [](const Fold& pairs) { return best_threshold(pairs, ThresholdSet::Grid); };
  EXPECT_EQ(best_of_grid({{1.005, true}, {2, false}}), 1.01);
  EXPECT_EQ(best_of_grid({{1, true}, {2, false}}), 1.01);  // 1 is not below 1
  EXPECT_EQ(best_of_grid({{3.995, true}}), 0);             // beyond the grid: none is right
}

TEST(FacesProtocol, FoldsAsScikitLearnDealsThem) {
  EXPECT_EQ(fold_boundaries(10, 3), (std::vector<int64_t>{0, 4, 7, 10}));
  EXPECT_EQ(fold_boundaries(6000, 10)[1], 600);
}

TEST(FacesProtocol, DistancesOfUnitVectors) {
  const at::Tensor features = at::tensor({3.0, 0.0, 0.0, 5.0, -2.0, 0.0, 0.0, 0.0}).reshape({4, 2});
  const Fold pairs = distances(features, {{0, 0, true}, {0, 1, false}, {0, 2, false}, {0, 3, true}});
  EXPECT_EQ(pairs[0].distance, 0);
  EXPECT_EQ(pairs[1].distance, 2);
  EXPECT_EQ(pairs[2].distance, 4);
  EXPECT_EQ(pairs[3].distance, 1);  // a zero row stays zero
  EXPECT_TRUE(pairs[0].same && !pairs[1].same);
}

TEST(FacesRoc, FewPairsByHand) {
  const Roc roc({{1, true}, {2, false}, {3, true}, {4, false}}, "pairs");
  ASSERT_EQ(roc.points().size(), 5u);
  EXPECT_EQ(roc.points()[3].false_accepts, 0.5);
  EXPECT_EQ(roc.points()[3].true_accepts, 1);
  EXPECT_EQ(roc.area(), 0.75);
  EXPECT_EQ(roc.equal_error_rate(), 0.5);
  EXPECT_EQ(roc.true_accepts_at(0.5), 1);
  EXPECT_FALSE(roc.true_accepts_at(0.4).has_value());  // 1 / 0.4 is 2.5: 3 pairs
}

TEST(FacesRoc, AFarThatNeedsExactlyThePairsThereAre) {
  Fold pairs = {{0.5, true}, {2.5, true}};
  for (int i = 0; i < 1000; ++i) pairs.push_back({i == 0 ? 1.0 : i == 1 ? 2.0 : 3.0, false});
  EXPECT_EQ(Roc(pairs, "pairs").true_accepts_at(1e-3), 0.5);  // one of 1000 may be accepted, two not
  pairs.pop_back();
  EXPECT_FALSE(Roc(pairs, "pairs").true_accepts_at(1e-3).has_value());
}

TEST(FacesRoc, NeedsBothKinds) {
  EXPECT_EQ(message_of<UserError>([] {
              Roc({{1, true}}, "lfw");
            }),
            "lfw: has no pair of different identities among those reported");
  EXPECT_EQ(message_of<UserError>([] {
              Roc({{1, false}}, "lfw");
            }),
            "lfw: has no pair of one identity among those reported");
}

/// As in pairsDevTest.txt.
TEST(FacesProtocol, ASingleFoldHasTheBestThresholdForItself) {
  const Fold fold = {{0.5, true}, {1, false}, {1.5, true}, {3, false}, {3.5, false}};
  const auto results = cross_validate({fold}, {}, ThresholdSet::Midpoints);
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].threshold, 0.75);
  EXPECT_EQ(results[0].correct, 4);
  EXPECT_FALSE(mean_accuracy(results).standard_error.has_value());
}

}  // namespace
}  // namespace mma::examples
