// Objectives that sum a function of the cosine over all pairs of rows: energies and orthogonality.
//
// Value and gradient come from tiles of cosines, in memory O(n d + tile), not from n x n matrices kept by autograd:
//   d l/d w_i = (I - w^_i w^_i^T) sum_j 2 f'(cos_ij) w^_j / |w_i|
// Where f diverges, a float32 cosine of near rows is worthless: such pairs are few, and their angles are taken from the
// weights in float64, as in pair_angles.hpp.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <concepts>
#include <utility>
#include <vector>

#include "full_precision.hpp"
#include "nearest_pairs.hpp"
#include "nearest_rows.hpp"
#include "pair_angles.hpp"
#include "pair_gradient.hpp"
#include "row_norms.hpp"

namespace mma::detail {

/// A function of the cosine c of a pair, summed over all ordered pairs i != j and scaled:
/// l = scale(n) * sum_{i != j} value(c_ij, n), for n usable rows. n is a tensor that broadcasts against c.
template <typename Kernel>
concept PairKernel = requires(const Kernel& kernel, const at::Tensor& c, const at::Tensor& n) {
  { kernel.value(c, n) } -> std::same_as<at::Tensor>;
  { kernel.slope(c, n) } -> std::same_as<at::Tensor>;  // df/dc, differentiable
  { kernel.scale(n) } -> std::same_as<at::Tensor>;
  { kernel.offset(n) } -> std::same_as<at::Tensor>;  // added to l: what does not depend on the angles
};

/// A kernel that diverges: pairs with |w^_i - w^_j| below near_distance (over the half-space |w^_i + w^_j| too) are
/// summed by their angles theta instead, as value_at(theta) with the derivative slope_at(theta).
template <typename Kernel>
concept DivergingKernel = PairKernel<Kernel> && requires(const Kernel& kernel, const at::Tensor& theta) {
  { kernel.value_at(theta) } -> std::same_as<at::Tensor>;
  { kernel.slope_at(theta) } -> std::same_as<at::Tensor>;
  { kernel.slope_everywhere(theta.cos()) } -> std::same_as<at::Tensor>;  // df/dc at every c, differentiable
  { kernel.near_distance(at::kFloat) } -> std::same_as<double>;
  { kernel.half_space } -> std::convertible_to<bool>;
};

/// The matrices of one call and what is being summed over them.
struct PairSumState {
  at::Tensor rows;    ///< [b, n, d]
  at::Tensor usable;  ///< [b, n]
  at::Tensor norms;   ///< [b, n] float64, 1 where not usable
  at::Tensor unit;    ///< [b, n, d]
  at::Tensor count;   ///< [b] float64
  at::Tensor sum;     ///< [b] float64: sum of value over ordered pairs so far
  at::Tensor force;   ///< [b, n, d]: sum_j 2 f'(c_ij) w^_j, in the tangent space and over |w_i| after project()
};

/// The near pairs of a tile, each once: matrix, first row < second row.
struct NearPairs {
  at::Tensor matrix, first, second;  ///< [p]
};

template <PairKernel Kernel>
class PairSum {
 public:
  PairSum(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable, bool with_gradient)
      : kernel_(kernel), with_gradient_(with_gradient) {
    const at::Tensor norms = row_norms(rows).masked_fill_(usable.logical_not(), 1.0);
    const at::Tensor count = usable_count(usable);
    state_ = {rows, usable, norms, unit_rows(rows, norms), count, at::zeros_like(count), {}};
    if (with_gradient_) {
      state_.force = at::zeros_like(rows);
    }
    const int64_t batch = rows.size(0), n = rows.size(1);
    const int64_t tile = std::max<int64_t>(1, tile_elements / std::max<int64_t>(1, batch * n));
    for (int64_t start = 0; start < n; start += tile) {
      add_tile(start, std::min(tile, n - start));
    }
    if (with_gradient_) {
      project();
    }
    add_near_pairs();
  }

  /// [b]; 0 for fewer than two usable rows, NaN where a weight is not finite.
  at::Tensor value() const {
    const at::Tensor& n = state_.count;
    const at::Tensor value = at::where(n >= 2, kernel_.scale(n) * state_.sum + kernel_.offset(n), 0.0);
    return (value + nan_where_not_finite(state_.rows)).to(state_.rows.scalar_type());
  }

