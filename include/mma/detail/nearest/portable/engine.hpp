// The engine in LibTorch's operations, for any device and type: where there are no loops or kernels of our own, and
// what those are held against. Nothing waits for a GPU, and as each launch costs there: what is a vector over rows is
// done once for all matrices, the rest once a batch (batches.hpp), and constants are operands that stay on the device.
//
// Rows of half precision count as float32. Sums over a row are float64. In a layer with NaN or Inf the gradient of
// every row of a matrix is NaN.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argmin.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/copysign.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/rsub.h>

#include <ATen/ops/sum.h>
#include <ATen/ops/threshold.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
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

class Engine final : public nearest::Engine {
 public:
  explicit Engine(Plan plan)
      : plan_(std::move(plan)), batches_(plan_.matrices), numbers_(plan_, batches_, duplicates_part(plan_)) {
    const at::Tensor numbers = at::arange(-1, 8, doubles());
    zero_ = numbers.select(0, 1);
    one_ = numbers.select(0, 2);
    beyond_ = numbers.select(0, 8);
    signs_ = numbers.slice(0, 0, 3, 2).unsqueeze(1);
    const double factor = coefficient();
    coefficient_ = factor == -1 ? numbers.select(0, 0) : factor == 1 ? one_ : at::full({}, factor, doubles());
    if (duplicates_part(plan_)) {
      own_order_ = (numbers_.own + 0.5) * signs_;
    }
  }

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

  /// What a row's pair adds to the gradient, before what lies along a row itself is taken away.
  struct Terms {
    at::Tensor pull;   ///< [rows]: to itself pull b, to its neighbour pull a
    at::Tensor axis;   ///< [rows]: and at that coordinate, undefined where duplicates do not part
    at::Tensor parts;  ///< [2, rows]: to its neighbour parts[0], to itself parts[1]
  };

  /// Whether f has a slope at 0.
  static bool duplicates_part(const Plan& plan) { return plan.objective.of_angle != 0; }

  at::Tensor example() const { return plan_.matrices.front().rows; }
  at::TensorOptions doubles() const { return example().options().dtype(at::kDouble); }
  bool of_double() const { return example().scalar_type() == at::kDouble; }
  double duplicate() const { return of_double() ? pairs::duplicate_of_double : pairs::duplicate_of_float; }

  /// f = coefficient (theta + ratio cos theta), or coefficient (-cos theta).
  double coefficient() const {
    return plan_.objective.of_angle != 0 ? plan_.objective.of_angle : -plan_.objective.of_cosine;
  }

  /// Norms to divide by, `instead` for those of zero rows.
  static at::Tensor divisors(const at::Tensor& norms, double instead) {
    return at::threshold(norms, std::nextafter(pairs::zero_norm, 0.0), instead);
  }

  at::Tensor norms_of(const std::vector<at::Tensor>& rows) const {
    at::Tensor norms = at::empty({batches_.row_count()}, doubles());
    for (size_t k = 0; k < rows.size(); ++k) {
      at::Tensor part = batches_.all()[k].rows_of(norms);
      if (of_double()) {
        const at::Tensor scaled = rows::scaled_norms(rows[k]);
        at::add_out(part, scaled, scaled * 0);  // NaN for one above the largest float64: its unit row would be zero
      } else {
        at::linalg_vector_norm_out(part, rows[k], 2, -1, false, at::kDouble);
      }
    }
    return norms;
  }

  /// Nothing here has a graph; that each operation looks for one costs the host time.
  using BelowAutograd = at::AutoDispatchBelowADInplaceOrView;

  Found find(const std::vector<at::Tensor>& rows, const at::Tensor& given) {
    const BelowAutograd guard;
    const at::Tensor norms = norms_of(rows), dividing = divisors(norms, 0);
    const auto [nearest, angles] = pairs_of(rows, norms, dividing, given);
    const auto [values, slopes] = weigh(norms, dividing, angles);
    const auto of_plan = [&](const at::Tensor& t) { return numbers_.place.of(t); };
    return {values, of_plan(norms), of_plan(nearest.to(at::kInt)), of_plan(angles), of_plan(slopes)};
  }

