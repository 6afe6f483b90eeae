#include "tammes/progress.hpp"

#include <unistd.h>

#include <iostream>
#include <mma/angles.hpp>

#include "support/process/interruption.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr double seconds_between_bars = 0.2;
constexpr double seconds_between_lines = 15;
constexpr size_t bar_width = 24;

}  // namespace

SolverProgress::SolverProgress(std::string label)
    : label_(std::move(label)), on_terminal_(isatty(STDOUT_FILENO) != 0), start_(std::chrono::steady_clock::now()) {}

SolverProgress::~SolverProgress() {
  if (bar_is_shown_) std::cout << "\r\033[K" << std::flush;
}

TammesCallbacks SolverProgress::callbacks() {
  return {[this](const TammesProgress& progress) { show(progress); }, [] { return interruption() != 0; }};
}

double SolverProgress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void SolverProgress::show(const TammesProgress& progress) {
  const double now = seconds();
  if (now < next_) return;
  next_ = now + (on_terminal_ ? seconds_between_bars : seconds_between_lines);
  std::string text = formatted(" %3.0f %%", 100 * progress.done);
  if (progress.minimal_angle > 0) text += formatted("  best %.6f degrees", degrees(progress.minimal_angle));
  if (progress.done > 0.01) text += "  " + duration(now / progress.done - now) + " left";
  if (!on_terminal_) {
    std::cout << label_ << text << std::endl;
    return;
  }
  const auto room = static_cast<size_t>(columns_of_stdout() - 1);  // a full line would wrap
  std::cout << '\r' << (label_ + ' ' + bar(progress.done, bar_width) + text).substr(0, room) << "\033[K" << std::flush;
  bar_is_shown_ = true;
}

}  // namespace mma::examples
