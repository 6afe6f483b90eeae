// One line that tells how far some work is: redrawn in place on a terminal, printed now and then elsewhere. Programs
// say their own words in it.
#pragma once

#include <chrono>
#include <functional>
#include <ostream>
#include <string>

namespace mma::examples {

inline constexpr size_t widest_bar = 24;

/// "HEAD [######......]  50 %TAIL", cut to a terminal's width. The bar gives way to the words, down to `narrowest`.
std::string bar_line(const std::string& head, double share, const std::string& tail, int columns,
                     size_t narrowest = widest_bar);

/// "12 s left", when a share of the work has taken so many seconds.
std::string time_left(double share, double seconds);

/// Gives a terminal's width at the time of the call; nullptr where there is no terminal.
using TerminalColumns = int (*)();
TerminalColumns terminal_on_stdout();
TerminalColumns terminal_on_stderr();

/// Seconds between what is shown. What is never shown has infinitely many.
struct ProgressTiming {
  double first_bar = 0;
  double bars = 0.1;
  double first_line;  ///< where there is no terminal
  double lines;
};

class ProgressLine {
 public:
  ProgressLine(std::ostream& stream, TerminalColumns columns, ProgressTiming timing);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  bool on_terminal() const { return columns_ != nullptr; }
  double seconds() const;  ///< since it was made

  /// Shows the line when it is time to. It is made only then, for a terminal's width or the width of plain lines.
  void show(const std::function<std::string(int columns)>& line);

  /// Takes the bar away, before other lines are printed.
  void erase();

 private:
  std::ostream& stream_;
  TerminalColumns columns_;
  ProgressTiming timing_;
  std::chrono::steady_clock::time_point start_;
  double next_;  ///< when to show something again, in seconds after the start
  bool bar_is_shown_ = false;
};

}  // namespace mma::examples
