#include "training/run/progress.hpp"

#include <cmath>
#include <iostream>

#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr size_t narrowest_bar = 4;
constexpr ProgressTiming timing = {.first_line = 0, .lines = 0};  // there is a terminal

}  // namespace

std::string progress_line(const StepProgress& progress, int columns) {
  const double fraction = static_cast<double>(progress.step) / static_cast<double>(progress.steps);
  const std::string head =
      formatted("epoch %lld/%lld", static_cast<long long>(progress.epoch), static_cast<long long>(progress.epochs));
  std::string tail = formatted("  loss %.4f", progress.loss);
  if (progress.regularization_loss) tail += formatted("  reg %+.4f", *progress.regularization_loss);
  tail += formatted("  %.0f images/s  ", progress.images_per_second) + duration(progress.seconds_left) + " left";
  return bar_line(head, fraction, tail, columns, narrowest_bar);
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
  if (metrics.skipped_steps > 0) {
    line += formatted("%lld step%s skipped  ", static_cast<long long>(metrics.skipped_steps),
                      metrics.skipped_steps == 1 ? "" : "s");
  }
  stream_ << line << duration(metrics.seconds) << std::endl;
}

TerminalProgress::TerminalProgress(std::ostream& stream, TerminalColumns columns)
    : PlainProgress(stream), line_(stream, columns, timing) {}

void TerminalProgress::say(const std::string& line) {
  line_.erase();
  PlainProgress::say(line);
}

void TerminalProgress::step(const StepProgress& progress) {
  line_.show([&](int columns) { return progress_line(progress, columns); });
}

void TerminalProgress::epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) {
  line_.erase();
  PlainProgress::epoch(metrics, epochs, regularized);
}

std::unique_ptr<Progress> progress_on_stdout() {
  const TerminalColumns columns = terminal_on_stdout();
  if (columns != nullptr) return std::make_unique<TerminalProgress>(std::cout, columns);
  return std::make_unique<PlainProgress>(std::cout);
}

}  // namespace mma::examples
