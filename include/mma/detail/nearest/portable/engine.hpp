// The engine in LibTorch's operations, for any device and type: where there are no loops or kernels of our own, and
// what those are held against. Nothing waits for a GPU, and there are fewer launches than the paper's formula has:
// what is a vector over rows is done once for all matrices, the rest once a batch (batches.hpp).
//
// Rows of half precision count as float32. Sums over a row are float64. In a layer with NaN or Inf the gradient of
// every row of a matrix is NaN but that of rows that are zero or not finite themselves.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/argmin.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "../../rows/norms.hpp"
#include "../../rows/precision.hpp"
#include "../engine.hpp"
#include "batches.hpp"
#include "search.hpp"

namespace mma::detail::nearest::portable {

/// t[index]
inline at::Tensor taken(const at::Tensor& t, const at::Tensor& index) { return t.index_select(0, index); }

class Engine final : public nearest::Engine {
 public:
  explicit Engine(Plan plan) : plan_(std::move(plan)), batches_(plan_.matrices), numbers_(plan_, batches_) {}

  Found find(const at::Tensor& nearest) override { return find(batches_.gathered(), nearest); }

  void add_gradient(const Found& found, const std::vector<at::Tensor>& gradients, const at::Tensor& factors,
                    double scale) override {
    add_gradient(batches_.gathered(), found, gradients, factors, scale);
  }

  Found find_and_add_gradient(const std::vector<at::Tensor>& gradients, const at::Tensor& factors, double scale,
                              const at::Tensor& nearest) override {
    const std::vector<at::Tensor> rows = batches_.gathered();
    Found found = find(rows, nearest);
    add_gradient(rows, found, gradients, factors, scale);
    return found;
  }

 private:
  // Vectors over the rows are in the batches' order from here on.

  /// Each row's neighbour, and how far it is.
  struct Pairs {
    at::Tensor nearest;          ///< index within the matrix
    at::Tensor has;              ///< bool: whether there is one; else `nearest` is any row
    at::Tensor difference, sum;  ///< |a - b|, |a + b|
  };

  /// What a row adds to the gradient for itself and for its neighbour: each [rows] or, for the axes, [rows, 1].
  struct Terms {
    at::Tensor own_unit, own_other;           ///< to itself own_unit a + own_other b
    at::Tensor nearest_unit, nearest_other;   ///< to its neighbour nearest_unit b + nearest_other a
    at::Tensor axis, own_part, nearest_part;  ///< and these at one coordinate
  };

  at::Tensor example() const { return plan_.matrices.front().rows; }
  at::TensorOptions doubles() const { return example().options().dtype(at::kDouble); }
  bool of_double() const { return example().scalar_type() == at::kDouble; }
  double duplicate() const { return of_double() ? pairs::duplicate_of_double : pairs::duplicate_of_float; }

  /// Rows that are zero or not finite.
  static at::Tensor left_out(const at::Tensor& norms) {
    return norms.clamp(pairs::zero_norm, std::numeric_limits<double>::max()).ne(norms);
  }

  at::Tensor norms_of(const std::vector<at::Tensor>& rows) const {
    at::Tensor norms = at::empty({batches_.row_count()}, doubles());
    for (size_t k = 0; k < rows.size(); ++k) {
      at::Tensor part = batches_.all()[k].rows_of(norms);
      if (of_double()) {
        part.copy_(rows::scaled_norms(rows[k]));
      } else {
        at::linalg_vector_norm_out(part, rows[k], 2, -1, false, at::kDouble);
      }
    }
    return norms;
  }

  Found find(const std::vector<at::Tensor>& rows, const at::Tensor& given) {
    const at::NoGradGuard no_grad;
    const at::Tensor norms = norms_of(rows);
    const Pairs found = pairs_of(rows, norms, given);
    const at::Tensor angles = angles_of(found);
    const auto [values, slopes] = weigh(norms, angles);
    const auto of_plan = [&](const at::Tensor& t) { return taken(t, numbers_.place); };
    const at::Tensor nearest = at::where(found.has, found.nearest, numbers_.own).to(at::kInt);
    return {values, of_plan(norms), of_plan(nearest), of_plan(angles), of_plan(slopes)};
  }

