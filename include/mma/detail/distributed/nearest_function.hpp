// An objective over nearest rows as a function of a process's own rows: one autograd node on each process, whose
// backward sends what a row on another process gets from the rows here that chose it.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "../../weight_matrix.hpp"
#include "../pairs/gradient.hpp"
#include "../pairs/math.hpp"
#include "../rows/precision.hpp"
#include "nearest_rows.hpp"

namespace mma::detail::distributed {

/// What the processes found, as each of them knows it.
struct NearestPass : torch::CustomClassHolder {
  NearestPass(Shards all, at::Tensor index, ChosenRows rows)
      : shards(std::move(all)), nearest(std::move(index)), chosen(std::move(rows)) {}

  Shards shards;
  at::Tensor nearest;  ///< [n] int64, the number among all
  ChosenRows chosen;
  double value = 0;
  at::Tensor slopes;  ///< [n] float64, d value / d theta of each own row
};

/// The sum of f over the own rows, how many of them count, and whether all are finite. Fills slopes, of the sum.
inline at::Tensor sum_own(const at::Tensor& norms, const at::Tensor& angles, const at::Tensor& has_nearest,
                          const pairs::Objective& f, at::Tensor& slopes) {
  double sum = 0, usable = 0, infinite = 0;
  const auto* norm = norms.const_data_ptr<double>();
  const auto* angle = angles.const_data_ptr<double>();
  const auto* has = has_nearest.const_data_ptr<bool>();
  auto* slope = slopes.mutable_data_ptr<double>();
  for (int64_t r = 0; r < norms.numel(); ++r) {
    const bool counts = pairs::counts_as_row(norm[r]);
    const double theta = has[r] ? angle[r] : 0;
    usable += counts ? 1 : 0;
    infinite += pairs::is_finite(norm[r]) ? 0 : 1;
    sum += counts ? pairs::value_at(f, theta) : 0;
    slope[r] = counts ? pairs::slope_at(f, theta) : 0;
  }
  return at::tensor({sum, usable, infinite}, at::TensorOptions(at::kDouble));
}

/// The value: the mean of f over all rows of all processes that count (Eq 6 with f(theta) = -theta), 0 where they are
/// fewer than two, NaN where a row has NaN or Inf. Each process adds the others' sums in the same order.
inline void weigh(const Processes& processes, const at::Tensor& rows, const pairs::Objective& f, NearestPass& pass) {
  const auto on_host = [](const at::Tensor& t) { return t.to(at::kCPU).contiguous(); };
  const int64_t first = pass.shards.own_first(), n = rows.size(0);
  const at::Tensor own = at::arange(first, first + n, pass.nearest.options());
  const at::Tensor angles = on_host(angles_to(pass.chosen, rows)), has = on_host(pass.nearest.ne(own));
  at::Tensor slopes = at::empty({n}, at::TensorOptions(at::kDouble));
  const at::Tensor sums = sum_own(on_host(rows::row_norms(rows)), angles, has, f, slopes);
  const at::Tensor all = gather_small(processes, sums, rows.device()).sum(0);
  const auto* total = all.const_data_ptr<double>();
  const bool finite = total[2] == 0;
  pass.value = total[1] < 2 ? 0 : total[0] / total[1];
  if (!finite) pass.value = pairs::not_a_number();
  const double weight = total[1] < 2 ? 0 : finite ? 1 / total[1] : pairs::not_a_number();
  pass.slopes = slopes.mul_(weight).to(rows.device());
}

/// Searches, on all processes. rows [n, d] contiguous, float32 or float64, without a graph; d at least 1.
inline c10::intrusive_ptr<NearestPass> find_nearest(const Processes& processes, const Shards& shards,
                                                    const at::Tensor& rows, const pairs::Objective& objective,
                                                    int64_t block_rows) {
  const at::NoGradGuard no_grad;
  const rows::FullPrecisionGuard guard;
  const at::Tensor nearest = search_ring(processes, shards, rows, objective.half_space, block_rows);
  auto pass = c10::make_intrusive<NearestPass>(shards, nearest, ChosenRows(processes, shards, rows, nearest));
  weigh(processes, rows, objective, *pass);
  return pass;
}

/// d(factor * value)/d own rows [n, d]: what their own pairs give, and what the rows that chose them give, wherever
/// those are.
inline at::Tensor gradient_of(const NearestPass& pass, const at::Tensor& rows, const at::Tensor& factor) {
  const int64_t first = pass.shards.own_first();
  const double duplicate = pairs::duplicate_distance(rows.scalar_type());
  at::Tensor own = at::zeros_like(rows), theirs = at::zeros_like(pass.chosen.rows());
  const at::Tensor weights = pass.slopes * factor.to(at::kDouble).neg();
  in_chunks(rows, [&](int64_t begin, int64_t count) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, begin, count); };
    const at::Tensor place = part(pass.chosen.place());
    const at::Tensor number = at::arange(first + begin, first + begin + count, place.options());
    const pairs::PairGradient pair =
        pairs::pair_gradient(part(rows).to(at::kDouble), pass.chosen.rows().index_select(0, place).to(at::kDouble),
                             part(weights).unsqueeze(1), number, part(pass.nearest), duplicate);
    part(own).copy_(pair.first_part.scatter_add(1, pair.axis, pair.first_axis_part));
    const at::Tensor second = pair.second_part.scatter_add(1, pair.axis, pair.second_axis_part);
    pairs::add_rows(theirs, place, second.to(rows.scalar_type()));
  });
  pass.chosen.add_to_owners(own, theirs);
  return own;
}

/// The value on all processes as a function of the own rows in their type; its gradient is once differentiable.
struct NearestFunction : torch::autograd::Function<NearestFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const Processes& processes, const Shards& shards,
                            const pairs::Objective& objective, int64_t block_rows, const at::Tensor& weight) {
    const at::Tensor rows = in_computing_type(weight).contiguous();
    const auto pass = find_nearest(processes, shards, rows, objective, block_rows);
    context->save_for_backward({weight});
    context->saved_data["pass"] = at::IValue::make_capsule(pass);
    return at::scalar_tensor(pass->value, rows.options());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grad_outputs) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "mma: DistributedMinimalAngle was asked for the gradient of its gradient (create_graph); expected one "
                "backward pass, which is all that goes over processes.");
    const rows::FullPrecisionGuard guard;
    const at::Tensor weight = context->get_saved_variables()[0];
    const at::Tensor rows = in_computing_type(weight).contiguous();
    const auto& pass = static_cast<const NearestPass&>(*context->saved_data["pass"].toCapsule());
    at::Tensor gradient = gradient_of(pass, rows, grad_outputs[0]).to(weight.scalar_type());
    return {{}, {}, {}, {}, std::move(gradient)};
  }
};

}  // namespace mma::detail::distributed
