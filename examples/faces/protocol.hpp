// The protocol of LFW's restricted view 2 (Huang et al. 2007): the threshold on the distance of a pair's features is
// chosen on the other folds, the accuracy taken on the fold left out; its mean over the folds, and that mean's error.
// A single fold has no others: its threshold is the best one for itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

struct ScoredPair {
  double distance = 0;  ///< squared, between unit vectors: 2 - 2 cosine, in [0, 4]
  bool same = false;    ///< of one identity
};

using Fold = std::vector<ScoredPair>;

/// Which thresholds are tried. A pair is taken for one identity when its distance is below the threshold; among
/// thresholds that are right equally often the smallest is taken.
enum class ThresholdSet {
  Midpoints,  ///< 0, the middles between neighbouring distinct distances, and 5, which is above all of them
  Grid        ///< 0, 0.01, ..., 3.99, as insightface's verification.py has it
};

/// "midpoints" or "grid"; throws UserError for another name.
ThresholdSet threshold_set_named(const std::string& name);

/// The first threshold of the set that is right most often. Throws nothing; without pairs it is 0.
double best_threshold(Fold pairs, ThresholdSet set);

struct FoldResult {
  int64_t fold = 0;  ///< from 1
  double threshold = 0;
  int64_t correct = 0;
  int64_t pairs = 0;

  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(pairs); }
};

struct FoldChoice {
  std::vector<int64_t> held_out = {};        ///< from 1: the folds whose accuracy is reported; empty: all
  std::vector<int64_t> for_thresholds = {};  ///< from 1: those that thresholds are chosen on, but for the one held out;
                                             ///< empty: all
};

/// The folds that a choice reports, sorted. Throws UserError for a fold that is not there or named twice, and for one
/// that leaves no other to choose its threshold on; the sentences name the flags --folds and --threshold-folds.
std::vector<int64_t> held_out_folds(const FoldChoice& choice, int64_t folds);

/// As held_out_folds, of those that any threshold is chosen on.
std::vector<int64_t> folds_for_thresholds(const FoldChoice& choice, int64_t folds);

/// Throws what held_out_folds throws.
std::vector<FoldResult> cross_validate(const std::vector<Fold>& folds, const FoldChoice& choice, ThresholdSet set);

struct MeanAccuracy {
  double mean = 0;                       ///< of the folds' accuracies, as a share
  std::optional<double> deviation;       ///< their standard deviation (n - 1); empty for one fold
  std::optional<double> standard_error;  ///< deviation / sqrt(folds), as LFW's reports have it
};

MeanAccuracy mean_accuracy(const std::vector<FoldResult>& folds);

/// Where each of `folds` begins when `pairs` are dealt out in order, and the end: sizes differ by at most one, the
/// larger folds come first, as in scikit-learn's KFold.
std::vector<int64_t> fold_boundaries(int64_t pairs, int64_t folds);

}  // namespace mma::examples