  Pairs pairs_of(const std::vector<at::Tensor>& rows, const at::Tensor& norms, const at::Tensor& given) const {
    const at::Tensor out = left_out(norms), safe = norms.masked_fill(out, 1.0);
    const at::Tensor distance = at::empty_like(norms);
    Pairs found{at::empty_like(numbers_.own), {}, at::empty_like(norms), at::empty_like(norms)};
    if (given.defined()) {
      take(given, out, found);
    }
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      const at::Tensor batch_out = batch.rows_of(out);
      const at::Tensor unit = rows[k].div(batch.rows_of(safe).unsqueeze(2)).masked_fill_(batch_out.unsqueeze(2), 0);
      if (!given.defined()) {
        search(SplitRows(unit, batch_out), plan_.objective.half_space, duplicate(), tile_rows(batch),
               batch.rows_of(distance), batch.rows_of(found.nearest));
      }
      measure(batch, unit, found);
    }
    if (!given.defined()) {
      found.has = distance < no_distance / 2;
    }
    return found;
  }

  int64_t tile_rows(const Batch& batch) const {
    return std::max<int64_t>(1, std::min(batch.n, tile_numbers(example().device()) / (batch.size() * batch.n)));
  }

  /// The pairs given, of those that still are one.
  void take(const at::Tensor& given, const at::Tensor& out, Pairs& found) const {
    const at::Tensor nearest = taken(given, numbers_.row).to(at::kLong);
    const at::Tensor is_row = (nearest >= 0).bitwise_and_(nearest < numbers_.size).bitwise_and_(out.bitwise_not());
    found.nearest = at::where(is_row, nearest, numbers_.own);
    const at::Tensor nearest_out = taken(out, found.nearest + numbers_.matrix_start);
    found.has = found.nearest.ne(numbers_.own).bitwise_and_(nearest_out.bitwise_not());
  }

  /// The neighbours' unit rows [b, n, d].
  at::Tensor nearest_units(const Batch& batch, const at::Tensor& unit, const at::Tensor& nearest) const {
    const at::Tensor index = batch.rows_of(nearest) + batch.rows_of(numbers_.start_in_batch);
    return taken(unit.view({batch.rows(), batch.d}), index.view(-1)).view(unit.sizes());
  }

  void measure(const Batch& batch, const at::Tensor& unit, const Pairs& found) const {
    const at::Tensor other = nearest_units(batch, unit, found.nearest);
    at::Tensor difference = batch.rows_of(found.difference), sum = batch.rows_of(found.sum);
    at::linalg_vector_norm_out(difference, unit - other, 2, -1);
    at::linalg_vector_norm_out(sum, unit + other, 2, -1);
  }

  at::Tensor angles_of(const Pairs& found) const {
    at::Tensor angles = at::atan2(found.difference, found.sum).mul_(2);
    angles.masked_fill_(found.sum <= duplicate(), pairs::pi);
    return angles.masked_fill_((found.difference <= duplicate()).bitwise_or_(found.has.bitwise_not()), 0);
  }

  /// Values [layers] and slopes.
  std::pair<at::Tensor, at::Tensor> weigh(const at::Tensor& norms, const at::Tensor& angles) const {
    const Objective& f = plan_.objective;
    const at::Tensor obtuse = f.half_space ? angles > pairs::pi / 2 : at::Tensor();
    const at::Tensor theta = f.half_space ? at::where(obtuse, pairs::pi - angles, angles) : angles;
    at::Tensor value = theta * f.of_angle, slope = at::full_like(theta, f.of_angle);
    if (f.of_cosine != 0) {
      value.add_(theta.cos(), f.of_cosine);
      slope.sub_(theta.sin(), f.of_cosine);
    }
    if (f.half_space) {
      slope = at::where(obtuse, -slope, slope);
    }
    const at::Tensor weights = weights_of(norms, theta);
    const at::Tensor values = values_of((value * weights).add_(norms * 0));
    const at::Tensor not_finite = taken(values * 0, numbers_.layer);
    return {values, (slope * weights).add_(not_finite).masked_fill_(weights <= 0, 0)};
  }

