#include "tammes/progress.hpp"

#include <iostream>
#include <mma/angles.hpp>

#include "support/process/interruption.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

constexpr ProgressTiming timing = {.first_bar = 1, .bars = 0.2, .first_line = 1, .lines = 15};

}  // namespace

SolverProgress::SolverProgress(std::string label)
    : label_(std::move(label)), line_(std::cout, terminal_on_stdout(), timing) {}

TammesCallbacks SolverProgress::callbacks() {
  return {[this](const TammesProgress& progress) { show(progress); }, [] { return interruption() != 0; }};
}

void SolverProgress::show(const TammesProgress& progress) {
  line_.show([&](int columns) {
    std::string words;
    if (progress.minimal_angle > 0) words += formatted("  best %.6f degrees", degrees(progress.minimal_angle));
    if (progress.done > 0.01) words += "  " + time_left(progress.done, line_.seconds());
    if (!line_.on_terminal()) return label_ + formatted(" %3.0f %%", 100 * progress.done) + words;
    return bar_line(label_, progress.done, words, columns);
  });
}

}  // namespace mma::examples