  /// d(grad_output . value)/d rows [b, n, d].
  at::Tensor gradient(const at::Tensor& grad_output) const {
    const at::Tensor& n = state_.count;
    const at::Tensor scale =
        at::where(n >= 2, kernel_.scale(n), 0.0) * grad_output.to(at::kDouble) + nan_where_not_finite(state_.rows);
    return state_.force.mul(scale.to(state_.force.scalar_type()).reshape({-1, 1, 1}));
  }

 private:
  /// Pairs [b, t, n] that do not count: a row with itself, rows that are not usable.
  at::Tensor left_out(int64_t start, int64_t size) const {
    const at::Tensor not_usable = state_.usable.logical_not();
    const at::Tensor index = at::arange(state_.rows.size(1), not_usable.options().dtype(at::kLong));
    return not_usable.unsqueeze(1)
        .logical_or(not_usable.narrow(1, start, size).unsqueeze(2))
        .logical_or(index.narrow(0, start, size).unsqueeze(1).eq(index));
  }

  void add_tile(int64_t start, int64_t size) {
    at::Tensor cosines = at::bmm(state_.unit.narrow(1, start, size), state_.unit.transpose(1, 2));
    at::Tensor skipped = left_out(start, size);
    if constexpr (DivergingKernel<Kernel>) {
      const at::Tensor near = near_mask(cosines).logical_and_(skipped.logical_not());
      remember(near, start);
      skipped = skipped.logical_or_(near);
    }
    cosines.masked_fill_(skipped, 0.0);
    const at::Tensor n = state_.count.to(cosines.scalar_type()).reshape({-1, 1, 1});
    state_.sum += kernel_.value(cosines, n).masked_fill_(skipped, 0.0).sum({1, 2}, false, at::kDouble);
    if (with_gradient_) {
      const at::Tensor slopes = kernel_.slope(cosines, n).mul(2).masked_fill_(skipped, 0.0);
      at::Tensor force = state_.force.narrow(1, start, size);
      at::bmm_out(force, slopes, state_.unit);
    }
  }

  /// c > 1 - r^2/2, which is |w^_i - w^_j| < r.
  at::Tensor near_mask(const at::Tensor& cosines) const {
    const double near = kernel_.near_distance(cosines.scalar_type());
    return (kernel_.half_space ? cosines.abs() : cosines) > 1 - near * near / 2;
  }

  void remember(const at::Tensor& near, int64_t start) {
    if (!near.any().template item<bool>()) {
      return;
    }
    const at::Tensor found = at::nonzero(near);
    const at::Tensor first = found.select(1, 1) + start, second = found.select(1, 2);
    const at::Tensor once = at::nonzero(first < second).squeeze(1);
    near_.push_back(
        {found.select(1, 0).index_select(0, once), first.index_select(0, once), second.index_select(0, once)});
  }

  /// Out goes the part along the row: only its direction counts. Over the norm, scaled by its power of two first.
  void project() {
    const at::Tensor along = state_.force.mul(state_.unit).sum(-1, true);
    state_.force.addcmul_(state_.unit, along, -1);
    const at::Tensor power = at::log2(state_.norms).floor().neg_().clamp_(-149, 127).exp2_();
    const auto factor = [&](const at::Tensor& t) { return t.to(state_.force.scalar_type()).unsqueeze(-1); };
    state_.force.mul_(factor(power)).div_(factor(state_.norms * power));
  }

  void add_near_pairs() {
    if constexpr (DivergingKernel<Kernel>) {
      for (const NearPairs& pairs : near_) {
        const int64_t chunk = pairs_per_chunk(state_.rows.size(2));
        for (int64_t begin = 0; begin < pairs.first.size(0); begin += chunk) {
          const int64_t size = std::min(chunk, pairs.first.size(0) - begin);
          add_near({pairs.matrix.narrow(0, begin, size), pairs.first.narrow(0, begin, size),
                    pairs.second.narrow(0, begin, size)});
        }
      }
    }
  }

