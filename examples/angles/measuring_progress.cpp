#include "angles/measuring_progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr double seconds_of_silence = 1;
constexpr double seconds_between_bars = 0.1;
constexpr size_t bar_width = 24;

}  // namespace

std::string measuring_line(const std::string& layer, double share, double seconds, int columns) {
  std::string line = layer + ' ' + bar(share, bar_width) + formatted(" %3.0f %%", 100 * share);
  if (share > 0) line += "  " + duration(seconds / share - seconds) + " left";
  return line.substr(0, static_cast<size_t>(std::max(1, columns - 1)));  // a full line would wrap
}

MeasuringProgress::MeasuringProgress(double work)
    : work_(work),
      on_terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      next_(seconds_of_silence) {}

MeasuringProgress::~MeasuringProgress() {
  if (bar_is_shown_) std::cerr << "\r\033[K" << std::flush;
}

void MeasuringProgress::show(const std::string& layer, double done) {
  if (!on_terminal_) return;
  const double now = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  if (now < next_ || work_ <= 0) return;
  next_ = now + seconds_between_bars;
  std::cerr << '\r' << measuring_line(layer, (before_ + done) / work_, now, columns_of_stderr()) << "\033[K"
            << std::flush;
  bar_is_shown_ = true;
}

}  // namespace mma::examples
