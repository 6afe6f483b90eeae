#include "angles/measuring_progress.hpp"

#include <iostream>
#include <limits>

namespace mma::examples {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr ProgressTiming timing = {.first_bar = 1, .first_line = never, .lines = never};

}  // namespace

std::string measuring_line(const std::string& layer, double share, double seconds, int columns) {
  return bar_line(layer, share, share > 0 ? "  " + time_left(share, seconds) : "", columns);
}

MeasuringProgress::MeasuringProgress(double work) : work_(work), line_(std::cerr, terminal_on_stderr(), timing) {}

void MeasuringProgress::show(const std::string& layer, double done) {
  if (work_ <= 0) return;
  line_.show([&](int columns) { return measuring_line(layer, (before_ + done) / work_, line_.seconds(), columns); });
}

}  // namespace mma::examples