  /// share_m weight_r of each row.
  at::Tensor weights_of(const at::Tensor& norms, const at::Tensor& theta) const {
    const at::Tensor usable = norms.lt(pairs::zero_norm).bitwise_not_();
    const at::Tensor counts = per_matrix(usable);
    const at::Tensor counted = counts.masked_fill(counts < 2, 0);
    const at::Tensor of_layer = taken(per_layer(counted).clamp_min_(1), numbers_.layer_of_matrix);
    const at::Tensor shares = counted.narrow(0, 0, batches_.matrix_count()) / of_layer;
    const auto per_row = [&](const at::Tensor& t) { return taken(t, numbers_.matrix); };
    if (plan_.objective.closest_only) {
      return per_row(shares).masked_fill_(per_row(closest_rows(norms, theta)).ne(numbers_.own), 0);
    }
    const at::Tensor each = shares / counted.narrow(0, 0, batches_.matrix_count()).clamp_min(1);
    return per_row(each).masked_fill_(usable.bitwise_not(), 0);
  }

  /// Of each matrix the first row with the smallest angle.
  at::Tensor closest_rows(const at::Tensor& norms, const at::Tensor& theta) const {
    const at::Tensor angles = theta.masked_fill(left_out(norms), no_distance);
    at::Tensor closest = at::empty({batches_.matrix_count()}, numbers_.own.options());
    for (const Batch& batch : batches_.all()) {
      at::Tensor part = batch.matrices_of(closest);
      at::argmin_out(part, batch.rows_of(angles), -1);
    }
    return closest;
  }

  /// Sums over the rows of each matrix, and a 0 at the end.
  at::Tensor per_matrix(const at::Tensor& per_row) const {
    at::Tensor sums = at::zeros({batches_.matrix_count() + 1}, doubles());
    for (const Batch& batch : batches_.all()) {
      at::Tensor part = batch.matrices_of(sums);
      at::sum_out(part, batch.rows_of(per_row), -1, false, at::kDouble);
    }
    return sums;
  }

  at::Tensor per_layer(const at::Tensor& per_matrix) const {
    const auto layers = static_cast<int64_t>(plan_.layers());
    return taken(per_matrix, numbers_.matrices_of_layer).view({layers, -1}).sum(-1);
  }

  at::Tensor values_of(const at::Tensor& per_row) const { return per_layer(per_matrix(per_row)); }

