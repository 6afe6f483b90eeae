#include "faces/embedding_progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr double seconds_between_bars = 0.1;
constexpr double seconds_between_lines = 15;
constexpr size_t bar_width = 24;

}  // namespace

std::string embedding_line(const std::string& name, int64_t done, int64_t images, double seconds, int columns) {
  const double fraction = static_cast<double>(done) / static_cast<double>(images);
  std::string line = name + ' ' + bar(fraction, bar_width) + formatted(" %3.0f %%", 100 * fraction);
  if (done > 0 && seconds > 0) {
    line += formatted("  %.0f images/s  ", static_cast<double>(done) / seconds);
    line += duration(seconds / fraction - seconds) + " left";
  }
  return line.substr(0, static_cast<size_t>(std::max(1, columns - 1)));  // a full line would wrap
}

EmbeddingProgress::EmbeddingProgress(std::string name, int64_t images)
    : name_(std::move(name)),
      images_(images),
      on_terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      next_(on_terminal_ ? 0 : seconds_between_lines) {}

EmbeddingProgress::~EmbeddingProgress() { erase_bar(); }

double EmbeddingProgress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void EmbeddingProgress::erase_bar() {
  if (bar_is_shown_) std::cerr << "\r\033[K" << std::flush;
  bar_is_shown_ = false;
}

void EmbeddingProgress::show(int64_t done) {
  const double now = seconds();
  if (now < next_ || done == images_) return;
  next_ = now + (on_terminal_ ? seconds_between_bars : seconds_between_lines);
  if (on_terminal_) {
    std::cerr << '\r' << embedding_line(name_, done, images_, now, columns_of_stderr()) << "\033[K" << std::flush;
    bar_is_shown_ = true;
  } else {
    std::cerr << embedding_line(name_, done, images_, now, 120) << std::endl;
  }
}

void EmbeddingProgress::finish() {
  erase_bar();
  const double now = seconds();
  std::cerr << name_ << ": " << images_ << " images in " << duration(now)
            << formatted(", %.0f images/s", static_cast<double>(images_) / now) << std::endl;
}

}  // namespace mma::examples
