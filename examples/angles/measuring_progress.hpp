// A bar on standard error while large matrices are measured; on a terminal alone, and not before a second has passed.
#pragma once

#include <chrono>
#include <string>

namespace mma::examples {

/// "embedding [######......]  50 %  12 s left", cut to a width.
std::string measuring_line(const std::string& layer, double share, double seconds, int columns);

class MeasuringProgress {
 public:
  explicit MeasuringProgress(double work);
  MeasuringProgress(const MeasuringProgress&) = delete;
  MeasuringProgress& operator=(const MeasuringProgress&) = delete;
  ~MeasuringProgress();

  /// `done`: of this layer's work.
  void show(const std::string& layer, double done);
  void finished(double work_of_layer) { before_ += work_of_layer; }

 private:
  double work_;
  double before_ = 0;  ///< of the layers that are finished
  bool on_terminal_;
  bool bar_is_shown_ = false;
  std::chrono::steady_clock::time_point start_;
  double next_;  ///< when to show something, in seconds after the start
};

}  // namespace mma::examples
