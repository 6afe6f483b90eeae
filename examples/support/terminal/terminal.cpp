#include "support/terminal/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace mma::examples {
namespace {

int columns_of(int stream) {
  winsize size = {};
  const bool known = ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  if (whole < 60) return formatted("%lld s", whole);
  if (whole < 3600) return formatted("%lld:%02lld min", whole / 60, whole % 60);
  return formatted("%lld:%02lld:%02lld h", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string bar(double fraction, size_t width) {
  const auto filled = static_cast<size_t>(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(width));
  std::string text = "[";
  return text.append(filled, '#').append(width - filled, '.').append("]");
}

int columns_of_stdout() { return columns_of(STDOUT_FILENO); }
int columns_of_stderr() { return columns_of(STDERR_FILENO); }

}  // namespace mma::examples