  void add_gradient(const std::vector<at::Tensor>& rows, const Found& found, const std::vector<at::Tensor>& gradients,
                    const at::Tensor& factors, double scale) const {
    const at::NoGradGuard no_grad;
    const auto of_batches = [&](const at::Tensor& t) { return taken(t, numbers_.row); };
    at::Tensor norms = of_batches(found.norms), nearest = of_batches(found.nearest).to(at::kLong);
    at::Tensor weights = of_batches(found.slopes).mul_(taken(factors, numbers_.layer)).mul_(-scale);
    if (numbers_.padding.defined()) {
      nearest = at::where(numbers_.padding, numbers_.own, nearest);  // no pair, so whatever else it has adds nothing
    }
    const at::Tensor out = left_out(norms);
    norms.masked_fill_(out, 1);
    const Terms terms = terms_of(rows, norms, nearest, of_batches(found.angles), weights);
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      at::Tensor gradient = gradient_of(batch, rows[k], norms, nearest, terms);
      add_to(gradients, batch, gradient.masked_fill_(batch.rows_of(out).unsqueeze(2), 0));
    }
  }

  /// As pairs::pair_terms.
  Terms terms_of(const std::vector<at::Tensor>& rows, const at::Tensor& norms, const at::Tensor& nearest,
                 const at::Tensor& angles, const at::Tensor& weights) const {
    const at::Tensor itself = nearest.eq(numbers_.own);
    const at::Tensor equal = angles <= duplicate(), opposite = angles >= pairs::pi - duplicate();
    const at::Tensor no_tangent = equal.bitwise_or(opposite).bitwise_or_(itself);
    const at::Tensor other = (weights / angles.sin()).masked_fill_(no_tangent, 0);
    const at::Tensor unit = angles.cos().mul_(other).neg_();

    const auto [axis, along] = parting_axes(rows, norms, nearest);
    const at::Tensor rest = 1 - along.square();
    const at::Tensor apart = equal.bitwise_and(weights > 0).bitwise_or_(opposite.bitwise_and(weights < 0));
    const at::Tensor parts = apart.bitwise_and_(rest > 1e-12).bitwise_and_(itself.bitwise_not());
    const at::Tensor minus = equal.bitwise_and(numbers_.own > nearest);
    const at::Tensor parting = (weights.abs() * rest.rsqrt()).masked_fill_(parts.bitwise_not(), 0);
    const at::Tensor own_part = at::where(minus, -parting, parting);
    const at::Tensor nearest_part = at::where(equal, -own_part, own_part);
    return {unit - along * own_part, other, unit, other - along * nearest_part, axis, own_part, nearest_part};
  }

  /// The coordinate along which duplicates part, and the unit row's entry there.
  std::pair<at::Tensor, at::Tensor> parting_axes(const std::vector<at::Tensor>& rows, const at::Tensor& norms,
                                                 const at::Tensor& nearest) const {
    const at::Tensor mixed =
        (at::minimum(nearest, numbers_.own) * 73856093).add_(at::maximum(nearest, numbers_.own) * 19349663);
    const at::Tensor first = mixed.remainder_(numbers_.dimension);
    const at::Tensor second = (first + 1).remainder_(numbers_.dimension);
    const at::Tensor axes = at::stack({first, second}, 1);
    const at::Tensor entries = at::empty(axes.sizes(), example().options());
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      const auto part = [&](const at::Tensor& t) {
        return t.narrow(0, batch.first_row, batch.rows()).view({batch.size(), batch.n, 2});
      };
      at::Tensor out = part(entries);
      at::gather_out(out, rows[k], 2, part(axes));
    }
    const at::Tensor along = entries / norms.unsqueeze(1);
    const at::Tensor next = along.select(1, 0).abs() > 0.9;
    return {at::where(next, second, first), at::where(next, along.select(1, 1), along.select(1, 0))};
  }

  /// [b, n, d] in the type that rows are computed in.
  at::Tensor gradient_of(const Batch& batch, const at::Tensor& rows, const at::Tensor& norms, const at::Tensor& nearest,
                         const Terms& terms) const {
    const auto part = [&](const at::Tensor& t) { return batch.rows_of(t).unsqueeze(2); };
    const at::Tensor unit = rows / part(norms);
    const at::Tensor other = nearest_units(batch, unit, nearest);
    const auto sum = [&](const at::Tensor& of_unit, const at::Tensor& of_other, const at::Tensor& at_axis) {
      return (unit * part(of_unit)).addcmul_(other, part(of_other)).scatter_add_(2, part(terms.axis), part(at_axis));
    };
    at::Tensor own = sum(terms.own_unit, terms.own_other, terms.own_part);
    const at::Tensor theirs = sum(terms.nearest_other, terms.nearest_unit, terms.nearest_part);
    add_to_nearest(batch, batch.rows_of(nearest), theirs, own);
    at::Tensor result = at::empty(own.sizes(), own.options().dtype(of_double() ? at::kDouble : at::kFloat));
    return at::div_out(result, own, part(norms));
  }

  /// to[b, nearest[b, i]] += from[b, i], as products with the matrix of who chose whom: in one order, and in one launch
  /// where index_put sorts in ten.
  void add_to_nearest(const Batch& batch, const at::Tensor& nearest, const at::Tensor& from, at::Tensor& to) const {
    const bool as_float = !of_double() && rows::float32_products_are_exact(from.device());
    const at::ScalarType type = as_float ? at::kFloat : at::kDouble;
    const at::Tensor parts = from.to(type), names = at::arange(batch.n, nearest.options());
    const int64_t step = tile_rows(batch);
    for (int64_t start = 0; start < batch.n; start += step) {
      const int64_t count = std::min(step, batch.n - start);
      const at::Tensor chosen = names.narrow(0, start, count).view({1, count, 1}).eq(nearest.unsqueeze(1)).to(type);
      to.narrow(1, start, count).add_(at::bmm(chosen, parts));
    }
  }

  void add_to(const std::vector<at::Tensor>& gradients, const Batch& batch, const at::Tensor& gradient) const {
    std::vector<at::Tensor> to, from;
    for (int64_t k = 0; k < batch.size(); ++k) {
      to.push_back(gradients[batch.matrices[static_cast<size_t>(k)]]);
      from.push_back(batches_.part_of(batch, gradient, k));
    }
    at::_foreach_add_(to, from);
  }

  Plan plan_;
  Batches batches_;
  RowNumbers numbers_;
};

inline std::unique_ptr<nearest::Engine> make(Plan plan) { return std::make_unique<Engine>(std::move(plan)); }

}  // namespace mma::detail::nearest::portable
