// Objectives that sum a function of the cosine over all pairs of rows: energies and orthogonality.
//
// Value and gradient come from tiles of cosines, in memory O(n d + tile), not from n x n matrices kept by autograd:
//   d l/d w_i = (I - w^_i w^_i^T) sum_j 2 f'(cos_ij) w^_j / |w_i|
// Where f diverges, a float32 cosine of near rows is worthless: such pairs are few, and their angles are taken from the
// weights in float64, as in pairs/angles.hpp.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <concepts>
#include <utility>
#include <vector>

#include "../pairs/angles.hpp"
#include "../pairs/gradient.hpp"
#include "../rows/norms.hpp"
#include "../rows/precision.hpp"

namespace mma::detail::all_pairs {

/// Cosines held at a time: so many that a tile stays in a CPU's cache; elsewhere what costs is each launch.
inline int64_t tile_elements(at::Device device) { return int64_t{1} << (device.is_cpu() ? 20 : 24); }

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
/// summed by their angles theta instead, as value_at(theta) with the derivative slope_at(theta), differentiable.
template <typename Kernel>
concept DivergingKernel = PairKernel<Kernel> && requires(const Kernel& kernel, const at::Tensor& theta) {
  { kernel.value_at(theta) } -> std::same_as<at::Tensor>;
  { kernel.slope_at(theta) } -> std::same_as<at::Tensor>;
  { kernel.near_distance(at::kFloat) } -> std::same_as<double>;
  { kernel.half_space } -> std::convertible_to<bool>;
};

/// c > 1 - r^2/2, which is |w^_i - w^_j| < r.
template <DivergingKernel Kernel>
at::Tensor near_mask(const Kernel& kernel, const at::Tensor& cosines) {
  const double near = kernel.near_distance(cosines.scalar_type());
  return (kernel.half_space ? cosines.abs() : cosines) > 1 - near * near / 2;
}

/// The ordered pairs of a mask [b, t, n], whose t rows begin at row `start` of each matrix of n rows.
struct PairList {
  at::Tensor matrix;         ///< [p]
  at::Tensor first, second;  ///< [p], indices into all matrices' rows laid end to end; first ascending

  PairList(const at::Tensor& mask, int64_t start) {
    const at::Tensor found = at::nonzero(mask);
    matrix = found.select(1, 0);
    first = matrix * mask.size(2) + found.select(1, 1) + start;
    second = matrix * mask.size(2) + found.select(1, 2);
  }
};

template <PairKernel Kernel>
class PairSum {
 public:
  PairSum(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable, bool with_gradient)
      : kernel_(kernel), rows_(rows), not_usable_(usable.logical_not()), count_(rows::usable_count(usable)) {
    const rows::FullPrecisionGuard guard;
    const bool exact = rows::float32_products_are_exact(rows.device());
    norms_ = rows::row_norms(rows).masked_fill_(not_usable_, 1.0);
    unit_ = rows::unit_rows(exact ? rows : rows.to(at::kDouble), norms_);
    sum_ = at::zeros_like(count_);
    if (with_gradient) {
      force_ = at::empty(unit_.sizes(), unit_.options());
    }
    const int64_t batch = rows.size(0), n = rows.size(1);
    const int64_t tile = std::max<int64_t>(1, tile_elements(rows.device()) / std::max<int64_t>(1, batch * n));
    for (int64_t start = 0; start < n; start += tile) {
      add_tile(start, std::min(tile, n - start));
    }
    if (with_gradient) {  // out goes the part along the row: only its direction counts
      force_.addcmul_(unit_, force_.mul(unit_).sum(-1, true), -1);
    }
  }

  /// [b]; 0 for fewer than two usable rows, NaN where a weight is not finite.
  at::Tensor value() const {
    const at::Tensor value = at::where(count_ >= 2, kernel_.scale(count_) * sum_ + kernel_.offset(count_), 0.0);
    return (value + rows::nan_where_not_finite(rows_)).to(rows_.scalar_type());
  }

  /// d(grad_output . value)/d rows [b, n, d].
  at::Tensor gradient(const at::Tensor& grad_output) const {
    const at::Tensor scale = at::where(count_ >= 2, kernel_.scale(count_), 0.0) * grad_output.to(at::kDouble);
    const at::Tensor factor = (scale + rows::nan_where_not_finite(rows_)).unsqueeze(1) / norms_;
    return force_.mul(factor.to(force_.scalar_type()).unsqueeze(-1)).to(rows_.scalar_type());
  }

 private:
  /// Pairs [b, t, n] that do not count: a row with itself, rows that are not usable.
  at::Tensor left_out(int64_t start, int64_t size) const {
    const at::Tensor index = at::arange(rows_.size(1), not_usable_.options().dtype(at::kLong));
    return not_usable_.unsqueeze(1)
        .logical_or(not_usable_.narrow(1, start, size).unsqueeze(2))
        .logical_or_(index.narrow(0, start, size).unsqueeze(1).eq(index));
  }

  void add_tile(int64_t start, int64_t size) {
    at::Tensor cosines = at::bmm(unit_.narrow(1, start, size), unit_.transpose(1, 2));
    at::Tensor skipped = left_out(start, size);
    at::Tensor near;
    if constexpr (DivergingKernel<Kernel>) {
      near = near_mask(kernel_, cosines).logical_and_(skipped.logical_not());
      skipped.logical_or_(near);
    }
    cosines.masked_fill_(skipped, 0.0);
    const at::Tensor n = count_.to(cosines.scalar_type()).reshape({-1, 1, 1});
    sum_ += kernel_.value(cosines, n).masked_fill_(skipped, 0.0).sum({1, 2}, false, at::kDouble);
    if (force_.defined()) {
      at::Tensor force = force_.narrow(1, start, size);
      at::bmm_out(force, kernel_.slope(cosines, n).mul_(2).masked_fill_(skipped, 0.0), unit_);
    }
    if constexpr (DivergingKernel<Kernel>) {
      if (near.any().template item<bool>()) {
        add_near(PairList(near, start));
      }
    }
  }

