// What a solver shows while it works: a bar on a terminal, elsewhere a plain line now and then.
#pragma once

#include <chrono>
#include <mma/tammes.hpp>
#include <string>

namespace mma::examples {

class SolverProgress {
 public:
  explicit SolverProgress(std::string label);
  SolverProgress(const SolverProgress&) = delete;
  SolverProgress& operator=(const SolverProgress&) = delete;
  ~SolverProgress();

  /// These show themselves here, and stop at Ctrl-C or SIGTERM.
  TammesCallbacks callbacks();

  void show(const TammesProgress& progress);
  double seconds() const;

 private:
  std::string label_;
  bool on_terminal_;
  bool bar_is_shown_ = false;
  std::chrono::steady_clock::time_point start_;
  double next_ = 1;  ///< when to show something again, in seconds after the start
};

}  // namespace mma::examples
