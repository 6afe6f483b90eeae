#include "faces/embedding_progress.hpp"

#include <iostream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr ProgressTiming timing = {.first_line = 15, .lines = 15};

}  // namespace

std::string embedding_line(const std::string& name, int64_t done, int64_t images, double seconds, int columns) {
  const double share = static_cast<double>(done) / static_cast<double>(images);
  std::string words;
  if (done > 0 && seconds > 0) {
    words = formatted("  %.0f images/s  ", static_cast<double>(done) / seconds) + time_left(share, seconds);
  }
  return bar_line(name, share, words, columns);
}

EmbeddingProgress::EmbeddingProgress(std::string name, int64_t images)
    : name_(std::move(name)), images_(images), line_(std::cerr, terminal_on_stderr(), timing) {}

void EmbeddingProgress::show(int64_t done) {
  if (done == images_) return;  // finish() tells it
  line_.show([&](int columns) { return embedding_line(name_, done, images_, line_.seconds(), columns); });
}

void EmbeddingProgress::finish() {
  line_.erase();
  const double seconds = line_.seconds();
  std::cerr << name_ << ": " << images_ << " images in " << duration(seconds)
            << formatted(", %.0f images/s", static_cast<double>(images_) / seconds) << std::endl;
}

}  // namespace mma::examples