  void add_near(const NearPairs& pairs) {
    const int64_t n = state_.rows.size(1), dimension = state_.rows.size(2);
    const at::Tensor rows = state_.rows.reshape({-1, dimension}), norms = state_.norms.reshape(-1);
    const at::Tensor i = pairs.matrix * n + pairs.first, j = pairs.matrix * n + pairs.second;
    const at::Tensor theta = pair_angles(rows, norms, i, j);
    add_rows(state_.sum, pairs.matrix, kernel_.value_at(theta).mul_(2));  // (i, j) and (j, i)
    if (!with_gradient_) {
      return;
    }
    const PairGradient part =
        pair_gradient(rows.index_select(0, i).to(at::kDouble), rows.index_select(0, j).to(at::kDouble),
                      kernel_.slope_at(theta).mul_(-2).unsqueeze(1), pairs.first, pairs.second,
                      duplicate_distance(rows.scalar_type()));
    at::Tensor force = state_.force.view({-1, dimension});
    const auto add = [&](const at::Tensor& index, const at::Tensor& dense, const at::Tensor& at_axis) {
      add_rows(force, index, dense.scatter_add(1, part.axis, at_axis).to(force.scalar_type()));
    };
    add(i, part.first_part, part.first_axis_part);
    add(j, part.second_part, part.second_axis_part);
  }

  Kernel kernel_;
  bool with_gradient_;
  PairSumState state_;
  std::vector<NearPairs> near_;
};

/// The same gradient as one expression that autograd can differentiate again, in float64 and with n x n cosines.
template <PairKernel Kernel>
at::Tensor differentiable_pair_gradient(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable,
                                        const at::Tensor& grad_output) {
  const at::Tensor used = usable.unsqueeze(-1);
  const at::Tensor norms = at::where(used, row_norms(rows).unsqueeze(-1), 1.0);
  const at::Tensor unit = at::where(used, rows.to(at::kDouble) / norms, 0.0);
  const at::Tensor itself = at::eye(rows.size(1), usable.options());
  const at::Tensor pairs = used.logical_and(usable.unsqueeze(1)).logical_and(itself.logical_not());
  const at::Tensor n = usable_count(usable).reshape({-1, 1, 1});
  const at::Tensor cosines = at::where(pairs, at::bmm(unit, unit.transpose(1, 2)), 0.0);
  const at::Tensor scale = at::where(n >= 2, kernel.scale(n) * grad_output.to(at::kDouble).reshape({-1, 1, 1}), 0.0);
  const auto slope = [&] {
    if constexpr (DivergingKernel<Kernel>) {
      return kernel.slope_everywhere(cosines);
    } else {
      return kernel.slope(cosines, n);
    }
  };
  const at::Tensor force = at::bmm(at::where(pairs, slope(), 0.0) * (2 * scale), unit);
  return ((force - unit * (force * unit).sum(-1, true)) / norms).to(rows.scalar_type());
}

/// Kernels are kept for the backward pass as the numbers parameters(), from which Kernel::from makes them again.
template <PairKernel Kernel>
struct PairSumFunction : torch::autograd::Function<PairSumFunction<Kernel>> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows, const at::Tensor& usable,
                            const Kernel& kernel) {
    context->saved_data["kernel"] = kernel.parameters();
    const PairSum<Kernel> sum(kernel, rows, usable, rows.requires_grad());
    // Kept for the backward pass in the size of the rows; the cosines are not computed a second time.
    const at::Tensor gradient = rows.requires_grad() ? sum.gradient(at::ones_like(sum.value())) : at::Tensor();
    context->save_for_backward({rows, usable, gradient});
    return sum.value();
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    if (!at::GradMode::is_enabled()) {
      return {saved[2] * grad_outputs[0].reshape({-1, 1, 1}), at::Tensor(), at::Tensor()};
    }
    const Kernel kernel = Kernel::from(context->saved_data["kernel"].toDoubleVector());
    return {differentiable_pair_gradient(kernel, saved[0], saved[1], grad_outputs[0]), at::Tensor(), at::Tensor()};
  }
};

template <PairKernel Kernel>
at::Tensor pair_sum(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable) {
  return PairSumFunction<Kernel>::apply(rows, usable, kernel);
}

template <PairKernel Kernel>
std::pair<at::Tensor, at::Tensor> pair_sum_and_gradient(const Kernel& kernel, const at::Tensor& rows,
                                                        const at::Tensor& usable, const at::Tensor& grad_output) {
  const PairSum<Kernel> sum(kernel, rows, usable, true);
  return {sum.value(), sum.gradient(grad_output)};
}

}  // namespace mma::detail