  void add_near(const PairList& pairs) {
    const int64_t n = rows_.size(1), dimension = rows_.size(2);
    const at::Tensor rows = rows_.reshape({-1, dimension}), norms = norms_.reshape(-1);
    const at::Tensor theta = pairs::pair_angles(rows, norms, pairs.first, pairs.second);
    pairs::add_rows(sum_, pairs.matrix, kernel_.value_at(theta));
    if (force_.defined()) {
      at::Tensor force = force_.view({-1, dimension});
      pairs::add_pair_forces(force, rows, norms, pairs.first, pairs.second, n, kernel_.slope_at(theta).mul_(-2));
    }
  }

  Kernel kernel_;
  at::Tensor rows_;        ///< [b, n, d]
  at::Tensor not_usable_;  ///< [b, n]
  at::Tensor count_;       ///< [b] float64: usable rows
  at::Tensor norms_;       ///< [b, n] float64, 1 where not usable
  at::Tensor unit_;        ///< [b, n, d]
  at::Tensor sum_;         ///< [b] float64: sum of value over ordered pairs so far
  at::Tensor force_;       ///< [b, n, d]: sum_j 2 f'(c_ij) w^_j, in the end without its part along w_i
};

/// The same gradient as one expression that autograd can differentiate again, in float64 and with n x n cosines.
template <PairKernel Kernel>
at::Tensor differentiable_pair_gradient(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable,
                                        const at::Tensor& grad_output) {
  const at::Tensor used = usable.unsqueeze(-1);
  const at::Tensor norms = at::where(used, rows::row_norms(rows).unsqueeze(-1), 1.0);
  const at::Tensor unit = at::where(used, rows.to(at::kDouble) / norms, 0.0);
  const at::Tensor itself = at::eye(rows.size(1), usable.options());
  const at::Tensor n = rows::usable_count(usable).reshape({-1, 1, 1});
  const at::Tensor scale =
      at::where(n >= 2, kernel.scale(n), 0.0) * grad_output.to(at::kDouble).reshape({-1, 1, 1}) * 2;
  const at::Tensor all = at::bmm(unit, unit.transpose(1, 2));
  at::Tensor pairs = used.logical_and(usable.unsqueeze(1)).logical_and(itself.logical_not());
  at::Tensor near;
  if constexpr (DivergingKernel<Kernel>) {
    near = near_mask(kernel, all.detach()).logical_and_(pairs);
    pairs = pairs.logical_and(near.logical_not());
  }
  const at::Tensor cosines = at::where(pairs, all, 0.0);
  const at::Tensor force = at::bmm(at::where(pairs, kernel.slope(cosines, n), 0.0) * scale, unit);
  at::Tensor gradient = (force - unit * (force * unit).sum(-1, true)) / norms;
  if constexpr (DivergingKernel<Kernel>) {
    const PairList list(near, 0);
    const at::Tensor flat = rows.reshape({-1, rows.size(2)});
    const at::Tensor theta = pairs::pair_angles(flat, norms.reshape(-1), list.first, list.second);
    const at::Tensor weight = -kernel.slope_at(theta) * scale.reshape(-1).index_select(0, list.matrix);
    const at::Tensor part = pairs::first_parts(flat, list.first, list.second, rows.size(1), weight);
    gradient = gradient.reshape({-1, rows.size(2)}).index_add(0, list.first, part).reshape(rows.sizes());
  }
  return gradient.to(rows.scalar_type());
}

/// Kernels are kept for the backward pass as the numbers parameters(), from which Kernel::from makes them again.
template <PairKernel Kernel>
struct PairSumFunction : torch::autograd::Function<PairSumFunction<Kernel>> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows, const at::Tensor& usable,
                            const Kernel& kernel, bool with_gradient) {
    context->saved_data["kernel"] = kernel.parameters();
    const PairSum<Kernel> sum(kernel, rows, usable, with_gradient);
    at::Tensor value = sum.value();
    // Kept for the backward pass in the size of the rows; the cosines are not computed a second time.
    context->save_for_backward({rows, usable, with_gradient ? sum.gradient(at::ones_like(value)) : at::Tensor()});
    return value;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    const rows::FullPrecisionGuard guard;
    const auto saved = context->get_saved_variables();
    if (!at::GradMode::is_enabled()) {
      return {saved[2] * grad_outputs[0].reshape({-1, 1, 1}), at::Tensor(), at::Tensor(), at::Tensor()};
    }
    const Kernel kernel = Kernel::from(context->saved_data["kernel"].toDoubleVector());
    return {differentiable_pair_gradient(kernel, saved[0], saved[1], grad_outputs[0]), at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

template <PairKernel Kernel>
at::Tensor pair_sum(const Kernel& kernel, const at::Tensor& rows, const at::Tensor& usable) {
  const bool with_gradient = at::GradMode::is_enabled() && rows.requires_grad();  // known out here alone
  return PairSumFunction<Kernel>::apply(rows, usable, kernel, with_gradient);
}

template <PairKernel Kernel>
std::pair<at::Tensor, at::Tensor> pair_sum_and_gradient(const Kernel& kernel, const at::Tensor& rows,
                                                        const at::Tensor& usable, const at::Tensor& grad_output) {
  const PairSum<Kernel> sum(kernel, rows, usable, true);
  return {sum.value(), sum.gradient(grad_output)};
}

}  // namespace mma::detail::all_pairs
