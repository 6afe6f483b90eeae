// How often pairs of one identity are accepted (TAR) where pairs of different ones are accepted so often (FAR), over
// all thresholds on the distance of a pair's features.
#pragma once

#include <optional>
#include <vector>

#include "faces/protocol.hpp"

namespace mma::examples {

/// Pairs of equal distance are accepted together: a point of the curve lies after each distinct distance.
class Roc {
 public:
  struct Point {
    double false_accepts = 0;  ///< the share of the different pairs: FAR
    double true_accepts = 0;   ///< of the pairs of one identity: TAR
  };

  /// Throws UserError, which begins with `name`, when the pairs are all the same or all different.
  Roc(Fold pairs, const std::string& name);

  /// From (0, 0) to (1, 1), neither share ever falling.
  const std::vector<Point>& points() const { return points_; }

  /// The largest TAR among the thresholds whose FAR is not above this; empty where the different pairs are too few for
  /// one of them to be a share so small.
  std::optional<double> true_accepts_at(double false_accepts) const;

  /// Different pairs needed for true_accepts_at: 1 / FAR.
  static int64_t different_pairs_needed(double false_accepts);

  /// By trapezoids: the chance that a pair of one identity is closer than a different one, ties counted half (AUC).
  double area() const;

  /// Where FAR = 1 - TAR on the straight lines between the points (EER).
  double equal_error_rate() const;

  int64_t same_pairs() const { return same_; }
  int64_t different_pairs() const { return different_; }

 private:
  int64_t same_ = 0;
  int64_t different_ = 0;
  std::vector<Point> points_;
};

}  // namespace mma::examples
