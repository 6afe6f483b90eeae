// What is shown on standard error while images become features: a bar on a terminal, elsewhere a plain line now and
// then; at the end how long it took. Standard output belongs to the result.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace mma::examples {

/// "lfw [######......]  50 %  120 images/s  32 s left", cut to a width.
std::string embedding_line(const std::string& name, int64_t done, int64_t images, double seconds, int columns);

class EmbeddingProgress {
 public:
  EmbeddingProgress(std::string name, int64_t images);
  EmbeddingProgress(const EmbeddingProgress&) = delete;
  EmbeddingProgress& operator=(const EmbeddingProgress&) = delete;
  ~EmbeddingProgress();

  void show(int64_t done);
  void finish();

 private:
  double seconds() const;
  void erase_bar();

  std::string name_;
  int64_t images_;
  bool on_terminal_;
  bool bar_is_shown_ = false;
  std::chrono::steady_clock::time_point start_;
  double next_;  ///< when to show something again, in seconds after the start
};

}  // namespace mma::examples
