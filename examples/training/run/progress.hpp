// What a run shows while it goes: one line redrawn on a terminal, one plain line an epoch elsewhere.
#pragma once

#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "support/terminal/progress_line.hpp"
#include "training/run/metrics.hpp"

namespace mma::examples {

struct StepProgress {
  int64_t epoch = 0;  ///< the running one, from 1
  int64_t epochs = 0;
  int64_t step = 0;  ///< steps done in it
  int64_t steps = 0;
  double images_per_second = 0;
  double loss = 0;                            ///< cross entropy, mean of the epoch so far
  std::optional<double> regularization_loss;  ///< the same of the regularizer; empty without one
  double seconds_left = 0;                    ///< of the whole run
};

class Progress {
 public:
  virtual ~Progress() = default;
  virtual void say(const std::string& line) = 0;
  virtual void step(const StepProgress& progress) = 0;
  virtual void epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) = 0;
};

/// Shows nothing: for processes that are not the first.
class NoProgress : public Progress {
 public:
  void say(const std::string&) override {}
  void step(const StepProgress&) override {}
  void epoch(const EpochMetrics&, int64_t, bool) override {}
};

/// A line for each epoch, nothing between.
class PlainProgress : public Progress {
 public:
  explicit PlainProgress(std::ostream& stream) : stream_(stream) {}
  void say(const std::string& line) override;
  void step(const StepProgress& progress) override;
  void epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) override;

 protected:
  std::ostream& stream_;
};

/// Also a bar below them, redrawn in place some times a second.
class TerminalProgress : public PlainProgress {
 public:
  TerminalProgress(std::ostream& stream, TerminalColumns columns);
  void say(const std::string& line) override;
  void step(const StepProgress& progress) override;
  void epoch(const EpochMetrics& metrics, int64_t epochs, bool regularized) override;

 private:
  ProgressLine line_;
};

/// The bar's line, cut to a width.
std::string progress_line(const StepProgress& progress, int columns);

/// Standard output's: a bar when it is a terminal.
std::unique_ptr<Progress> progress_on_stdout();

}  // namespace mma::examples
