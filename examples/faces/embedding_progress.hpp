// What is shown on standard error while images become features: a bar on a terminal, elsewhere a plain line now and
// then; at the end how long it took. Standard output belongs to the result.
#pragma once

#include <cstdint>
#include <string>

#include "support/terminal/progress_line.hpp"

namespace mma::examples {

/// "lfw [######......]  50 %  120 images/s  32 s left", cut to a width.
std::string embedding_line(const std::string& name, int64_t done, int64_t images, double seconds, int columns);

class EmbeddingProgress {
 public:
  EmbeddingProgress(std::string name, int64_t images);

  void show(int64_t done);
  void finish();

 private:
  std::string name_;
  int64_t images_;
  ProgressLine line_;
};

}  // namespace mma::examples
