#include "training/run/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

using std::chrono::steady_clock;

constexpr auto redraw_interval = std::chrono::milliseconds(100);
constexpr size_t narrowest_bar = 4;
constexpr size_t widest_bar = 24;

}  // namespace

std::string progress_line(const StepProgress& progress, int columns) {
  const double fraction = static_cast<double>(progress.step) / static_cast<double>(progress.steps);
  const std::string head =
      formatted("epoch %lld/%lld ", static_cast<long long>(progress.epoch), static_cast<long long>(progress.epochs));
  std::string tail = formatted(" %3.0f %%  loss %.4f", 100 * fraction, progress.loss);
  if (progress.regularization_loss) tail += formatted("  reg %+.4f", *progress.regularization_loss);
  tail += formatted("  %.0f images/s  ", progress.images_per_second) + duration(progress.seconds_left) + " left";
  const auto room = static_cast<size_t>(std::max(1, columns - 1));  // a full line would wrap
  const size_t words = head.size() + tail.size() + 2;               // the bar's brackets too
  const size_t width = std::clamp(room - std::min(room, words), narrowest_bar, widest_bar);
  return (head + bar(fraction, width) + tail).substr(0, room);
}

void PlainProgress::say(const std::string& line) { stream_ << line << std::endl; }

void PlainProgress::step(const StepProgress&) {}

void PlainProgress::epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) {
  const std::string total = std::to_string(epochs);
  std::string line = formatted("epoch %*lld/%s  loss %.4f", static_cast<int>(total.size()),
                               static_cast<long long>(metrics.epoch), total.c_str(), metrics.loss);
  if (regularized) line += formatted("  reg %+.4f", metrics.regularization_loss);
  if (!std::isnan(metrics.top1)) line += formatted("  top-1 %.2f %%  top-5 %.2f %%", metrics.top1, metrics.top5);
  line += formatted("  minimal angle %.1f deg  rate %g  ", metrics.angles.mean_minimal_angle(), metrics.learning_rate);
  stream_ << line << duration(metrics.seconds) << std::endl;
}

TerminalProgress::TerminalProgress(std::ostream& stream, int (*columns)()) : PlainProgress(stream), columns_(columns) {}

TerminalProgress::~TerminalProgress() { erase_bar(); }

void TerminalProgress::erase_bar() {
  if (bar_is_shown_) stream_ << "\r\033[K" << std::flush;
  bar_is_shown_ = false;
}

void TerminalProgress::say(const std::string& line) {
  erase_bar();
  PlainProgress::say(line);
}

void TerminalProgress::step(const StepProgress& progress) {
  const auto now = steady_clock::now();
  if (drawn_ && now - *drawn_ < redraw_interval) return;
  drawn_ = now;
  stream_ << '\r' << progress_line(progress, columns_()) << "\033[K" << std::flush;
  bar_is_shown_ = true;
}

void TerminalProgress::epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) {
  erase_bar();
  PlainProgress::epoch(metrics, epochs, regularized);
}

std::unique_ptr<Progress> progress_on_stdout() {
  if (isatty(STDOUT_FILENO)) return std::make_unique<TerminalProgress>(std::cout, columns_of_stdout);
  return std::make_unique<PlainProgress>(std::cout);
}

}  // namespace mma::examples
