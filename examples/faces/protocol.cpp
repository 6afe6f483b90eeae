#include "faces/protocol.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr double above_every_distance = 5;
constexpr int64_t grid_steps = 400;
constexpr double grid_step = 0.01;

bool by_distance(const ScoredPair& a, const ScoredPair& b) { return a.distance < b.distance; }

/// Above a and not above b, so that "below the threshold" parts them even where they are neighbouring numbers.
double between(double a, double b) {
  const double middle = a + (b - a) / 2;
  return middle > a ? middle : b;
}

/// Keeps the first of the best.
class Best {
 public:
  void offer(double threshold, int64_t correct) {
    if (correct > correct_) {
      correct_ = correct;
      threshold_ = threshold;
    }
  }
  double threshold() const { return threshold_; }

 private:
  double threshold_ = 0;
  int64_t correct_ = -1;
};

double best_midpoint(const Fold& sorted) {
  // Below every distance all pairs are taken for different ones; each pair passed is now taken for the same.
  int64_t correct = std::ranges::count(sorted, false, &ScoredPair::same);
  Best best;
  best.offer(0, correct);
  for (size_t i = 0; i < sorted.size(); ++i) {
    correct += sorted[i].same ? 1 : -1;
    const bool last = i + 1 == sorted.size();
    if (last) {
      best.offer(above_every_distance, correct);
    } else if (sorted[i].distance < sorted[i + 1].distance) {
      best.offer(between(sorted[i].distance, sorted[i + 1].distance), correct);
    }
  }
  return best.threshold();
}

double best_of_grid(const Fold& sorted) {
  int64_t correct = std::ranges::count(sorted, false, &ScoredPair::same);
  Best best;
  auto next = sorted.begin();
  for (int64_t step = 0; step < grid_steps; ++step) {
    const double threshold = static_cast<double>(step) * grid_step;
    for (; next != sorted.end() && next->distance < threshold; ++next) correct += next->same ? 1 : -1;
    best.offer(threshold, correct);
  }
  return best.threshold();
}

/// Sorted; all of them where none is named.
std::vector<int64_t> checked_folds(const std::vector<int64_t>& named, int64_t folds, const std::string& flag) {
  std::vector<int64_t> result = named;
  if (result.empty()) {
    result.resize(static_cast<size_t>(folds));
    std::iota(result.begin(), result.end(), 1);
  }
  std::ranges::sort(result);
  for (size_t i = 0; i < result.size(); ++i) {
    const std::string beginning = flag + " names fold " + std::to_string(result[i]);
    if (result[i] < 1 || result[i] > folds) {
      throw UserError(beginning + "; expected numbers from 1 to " + std::to_string(folds));
    }
    if (i > 0 && result[i] == result[i - 1]) throw UserError(beginning + " twice");
  }
  return result;
}

FoldResult tested(const std::vector<Fold>& folds, int64_t held_out, const std::vector<int64_t>& for_thresholds,
                  ThresholdSet set) {
  Fold others;
  for (const int64_t fold : for_thresholds) {
    if (fold == held_out && folds.size() > 1) continue;
    const Fold& pairs = folds[static_cast<size_t>(fold - 1)];
    others.insert(others.end(), pairs.begin(), pairs.end());
  }
  const double threshold = best_threshold(std::move(others), set);
  const Fold& pairs = folds[static_cast<size_t>(held_out - 1)];
  const auto is_right = [&](const ScoredPair& pair) { return (pair.distance < threshold) == pair.same; };
  return {held_out, threshold, std::ranges::count_if(pairs, is_right), std::ssize(pairs)};
}

}  // namespace

ThresholdSet threshold_set_named(const std::string& name) {
  if (name == "midpoints") return ThresholdSet::Midpoints;
  if (name == "grid") return ThresholdSet::Grid;
  throw UserError("--thresholds " + name + ": one of midpoints, grid is needed");
}

double best_threshold(Fold pairs, ThresholdSet set) {
  std::ranges::sort(pairs, by_distance);
  return set == ThresholdSet::Grid ? best_of_grid(pairs) : best_midpoint(pairs);
}

std::vector<int64_t> folds_for_thresholds(const FoldChoice& choice, int64_t folds) {
  return checked_folds(choice.for_thresholds, folds, "--threshold-folds");
}

std::vector<int64_t> held_out_folds(const FoldChoice& choice, int64_t folds) {
  const std::vector<int64_t> held_out = checked_folds(choice.held_out, folds, "--folds");
  const std::vector<int64_t> for_thresholds = folds_for_thresholds(choice, folds);
  for (const int64_t fold : held_out) {
    if (folds > 1 && for_thresholds == std::vector{fold}) {
      throw UserError("fold " + std::to_string(fold) + " has no other fold to choose its threshold on");
    }
  }
  return held_out;
}

std::vector<FoldResult> cross_validate(const std::vector<Fold>& folds, const FoldChoice& choice, ThresholdSet set) {
  const std::vector<int64_t> for_thresholds = folds_for_thresholds(choice, std::ssize(folds));
  std::vector<FoldResult> results;
  for (const int64_t fold : held_out_folds(choice, std::ssize(folds))) {
    results.push_back(tested(folds, fold, for_thresholds, set));
  }
  return results;
}

MeanAccuracy mean_accuracy(const std::vector<FoldResult>& folds) {
  MeanAccuracy result;
  const auto n = static_cast<double>(folds.size());
  for (const FoldResult& fold : folds) result.mean += fold.accuracy();
  result.mean /= n;
  if (folds.size() < 2) return result;
  double squares = 0;
  for (const FoldResult& fold : folds) squares += std::pow(fold.accuracy() - result.mean, 2);
  result.deviation = std::sqrt(squares / (n - 1));
  result.standard_error = *result.deviation / std::sqrt(n);
  return result;
}

std::vector<int64_t> fold_boundaries(int64_t pairs, int64_t folds) {
  std::vector<int64_t> boundaries = {0};
  for (int64_t fold = 0; fold < folds; ++fold) {
    boundaries.push_back(boundaries.back() + pairs / folds + (fold < pairs % folds ? 1 : 0));
  }
  return boundaries;
}

}  // namespace mma::examples