  /// Each row's neighbour, itself for one without, and the angle to it. The unit row of a zero row is NaN, as that of
  /// one that is not finite: so neither is anyone's neighbour.
  std::pair<at::Tensor, at::Tensor> pairs_of(const std::vector<at::Tensor>& rows, const at::Tensor& norms,
                                             const at::Tensor& dividing, const at::Tensor& given) const {
    at::Tensor nearest = given.defined() ? checked(given, norms) : at::empty_like(numbers_.own);
    at::Tensor lengths = at::empty({batches_.row_count(), 2}, doubles());
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      const at::Tensor unit = rows[k].div(batch.rows_of(dividing).unsqueeze(2));
      if (!given.defined()) {
        search(unit, plan_.objective.half_space, duplicate(), tile_rows(batch), batch.rows_of(nearest));
      }
      measure(batch, unit, nearest, lengths);
    }
    at::threshold_(lengths, duplicate(), 0);
    const at::Tensor angles = at::atan2(lengths.select(1, 0), lengths.select(1, 1)).mul_(2);
    return {nearest, angles.nan_to_num_(0)};
  }

  int64_t tile_rows(const Batch& batch) const {
    return std::max<int64_t>(1, std::min(batch.n, tile_numbers(example().device()) / (batch.size() * batch.n)));
  }

  /// The rows given where they still are a neighbour.
  at::Tensor checked(const at::Tensor& given, const at::Tensor& norms) const {
    const at::Tensor out = norms.clamp(pairs::zero_norm, std::numeric_limits<double>::max()).ne(norms);
    const at::Tensor nearest = numbers_.row.of(given).to(at::kLong);
    const at::Tensor below = numbers_.size.with([&](const auto& size) { return nearest < size; });
    const at::Tensor row = at::where(below.bitwise_and_(nearest >= 0), nearest, numbers_.own);
    const at::Tensor place = numbers_.matrix_start.with([&](const auto& start) { return row + start; });
    const at::Tensor no_pair = out.index_select(0, place).bitwise_or_(out);
    return at::where(no_pair, numbers_.own, row);
  }

  /// Of unit rows [b, n, d] those of the neighbours.
  at::Tensor nearest_units(const Batch& batch, const at::Tensor& unit, const at::Tensor& nearest) const {
    const at::Tensor index = batch.size() == 1
                                 ? batch.rows_of(nearest)
                                 : batch.rows_of(nearest) + batch.rows_of(numbers_.start_in_batch.of_rows);
    return unit.view({batch.rows(), batch.d}).index_select(0, index.view(-1)).view(unit.sizes());
  }

  /// |a - b| and |a + b|.
  void measure(const Batch& batch, const at::Tensor& unit, const at::Tensor& nearest, const at::Tensor& lengths) const {
    const at::Tensor other = nearest_units(batch, unit, nearest);
    at::Tensor part = span_of(lengths, batch.first_row, batch.rows()).view({batch.size(), batch.n, 2});
    at::linalg_vector_norm_out(part, at::addcmul(unit.unsqueeze(2), other.unsqueeze(2), signs_), 2, -1);
  }

  /// Values [layers] and slopes.
  std::pair<at::Tensor, at::Tensor> weigh(const at::Tensor& norms, const at::Tensor& dividing,
                                          const at::Tensor& angles) const {
    const Objective& f = plan_.objective;
    const at::Tensor theta = f.half_space ? at::minimum(angles, at::rsub(angles, pairs::pi)) : angles;
    const at::Tensor usable = dividing.ne(0), weights = weights_of(usable, norms, theta);
    at::Tensor value = theta, slope = weights;
    if (f.of_cosine != 0) {
      const bool alone = f.of_angle == 0;
      value = alone ? theta.cos() : at::add(theta, theta.cos(), f.of_cosine / f.of_angle);
      slope =
          alone ? at::mul(weights, theta.sin()) : at::addcmul(weights, weights, theta.sin(), -f.of_cosine / f.of_angle);
    }
    if (f.half_space) {
      slope = at::where(angles > pairs::pi / 2, slope.neg(), slope);
    }
    return {per_layer(per_matrix(weights, value, f.of_angle != 0 ? 1 : -1)), slope};
  }

  at::Tensor without_end(const at::Tensor& per_matrix) const { return span_of(per_matrix, 0, batches_.matrix_count()); }

  /// coefficient share_m weight_r of each row.
  at::Tensor weights_of(const at::Tensor& usable, const at::Tensor& norms, const at::Tensor& theta) const {
    const at::Tensor counts = per_matrix(at::add(usable, norms, 0.0));  // NaN where a norm is NaN or Inf
    if (plan_.objective.closest_only) {
      const at::Tensor closest = numbers_.matrix.of(closest_rows(at::where(usable, theta, beyond_)));
      return at::where(closest.eq(numbers_.own), numbers_.matrix.of(shares_of(counts) * coefficient()), zero_);
    }
    const at::Tensor divisor = at::threshold(counts, 1, std::numeric_limits<double>::infinity());
    const at::Tensor each =
        (numbers_.one_matrix_a_layer ? coefficient_ : shares_of(counts) * coefficient()) / without_end(divisor);
    return at::where(usable, numbers_.matrix.of(each), zero_);
  }

  /// share_m of each matrix by its usable rows.
  at::Tensor shares_of(const at::Tensor& counts) const {
    const at::Tensor counted = at::threshold(counts, 1, 0);
    return numbers_.one_matrix_a_layer
               ? counted.clamp_max(1)
               : without_end(counted) / numbers_.layer_of_matrix.of(per_layer(counted).clamp_min_(1));
  }

  /// Of each matrix the first row with the smallest angle.
  at::Tensor closest_rows(const at::Tensor& angles) const {
    at::Tensor closest = at::empty({batches_.matrix_count()}, numbers_.own.options());
    for (const Batch& batch : batches_.all()) {
      at::Tensor part = batch.matrices_of(closest);
      at::argmin_out(part, batch.rows_of(angles), -1);
    }
    return closest;
  }

  /// A number of each matrix, with a 0 at the end where numbers_ asks for one.
  at::Tensor of_matrices() const {
    const int64_t count = batches_.matrix_count();
    return numbers_.one_matrix_a_layer ? at::empty({count}, doubles()) : at::zeros({count + 1}, doubles());
  }

  /// Sums over the rows of each matrix.
  at::Tensor per_matrix(const at::Tensor& per_row) const {
    at::Tensor sums = of_matrices();
    for (const Batch& batch : batches_.all()) {
      at::Tensor part = batch.matrices_of(sums);
      at::sum_out(part, batch.rows_of(per_row), -1, false, at::kDouble);
    }
    return sums;
  }

  /// The same of products, and times a factor.
  at::Tensor per_matrix(const at::Tensor& a, const at::Tensor& b, double factor) const {
    at::Tensor sums = of_matrices();
    for (const Batch& batch : batches_.all()) {
      at::Tensor part = batch.matrices_of(sums).view({batch.size(), 1, 1});
      part.baddbmm_(batch.rows_of(a).unsqueeze(1), batch.rows_of(b).unsqueeze(2), 0, factor);
    }
    return sums;
  }

  at::Tensor per_layer(const at::Tensor& per_matrix) const {
    const at::Tensor parts = numbers_.matrices_of_layer.of(per_matrix);
    return numbers_.one_matrix_a_layer ? parts : parts.view({static_cast<int64_t>(plan_.layers()), -1}).sum(-1);
  }

  void add_gradient(const std::vector<at::Tensor>& rows, const Found& found, const std::vector<at::Tensor>& gradients,
                    const at::Tensor& factors, double scale) const {
    const BelowAutograd guard;
    const auto of_batches = [&](const at::Tensor& t) { return numbers_.row.of(t); };
    const at::Tensor nearest = of_batches(found.nearest);
    const at::Tensor dividing = divisors(of_batches(found.norms), std::numeric_limits<double>::infinity());
    at::Tensor slopes = of_batches(found.slopes) * numbers_.layer.of(factors);
    if (numbers_.padding.defined()) {
      slopes.masked_fill_(numbers_.padding, 0);
    }
    const Terms terms = terms_of(rows, dividing, nearest, of_batches(found.angles), slopes, scale < 0);
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      add_to(gradients, batch, forces_on(batch, rows[k], dividing, nearest, terms), dividing, -scale);
    }
  }

  /// As pairs::pair_terms with the weight -slope (slope, if negative), over -1 (1). The tangent at a towards b is
  /// (b - a cos)/sin and that towards an axis e is (e - a a_k)/sqrt(1 - a_k^2): what lies along a is taken away at the
  /// end, so that b and e remain.
  Terms terms_of(const std::vector<at::Tensor>& rows, const at::Tensor& dividing, const at::Tensor& nearest,
                 const at::Tensor& angles, const at::Tensor& slopes, bool negative) const {
    const at::Tensor sine = angles.sin();
    const at::Tensor pull = slopes / at::threshold(sine, duplicate() / 2, std::numeric_limits<double>::infinity());
    if (!duplicates_part(plan_)) {
      return {pull, {}, {}};
    }
    // The slope of duplicates and antipodes, whose pull is 0; of the others what rounding leaves, 1e-16 of it.
    const at::Tensor left = at::addcmul(slopes, pull, sine, -1);
    at::Tensor push = at::addcmul(left, left, angles, -2 / pairs::pi);  // times the cosine of 0 or pi
    negative ? push.clamp_min_(0) : push.clamp_max_(0);                 // duplicates part under a positive weight only
    const auto [axis, rest] = parting_axes(rows, dividing, nearest);
    // Duplicates in opposite directions by their order, antipodes in one; what a row is to itself comes to 0.
    const at::Tensor order = at::addcmul(own_order_, nearest, signs_, -1);
    if (plan_.objective.half_space) {
      order.sub_(angles, 1e12);
    }
    at::Tensor parts = at::copysign(push.mul_(rest.rsqrt()), order);
    return {pull, axis, negative ? parts.neg_() : parts};
  }

  /// The coordinate along which duplicates part (pairs::first_parting_axis, or the next one), and 1 - a_k^2 there.
  std::pair<at::Tensor, at::Tensor> parting_axes(const std::vector<at::Tensor>& rows, const at::Tensor& dividing,
                                                 const at::Tensor& nearest) const {
    const at::Tensor axes =
        at::add(numbers_.own_axes, nearest.unsqueeze(1), RowNumbers::lower_factor)
            .add_(at::maximum(nearest, numbers_.own).unsqueeze(1), RowNumbers::upper_factor - RowNumbers::lower_factor);
    numbers_.dimension.with([&](const auto& dimension) { return axes.remainder_(dimension); });
    const at::Tensor entries = at::empty(axes.sizes(), example().options());
    for (size_t k = 0; k < rows.size(); ++k) {
      const Batch& batch = batches_.all()[k];
      const auto part = [&](const at::Tensor& t) {
        return span_of(t, batch.first_row, batch.rows()).view({batch.size(), batch.n, 2});
      };
      at::Tensor out = part(entries);
      at::gather_out(out, rows[k], 2, part(axes));
    }
    const at::Tensor along = entries / dividing.unsqueeze(1);
    const at::Tensor rest = at::addcmul(one_, along, along, -1 + 1e-12);
    const at::Tensor next = rest.select(1, 0) < 1 - 0.9 * 0.9;
    return {at::where(next, axes.select(1, 1), axes.select(1, 0)),
            at::where(next, rest.select(1, 1), rest.select(1, 0))};
  }

  /// The gradient [b, n, d] times the norms, in float64.
  at::Tensor forces_on(const Batch& batch, const at::Tensor& rows, const at::Tensor& dividing,
                       const at::Tensor& nearest, const Terms& terms) const {
    const auto part = [&](const at::Tensor& t) { return batch.rows_of(t).unsqueeze(2); };
    const at::Tensor unit = rows / part(dividing);
    const at::Tensor sums = at::empty({2, batch.size(), batch.n, batch.d}, doubles());
    at::Tensor theirs = sums.select(0, 0), own = sums.select(0, 1);
    at::mul_out(own, nearest_units(batch, unit, nearest), part(terms.pull));
    at::mul_out(theirs, unit, part(terms.pull));
    if (terms.parts.defined()) {
      const at::Tensor parts = terms.parts.narrow(1, batch.first_row, batch.rows());
      sums.scatter_add_(3, part(terms.axis).unsqueeze(0).expand({2, -1, -1, -1}),
                        parts.view({2, batch.size(), batch.n, 1}));
    }
    add_to_nearest(batch, batch.rows_of(nearest), theirs, own);
    return own.addcmul_(unit, dots(unit, own, -1).unsqueeze(2));
  }

  /// to[b, nearest[b, i]] += from[b, i], as products with the matrix of who chose whom: in one order, and in two
  /// launches where index_put sorts in ten.
  void add_to_nearest(const Batch& batch, const at::Tensor& nearest, const at::Tensor& from, at::Tensor& to) const {
    const at::Tensor names = batch.rows_of(numbers_.own).select(0, 0);
    const int64_t step = tile_rows(batch);
    for (int64_t start = 0; start < batch.n; start += step) {
      const int64_t count = std::min(step, batch.n - start);
      at::Tensor chosen = at::empty({batch.size(), count, batch.n}, from.options());
      at::eq_out(chosen, span_of(names, start, count).unsqueeze(1), nearest.unsqueeze(1));
      (count == batch.n ? to : to.narrow(1, start, count)).baddbmm_(chosen, from);
    }
  }

  void add_to(const std::vector<at::Tensor>& gradients, const Batch& batch, const at::Tensor& forces,
              const at::Tensor& dividing, double scale) const {
    const at::Tensor norms = batch.rows_of(dividing).unsqueeze(2);
    if (batch.size() == 1) {
      const at::Tensor& to = gradients[batch.matrices.front()];
      to.addcdiv_(batches_.part_of(batch, forces, 0), norms.squeeze(0), scale);
      return;
    }
    at::Tensor gradient = at::empty(forces.sizes(), forces.options().dtype(of_double() ? at::kDouble : at::kFloat));
    at::div_out(gradient, forces, norms);
    std::vector<at::Tensor> to, from;
    for (int64_t k = 0; k < batch.size(); ++k) {
      to.push_back(gradients[batch.matrices[static_cast<size_t>(k)]]);
      from.push_back(batches_.part_of(batch, gradient, k));
    }
    at::_foreach_add_(to, from, scale);
  }

  Plan plan_;
  Batches batches_;
  RowNumbers numbers_;
  at::Tensor zero_, one_, beyond_, signs_, own_order_, coefficient_;  ///< constants on the device
};

inline std::unique_ptr<nearest::Engine> make(Plan plan) { return std::make_unique<Engine>(std::move(plan)); }

}  // namespace mma::detail::nearest::portable
