#include "training/settings/schedule.hpp"

#include <cmath>
#include <numbers>

namespace mma::examples {

int64_t steps_in_epoch(int64_t images, int64_t batch) {
  const bool one_is_left = images % batch == 1 && images > batch;
  return images / batch + (images % batch == 0 || one_is_left ? 0 : 1);
}

std::vector<int64_t> scaled_milestones(const std::vector<int64_t>& milestones, int64_t from, int64_t to) {
  std::vector<int64_t> scaled;
  for (int64_t milestone : milestones) scaled.push_back((milestone * to + from - 1) / from);
  return scaled;
}

int64_t scaled_epochs(int64_t epochs, int64_t from, int64_t to) { return epochs * to / from; }

double scheduled_learning_rate(double first, const std::vector<int64_t>& milestones, double divisor, int64_t epoch) {
  double divided_by = 1;  // 0.1 has no exact binary form: a division by 10 gives 0.01 where a product does not
  for (int64_t milestone : milestones) {
    if (epoch >= milestone) divided_by *= divisor;
  }
  return first / divided_by;
}

double learning_rate_at(const Settings& settings, int64_t epoch, int64_t step, int64_t steps_per_epoch) {
  const auto done = static_cast<double>(epoch * steps_per_epoch + step);
  const auto warm_up = static_cast<double>(settings.warm_up * steps_per_epoch);
  if (done < warm_up) return settings.learning_rate * (done + 1) / warm_up;
  if (settings.schedule != "cosine") {
    return scheduled_learning_rate(settings.learning_rate, settings.milestones, settings.rate_divisor, epoch);
  }
  const auto all = static_cast<double>(settings.epochs * steps_per_epoch);
  return settings.learning_rate * (1 + std::cos(std::numbers::pi * (done - warm_up) / (all - warm_up))) / 2;
}

}  // namespace mma::examples
