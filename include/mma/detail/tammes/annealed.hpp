// The annealed method for the Tammes problem: L-BFGS on the p-norm of the inverse distances while its exponent doubles,
// from many starts, then hops from the best; over threads whose number does not matter to the result.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros_like.h>
#include <torch/optim/lbfgs.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "../../in_threads.hpp"
#include "../../tammes_options.hpp"
#include "points.hpp"
#include "power_energy.hpp"

namespace mma::detail::tammes {

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
    at::Generator generator = generator_of((options_.seed + 1) * 0x9E3779B97F4A7C15U + static_cast<uint64_t>(hop));
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
    in_threads(static_cast<int64_t>(tasks.size()), many_points_ ? 1 : options_.threads, [&](int64_t k) {
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

}  // namespace mma::detail::tammes
