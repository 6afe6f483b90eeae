// Words for a person at a terminal: formatted numbers, durations, a bar, the width of the line.
#pragma once

#include <cstdio>
#include <string>

namespace mma::examples {

/// As std::printf, into a string.
template <class... Arguments>
std::string formatted(const char* format, Arguments... arguments) {
  const int length = std::snprintf(nullptr, 0, format, arguments...);
  std::string text(static_cast<size_t>(length), '\0');
  std::snprintf(text.data(), text.size() + 1, format, arguments...);
  return text;
}

/// 42 s, 3:07 min, 1:02:03 h.
std::string duration(double seconds);

/// "[####....]" with so many places between its brackets.
std::string bar(double fraction, size_t width);

/// Of the stream's terminal; 80 where it is none.
int columns_of_stdout();
int columns_of_stderr();

}  // namespace mma::examples
