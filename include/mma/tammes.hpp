// The Tammes problem: n points on the sphere in d dimensions with the largest minimal angle. Two solvers: the paper's
// (section 4: SGD on any objective, many starts in one batch) and an annealed one, which comes much nearer to the best
// known values. For n <= d + 1 there is mma::simplex; in one dimension points cannot move, and stay where they begin.
// Not part of mma.hpp, because it takes seconds to compile.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <torch/optim/lbfgs.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "detail/nearest_rows.hpp"
#include "detail/pair_angles.hpp"
#include "detail/row_norms.hpp"
#include "detail/tammes_energy.hpp"
#include "objective.hpp"

namespace mma {

/// The smallest angle in radians between two rows of points [n, d], to the last digits of float64.
inline double minimal_angle(const at::Tensor& points) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = points.detach().to(at::kDouble);
  TORCH_CHECK(rows.dim() == 2 && rows.size(0) >= 2 && rows.size(1) >= 1 && detail::usable_rows(rows).all().item<bool>(),
              "mma: minimal_angle got points of shape ", points.sizes(),
              "; expected [n, d] with n >= 2 rows that are not zero.");
  const at::Tensor norms = detail::row_norms(rows);
  const at::Tensor nearest = detail::nearest_rows(rows.unsqueeze(0), norms.unsqueeze(0),
                                                  at::ones({1, rows.size(0)}, norms.options().dtype(at::kBool)))
                                 .squeeze(0);
  return detail::pair_angles(rows, norms, at::arange(rows.size(0), nearest.options()), nearest).min().item<double>();
}

struct TammesProgress {
  double done = 0;           ///< share of the work, 0 to 1
  double minimal_angle = 0;  ///< the best so far, in radians; 0 before there is one
};

/// How a caller looks in. Both are called from the solver's threads, one call at a time.
struct TammesCallbacks {
  std::function<void(const TammesProgress&)> progress;
  std::function<bool()> stop;  ///< true: end soon and give the best so far
};

struct TammesResult {
  at::Tensor points;                                                ///< [n, d] float64 on the CPU, unit length
  double minimal_angle = std::numeric_limits<double>::quiet_NaN();  ///< in radians
  std::vector<double> start_angles;                                 ///< the minimal angle that each start came to
};

/// The paper's method, with its values.
struct TammesPaperOptions {
  int64_t points = 0;
  int64_t dimension = 0;
  int64_t starts = 1;  ///< all in one batch; start k is drawn from the seed + k
  uint64_t seed = 1;
  int64_t iterations = 10000;
  double learning_rate = 0.1;
  double momentum = 0.9;
  at::Device device = at::kCPU;
  at::Tensor start;  ///< [n, d]: one start from here instead of random ones
};

/// The annealed method. Each start goes through all the exponents; then the best so far is changed, again and again, by
/// moving a few of its points to random places and annealing anew ("hops"), and kept where that made it better.
struct TammesAnnealedOptions {
  int64_t points = 0;
  int64_t dimension = 0;
  int64_t starts = 32;
  int64_t hops = 32;
  uint64_t seed = 1;
  int64_t threads = 1;     ///< the result does not depend on it
  int first_doubling = 3;  ///< exponents from 2^3 = 8 ...
  int last_doubling = 20;  ///< ... to 2^20, about 1e6
  int doublings_a_stage = 1;
  double tolerance = 1e-5;    ///< a stage ends when a step gains less than this over its exponent
  int64_t iterations = 3000;  ///< of L-BFGS, for each exponent
  at::Tensor start;           ///< [n, d]: this instead of random starts; the result is never worse
};

/// One start, few exponents and iterations: a minute or so on two cores for an even spread, not an optimum, of 10,000
/// points. Measured: 4.69 degrees for 2000 points in 3 dimensions, of 4.88 that the densest packing of the plane
/// allows.
inline TammesAnnealedOptions quick_tammes_options(int64_t points, int64_t dimension) {
  const double work = static_cast<double>(points) * static_cast<double>(points) * static_cast<double>(dimension);
  TammesAnnealedOptions options;
  options.points = points;
  options.dimension = dimension;
  options.starts = 1;
  options.hops = 0;
  options.first_doubling = dimension < 16 ? 2 : 4;  // in many dimensions random points are spread evenly already
  options.last_doubling = options.first_doubling + 9;
  options.doublings_a_stage = 3;
  options.tolerance = 1e-3;
  options.iterations = std::clamp<int64_t>(static_cast<int64_t>(3e10 / work), 6, 100);
  return options;
}

