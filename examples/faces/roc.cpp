#include "faces/roc.hpp"

#include <algorithm>
#include <cmath>

#include "support/process/error.hpp"

namespace mma::examples {

Roc::Roc(Fold pairs, const std::string& name) {
  same_ = std::ranges::count(pairs, true, &ScoredPair::same);
  different_ = std::ssize(pairs) - same_;
  if (same_ == 0) throw UserError(name + ": has no pair of one identity among those reported");
  if (different_ == 0) throw UserError(name + ": has no pair of different identities among those reported");
  std::ranges::sort(pairs, std::less<>(), &ScoredPair::distance);
  points_.push_back({});
  int64_t same = 0;
  for (int64_t passed = 1; passed <= std::ssize(pairs); ++passed) {
    const auto next = pairs.begin() + passed;
    same += std::prev(next)->same ? 1 : 0;
    if (next != pairs.end() && next->distance == std::prev(next)->distance) continue;
    points_.push_back({static_cast<double>(passed - same) / static_cast<double>(different_),
                       static_cast<double>(same) / static_cast<double>(same_)});
  }
}

int64_t Roc::different_pairs_needed(double false_accepts) {
  return static_cast<int64_t>(std::ceil(1 / false_accepts - 1e-9));
}

std::optional<double> Roc::true_accepts_at(double false_accepts) const {
  if (different_ < different_pairs_needed(false_accepts)) return std::nullopt;
  const double rounding = 1e-12;  // 3 of 3000 are a share of 0.001 however the two are rounded
  double best = 0;
  for (const Point& point : points_) {
    if (point.false_accepts <= false_accepts + rounding) best = point.true_accepts;
  }
  return best;
}

double Roc::area() const {
  double area = 0;
  for (size_t i = 1; i < points_.size(); ++i) {
    const auto& [a, b] = std::pair(points_[i - 1], points_[i]);
    area += (b.false_accepts - a.false_accepts) * (a.true_accepts + b.true_accepts) / 2;
  }
  return area;
}

double Roc::equal_error_rate() const {
  const auto excess = [](const Point& point) { return point.false_accepts + point.true_accepts - 1; };
  size_t i = 1;
  while (excess(points_[i]) < 0) ++i;  // ends: the last one's is 1
  const Point& before = points_[i - 1];
  const double share = -excess(before) / (excess(points_[i]) - excess(before));
  return before.false_accepts + share * (points_[i].false_accepts - before.false_accepts);
}

}  // namespace mma::examples
