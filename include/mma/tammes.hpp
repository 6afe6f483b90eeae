// The Tammes problem: n points on the sphere in d dimensions with the largest minimal angle. Two solvers: the paper's
// (section 4: SGD on any objective, many starts in one batch) and an annealed one, which comes much nearer to the best
// known values. For n <= d + 1 there is mma::simplex; in one dimension points cannot move, and stay where they begin.
// Not part of mma.hpp, because it takes seconds to compile.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <cstdint>
#include <vector>

#include "any_objective.hpp"
#include "detail/tammes/annealed.hpp"
#include "detail/tammes/paper.hpp"
#include "detail/tammes/points.hpp"
#include "tammes_options.hpp"

namespace mma {

/// The smallest angle in radians between two rows of points [n, d], to the last digits of float64.
/// Throws c10::Error for fewer than two rows and for a row that is zero.
inline double minimal_angle(const at::Tensor& points) {
  TORCH_CHECK(points.dim() == 2 && points.size(0) >= 2 && points.size(1) >= 1 &&
                  detail::rows::usable_rows(points.detach().to(at::kDouble)).all().item<bool>(),
              "mma: minimal_angle got points of shape ", points.sizes(),
              "; expected [n, d] with n >= 2 rows that are not zero.");
  return detail::tammes::minimal_angle(points);
}

/// Points [n, d], none of them zero, moved along their rays onto the sphere: float64 [n, d], contiguous.
inline at::Tensor unit_rows(const at::Tensor& points) {
  TORCH_CHECK(points.dim() == 2 && points.size(1) >= 1 &&
                  detail::rows::usable_rows(points.detach().to(at::kDouble)).all().item<bool>(),
              "mma: unit_rows got points of shape ", points.sizes(), "; expected [n, d] with rows that are not zero.");
  return detail::tammes::unit(points);
}

/// The paper's numerical method: standard normal starts, SGD with momentum, a rate that falls to a fifth when learning
/// stagnates. Gives the best configuration that any start came by. Throws c10::Error for fewer than two points, one
/// dimension or one start, and for a start that is not finite or has a zero row. Section 4 of the paper.
inline TammesResult tammes_paper(const AnyObjective& objective, const TammesPaperOptions& options,
                                 const TammesCallbacks& callbacks = {}) {
  detail::tammes::check_tammes_size(options.points, options.dimension, options.start);
  TORCH_CHECK(options.start.defined() || options.starts >= 1, "mma: tammes_paper got ", options.starts,
              " starts; expected at least 1.");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> starts;
  if (options.start.defined()) {
    starts.push_back(options.start.to(at::kDouble));
  }
  for (int64_t k = 0; k < options.starts && !options.start.defined(); ++k) {
    starts.push_back(
        detail::tammes::random_start(options.points, options.dimension, options.seed + static_cast<uint64_t>(k)));
  }
  at::Tensor rows = at::stack(starts).to(options.device);
  const at::Tensor usable = at::ones({rows.size(0), rows.size(1)}, rows.options().dtype(at::kBool));
  const at::Tensor weight = at::ones({rows.size(0)}, rows.options());
  const at::Tensor velocity = at::zeros_like(rows);
  detail::tammes::PaperSchedule schedule(rows, options.learning_rate);
  for (int64_t iteration = 1; iteration <= options.iterations; ++iteration) {
    const auto [value, gradient] = objective.value_and_gradient(rows, usable, weight);
    velocity.mul_(options.momentum).add_(gradient);
    rows.sub_(schedule.rate() * velocity);
    if (!schedule.after_step(iteration, rows, value)) {
      break;
    }
    if (iteration % detail::tammes::PaperSchedule::window == 0 && callbacks.progress) {
      callbacks.progress(
          {static_cast<double>(iteration) / static_cast<double>(options.iterations), schedule.best_angle()});
    }
    if (iteration % detail::tammes::PaperSchedule::look == 0 && callbacks.stop && callbacks.stop()) {
      break;
    }
  }
  detail::tammes::Best best;
  if (options.start.defined()) {
    best.keep(detail::tammes::unit(options.start), minimal_angle(options.start));
  }
  TammesResult result;
  for (const at::Tensor& end : schedule.best().to(at::kCPU).unbind()) {
    const at::Tensor configuration = detail::tammes::unit(end);
    result.start_angles.push_back(minimal_angle(configuration));
    best.keep(configuration, result.start_angles.back());
  }
  result.points = best.rows;
  result.minimal_angle = best.angle;
  return result;
}

/// The annealed method: L-BFGS on the p-norm of the inverse distances while the exponent doubles, from many starts,
/// then hops from the best. The same seed gives the same bits on any number of threads. Throws c10::Error for sizes and
/// starts as tammes_paper() does, and for options out of their range.
inline TammesResult tammes_annealed(const TammesAnnealedOptions& options, const TammesCallbacks& callbacks = {}) {
  detail::tammes::check_tammes_size(options.points, options.dimension, options.start);
  TORCH_CHECK(options.threads >= 1 && options.hops >= 0 && (options.start.defined() || options.starts >= 1),
              "mma: tammes_annealed got ", options.starts, " starts, ", options.hops, " hops and ", options.threads,
              " threads; expected at least 1, 0 and 1.");
  TORCH_CHECK(options.first_doubling >= 0 && options.first_doubling <= options.last_doubling &&
                  options.last_doubling <= 24 && options.doublings_a_stage >= 1,
              "mma: tammes_annealed got exponents from 2^", options.first_doubling, " to 2^", options.last_doubling,
              "; expected a range within 2^0 to 2^24.");
  return detail::tammes::AnnealedSearch(options, callbacks).run();
}

}  // namespace mma
