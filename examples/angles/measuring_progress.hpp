// A bar on standard error while large matrices are measured; on a terminal alone, and not before a second has passed.
#pragma once

#include <string>

#include "support/terminal/progress_line.hpp"

namespace mma::examples {

/// "embedding [######......]  50 %  12 s left", cut to a width.
std::string measuring_line(const std::string& layer, double share, double seconds, int columns);

class MeasuringProgress {
 public:
  explicit MeasuringProgress(double work);

  /// `done`: of this layer's work.
  void show(const std::string& layer, double done);
  void finished(double work_of_layer) { before_ += work_of_layer; }

 private:
  double work_;
  double before_ = 0;  ///< of the layers that are finished
  ProgressLine line_;
};

}  // namespace mma::examples
