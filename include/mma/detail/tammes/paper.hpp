// The schedule of the paper's numerical method for the Tammes problem (section 4): which configuration is kept and when
// the rate falls.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>

#include <cstdint>

namespace mma::detail::tammes {

/// What the paper's method does between its steps, for each start of the batch on its own: keeps the best configuration
/// and lowers the rate to a fifth when learning stagnates, that is when over `window` iterations neither the
/// objective's mean has fallen by a thousandth of all that it has fallen, nor has the minimal angle grown by a
/// thousandth.
class PaperSchedule {
 public:
  static constexpr int64_t look = 10;     ///< iterations between two looks at the minimal angle
  static constexpr int64_t window = 200;  ///< iterations between two decisions
  static constexpr double least_gain = 1e-4;
  static constexpr double last_rate = 1e-6;  ///< times the first rate: nothing moves any more

  PaperSchedule(const at::Tensor& rows, double rate)
      : best_(rows.clone()),
        best_angle_(at::full({rows.size(0)}, -1.0, rows.options())),
        previous_angle_(best_angle_),
        sum_(at::zeros_like(best_angle_)),
        rate_(at::full({rows.size(0), 1, 1}, rate, rows.options())),
        least_rate_(rate * last_rate) {}

  const at::Tensor& rate() const { return rate_; }
  const at::Tensor& best() const { return best_; }
  double best_angle() const { return best_angle_.max().item<double>(); }

  /// False when every start has come to rest.
  bool after_step(int64_t iteration, const at::Tensor& rows, const at::Tensor& value) {
    if (!first_.defined()) {
      first_ = lowest_ = value;
    }
    sum_ += value;
    if (iteration % look == 0) {
      look_at(rows);
    }
    if (iteration % window == 0) {
      decide();
      return (rate_ >= least_rate_).any().item<bool>();
    }
    return true;
  }

 private:
  void look_at(const at::Tensor& rows) {
    const at::Tensor unit = rows / at::linalg_vector_norm(rows, 2, -1, true);
    const at::Tensor cosines = at::bmm(unit, unit.transpose(1, 2));
    cosines.diagonal(0, 1, 2).fill_(-1);
    const at::Tensor angle = cosines.amax({1, 2}).clamp_(-1, 1).acos_();
    const at::Tensor better = angle > best_angle_;
    best_angle_ = at::where(better, angle, best_angle_);
    best_ = at::where(better.view({-1, 1, 1}), rows, best_);
  }

  void decide() {
    const at::Tensor mean = sum_ / static_cast<double>(window);
    const at::Tensor falls = lowest_ - mean > least_gain * (first_ - mean);
    const at::Tensor widens = best_angle_ - previous_angle_ > least_gain * best_angle_;
    rate_ = at::where(falls.logical_or(widens).view({-1, 1, 1}), rate_, rate_ / 5);
    lowest_ = at::minimum(lowest_, mean);
    previous_angle_ = best_angle_;
    sum_.zero_();
  }

  at::Tensor best_, best_angle_, previous_angle_;
  at::Tensor sum_, first_, lowest_;  ///< of the objective's values
  at::Tensor rate_;
  double least_rate_;
};

}  // namespace mma::detail::tammes
