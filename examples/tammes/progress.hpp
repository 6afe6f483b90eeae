// What a solver shows while it works: a bar on a terminal, elsewhere a plain line now and then.
#pragma once

#include <mma/tammes.hpp>
#include <string>

#include "support/terminal/progress_line.hpp"

namespace mma::examples {

class SolverProgress {
 public:
  explicit SolverProgress(std::string label);

  /// These show themselves here, and stop at Ctrl-C or SIGTERM.
  TammesCallbacks callbacks();

  void show(const TammesProgress& progress);
  double seconds() const { return line_.seconds(); }

 private:
  std::string label_;
  ProgressLine line_;
};

}  // namespace mma::examples
