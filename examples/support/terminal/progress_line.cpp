#include "support/terminal/progress_line.hpp"

#include <unistd.h>

#include <algorithm>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr int columns_of_plain_lines = 120;

}  // namespace

std::string bar_line(const std::string& head, double share, const std::string& tail, int columns, size_t narrowest) {
  const std::string percent = formatted(" %3.0f %%", 100 * share);
  const auto room = static_cast<size_t>(std::max(1, columns - 1));          // a full line would wrap
  const size_t words = head.size() + 1 + percent.size() + tail.size() + 2;  // the bar's brackets too
  const size_t width = std::clamp(room - std::min(room, words), narrowest, widest_bar);
  return (head + ' ' + bar(share, width) + percent + tail).substr(0, room);
}

std::string time_left(double share, double seconds) { return duration(seconds / share - seconds) + " left"; }

TerminalColumns terminal_on_stdout() { return isatty(STDOUT_FILENO) != 0 ? columns_of_stdout : nullptr; }
TerminalColumns terminal_on_stderr() { return isatty(STDERR_FILENO) != 0 ? columns_of_stderr : nullptr; }

ProgressLine::ProgressLine(std::ostream& stream, TerminalColumns columns, ProgressTiming timing)
    : stream_(stream),
      columns_(columns),
      timing_(timing),
      start_(std::chrono::steady_clock::now()),
      next_(on_terminal() ? timing.first_bar : timing.first_line) {}

ProgressLine::~ProgressLine() { erase(); }

double ProgressLine::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void ProgressLine::show(const std::function<std::string(int columns)>& line) {
  const double now = seconds();
  if (now < next_) return;
  next_ = now + (on_terminal() ? timing_.bars : timing_.lines);
  if (!on_terminal()) {
    stream_ << line(columns_of_plain_lines) << std::endl;
    return;
  }
  stream_ << '\r' << line(columns_()) << "\033[K" << std::flush;
  bar_is_shown_ = true;
}

void ProgressLine::erase() {
  if (bar_is_shown_) stream_ << "\r\033[K" << std::flush;
  bar_is_shown_ = false;
}

}  // namespace mma::examples