namespace detail {

inline at::Generator generator_of(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

inline at::Tensor random_start(int64_t n, int64_t d, uint64_t seed) {
  return at::randn({n, d}, generator_of(seed), at::TensorOptions(at::kDouble));
}

inline void check_tammes_size(int64_t n, int64_t d, const at::Tensor& start) {
  TORCH_CHECK(n >= 2 && d >= 1, "mma: the Tammes solver got n = ", n, " points in d = ", d,
              " dimensions; expected n >= 2 and d >= 1.");
  TORCH_CHECK(!start.defined() || (start.dim() == 2 && start.size(0) == n && start.size(1) == d &&
                                   start.isfinite().all().item<bool>() && usable_rows(start).all().item<bool>()),
              "mma: the Tammes solver got a start that is not ", n, " finite rows of ", d,
              " entries, none of them zero.");
}

inline at::Tensor unit(const at::Tensor& rows) {
  return unit_rows(rows.to(at::kDouble), row_norms(rows.to(at::kDouble))).contiguous();
}

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

/// The best of the configurations [n, d] that it was shown; the first of equals.
struct Best {
  at::Tensor rows;
  double angle = 0;

  void keep(const at::Tensor& candidate, double its_angle) {
    if (!rows.defined() || its_angle > angle) {
      rows = candidate;
      angle = its_angle;
    }
  }
};

/// One annealed descent after another, over one thread's buffers.
class Annealer {
 public:
  Annealer(const TammesAnnealedOptions& options, int64_t threads)
      : options_(options), energy_(options.points, options.dimension, threads) {}

  /// Anneals rows [n, d] from p = 2^first_doubling on. Now and then calls look(exponents done, a fraction), and ends
  /// when that is false.
  template <typename Look>
  at::Tensor anneal(const at::Tensor& start, int first_doubling, const Look& look) {
    at::Tensor rows = unit(start);
    int stage = 0;
    for (int doublings = first_doubling; doublings <= options_.last_doubling; doublings += options_.doublings_a_stage) {
      const auto look_at_stage = [&](double share) { return look(stage + share); };
      const bool goes_on = minimise(rows, doublings, look_at_stage);
      rows = unit(rows);
      ++stage;
      if (!goes_on) {
        break;
      }
    }
    return rows;
  }

 private:
  /// In runs of L-BFGS that keep its memory, so that one can look in between. Torch's optimizer costs about 100 us an
  /// iteration beside the 3 to 500 us of the energy: dear for 30 points, but those are soon done.
  template <typename Look>
  bool minimise(at::Tensor& rows, int doublings, const Look& look) {
    const at::Tensor leaf = rows.detach().clone().requires_grad_();
    leaf.mutable_grad() = at::zeros_like(rows);
    auto* gradient = leaf.mutable_grad().mutable_data_ptr<double>();
    const int64_t run = std::min<int64_t>(options_.iterations, rows.size(0) < PowerEnergy::many_points ? 100 : 5);
    const double tolerance = std::ldexp(options_.tolerance, -doublings);
    torch::optim::LBFGS optimizer({leaf}, torch::optim::LBFGSOptions(1)
                                              .max_iter(run)
                                              .tolerance_grad(0)
                                              .tolerance_change(tolerance)
                                              .history_size(10)
                                              .line_search_fn("strong_wolfe"));
    bool goes_on = true, converged = false;
    for (int64_t iteration = 0; iteration < options_.iterations && goes_on && !converged;) {
      int64_t evaluations = 0;
      optimizer.step([&] {
        ++evaluations;
        return at::scalar_tensor(energy_(leaf.const_data_ptr<double>(), gradient, doublings), at::kDouble);
      });
      iteration += run;
      converged = evaluations <= run;  // it ended before its last iteration
      const bool finished = converged || iteration >= options_.iterations;
      goes_on = look(finished ? 1 : static_cast<double>(iteration) / static_cast<double>(options_.iterations));
    }
    rows = leaf.detach();
    return goes_on;
  }

  const TammesAnnealedOptions& options_;
  PowerEnergy energy_;
};

/// The annealed method's starts and hops over its threads.
class AnnealedSearch {
 public:
  AnnealedSearch(const TammesAnnealedOptions& options, const TammesCallbacks& callbacks)
      : options_(options), callbacks_(callbacks), many_points_(options.points >= PowerEnergy::many_points) {}

  TammesResult run() {
    const std::vector<Task> first = options_.start.defined() ? from_given() : from_random();
    stages_ = options_.hops * stages(hop_doubling);
    for (const Task& task : first) {
      stages_ += stages(task.first_doubling);
    }
    anneal(first);
    std::vector<double> start_angles = angles_;
    for (int64_t hop = 0; hop < options_.hops && !stopped_; hop += hops_a_round) {
      std::vector<Task> round;
      for (int64_t k = hop; k < std::min(hop + hops_a_round, options_.hops); ++k) {
        round.push_back({moved(k), hop_doubling});
      }
      anneal(round);
    }
    return {best_.rows, best_.angle, std::move(start_angles)};
  }

 private:
  struct Task {
    at::Tensor rows;
    int first_doubling;
  };

  static constexpr int64_t hops_a_round = 8;  ///< all from the same best configuration, so that threads can share them
  static constexpr int hop_doubling = 4;
  static constexpr int gentle_doubling = 8;  ///< from here on points stay near their places
  static constexpr int64_t most_moved = 3;

  int64_t stages(int first_doubling) const {
    return std::max(0, (options_.last_doubling - first_doubling) / options_.doublings_a_stage + 1);
  }

  std::vector<Task> from_random() const {
    std::vector<Task> tasks;
    for (int64_t k = 0; k < options_.starts; ++k) {
      tasks.push_back({random_start(options_.points, options_.dimension, options_.seed + static_cast<uint64_t>(k)),
                       options_.first_doubling});
    }
    return tasks;
  }

  /// The given points are the first best; equal ones among them are parted, which no gradient can do.
  std::vector<Task> from_given() {
    const at::Tensor given = unit(options_.start);
    best_.keep(given, minimal_angle(given));
    const at::Tensor noise = random_start(options_.points, options_.dimension, options_.seed);
    const at::Tensor parted = best_.angle < 1e-7 ? given + 1e-4 * noise : given;
    return {{parted, gentle_doubling}, {parted, options_.first_doubling}};
  }

  /// The best configuration with one to three of its points at random places.
  at::Tensor moved(int64_t hop) const {
    at::Generator generator = generator_of((options_.seed + 1) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(hop));
    const int64_t count = std::min(1 + hop % most_moved, options_.points);
    const at::Tensor which = at::randint(options_.points, {count}, generator, at::TensorOptions(at::kLong));
    const at::Tensor places = at::randn({count, options_.dimension}, generator, at::TensorOptions(at::kDouble));
    return best_.rows.index_copy(0, which, unit(places));
  }

  /// Few points: a task a thread. Many: one task after another, the threads share its pairs. What threads do at the
  /// same time does not matter to the best: it is chosen afterwards, the first of equals.
  void anneal(const std::vector<Task>& tasks) {
    std::vector<at::Tensor> ends(tasks.size());
    std::vector<double> angles(tasks.size());
    run_in_threads(static_cast<int64_t>(tasks.size()), many_points_ ? 1 : options_.threads, [&](int64_t k) {
      if (stopped_ && k > 0) {
        return;
      }
      const auto index = static_cast<size_t>(k);
      double done = 0;
      Annealer annealer(options_, many_points_ ? options_.threads : 1);
      ends[index] = annealer.anneal(tasks[index].rows, tasks[index].first_doubling, [&](double stages_done) {
        return look(stages_done - std::exchange(done, stages_done));
      });
      angles[index] = minimal_angle(ends[index]);
      const std::lock_guard lock(mutex_);
      shown_angle_ = std::max(shown_angle_, angles[index]);
    });
    angles_.clear();
    for (size_t k = 0; k < ends.size(); ++k) {
      if (ends[k].defined()) {
        best_.keep(ends[k], angles[k]);
        angles_.push_back(angles[k]);
      }
    }
  }

  /// Tells how far the work is; false when it shall stop.
  bool look(double more_stages) {
    const std::lock_guard lock(mutex_);
    if (stopped_) {
      return false;
    }
    stages_done_ += more_stages;
    if (callbacks_.progress) {
      callbacks_.progress({std::min(1.0, stages_done_ / static_cast<double>(stages_)), shown_angle_});
    }
    stopped_ = callbacks_.stop && callbacks_.stop();
    return !stopped_;
  }

  const TammesAnnealedOptions& options_;
  const TammesCallbacks& callbacks_;
  bool many_points_;
  int64_t stages_ = 0;
  double stages_done_ = 0;
  std::mutex mutex_;
  std::atomic<bool> stopped_ = false;
  double shown_angle_ = 0;
  Best best_;
  std::vector<double> angles_;
};

}  // namespace detail

/// The paper's numerical method: standard normal starts, SGD with momentum, a rate that falls to a fifth when learning
/// stagnates (see detail::PaperSchedule). Gives the best configuration that any start came by.
inline TammesResult tammes_paper(const AnyObjective& objective, const TammesPaperOptions& options,
                                 const TammesCallbacks& callbacks = {}) {
  detail::check_tammes_size(options.points, options.dimension, options.start);
  TORCH_CHECK(options.start.defined() || options.starts >= 1, "mma: tammes_paper got ", options.starts,
              " starts; expected at least 1.");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> starts;
  if (options.start.defined()) {
    starts.push_back(options.start.to(at::kDouble));
  }
  for (int64_t k = 0; k < options.starts && !options.start.defined(); ++k) {
    starts.push_back(detail::random_start(options.points, options.dimension, options.seed + static_cast<uint64_t>(k)));
  }
  at::Tensor rows = at::stack(starts).to(options.device);
  const at::Tensor usable = at::ones({rows.size(0), rows.size(1)}, rows.options().dtype(at::kBool));
  const at::Tensor weight = at::ones({rows.size(0)}, rows.options());
  const at::Tensor velocity = at::zeros_like(rows);
  detail::PaperSchedule schedule(rows, options.learning_rate);
  for (int64_t iteration = 1; iteration <= options.iterations; ++iteration) {
    const auto [value, gradient] = objective.value_and_gradient(rows, usable, weight);
    velocity.mul_(options.momentum).add_(gradient);
    rows.sub_(schedule.rate() * velocity);
    if (!schedule.after_step(iteration, rows, value)) {
      break;
    }
    if (iteration % detail::PaperSchedule::window == 0 && callbacks.progress) {
      callbacks.progress(
          {static_cast<double>(iteration) / static_cast<double>(options.iterations), schedule.best_angle()});
    }
    if (iteration % detail::PaperSchedule::look == 0 && callbacks.stop && callbacks.stop()) {
      break;
    }
  }
  detail::Best best;
  if (options.start.defined()) {
    best.keep(detail::unit(options.start), minimal_angle(options.start));
  }
  TammesResult result;
  for (const at::Tensor& end : schedule.best().to(at::kCPU).unbind()) {
    const at::Tensor configuration = detail::unit(end);
    result.start_angles.push_back(minimal_angle(configuration));
    best.keep(configuration, result.start_angles.back());
  }
  result.points = best.rows;
  result.minimal_angle = best.angle;
  return result;
}

/// The annealed method: L-BFGS on the p-norm of the inverse distances (see detail/tammes_energy.hpp) while the exponent
/// doubles, from many starts, then hops from the best. The same seed gives the same bits on any number of threads.
inline TammesResult tammes_annealed(const TammesAnnealedOptions& options, const TammesCallbacks& callbacks = {}) {
  detail::check_tammes_size(options.points, options.dimension, options.start);
  TORCH_CHECK(options.threads >= 1 && options.hops >= 0 && (options.start.defined() || options.starts >= 1),
              "mma: tammes_annealed got ", options.starts, " starts, ", options.hops, " hops and ", options.threads,
              " threads; expected at least 1, 0 and 1.");
  TORCH_CHECK(options.first_doubling >= 0 && options.first_doubling <= options.last_doubling &&
                  options.last_doubling <= 24 && options.doublings_a_stage >= 1,
              "mma: tammes_annealed got exponents from 2^", options.first_doubling, " to 2^", options.last_doubling,
              "; expected a range within 2^0 to 2^24.");
  return detail::AnnealedSearch(options, callbacks).run();
}

}  // namespace mma
