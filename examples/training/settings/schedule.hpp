// The learning rate of each step: at milestones or by half a cosine, after a warm-up.
#pragma once

#include <cstdint>
#include <vector>

#include "training/settings/settings.hpp"

namespace mma::examples {

/// Of so many images. A last batch of one image joins the one before it: the statistics of one are none.
int64_t steps_in_epoch(int64_t images, int64_t batch);

/// Milestones of a run of `from` epochs moved to the same fractions of a run of `to` epochs, rounded up.
std::vector<int64_t> scaled_milestones(const std::vector<int64_t>& milestones, int64_t from, int64_t to);

/// The same of a number of epochs, rounded down: 0 where a run is too short for it.
int64_t scaled_epochs(int64_t epochs, int64_t from, int64_t to);

/// The multi-step rate of an epoch (counted from 0): the first one, divided at each milestone reached.
double scheduled_learning_rate(double first, const std::vector<int64_t>& milestones, double divisor, int64_t epoch);

/// The rate of a step of an epoch (both from 0). Cosine: first (1 + cos(pi t)) / 2, where t goes from 0 at the end of
/// the warm-up to 1 at the end of the run (Loshchilov and Hutter 2017, without restarts). Warm-up: the first rate times
/// the share of its steps that are begun (Goyal et al. 2017).
double learning_rate_at(const Settings& settings, int64_t epoch, int64_t step, int64_t steps_per_epoch);

}  // namespace mma::examples
