#include "support/images/image_decoding.hpp"

#include <ATen/Parallel.h>

#include <iostream>
#include <limits>
#include <mma/in_threads.hpp>
#include <thread>

#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/terminal/progress_line.hpp"

namespace mma::examples {
namespace {

constexpr double never = std::numeric_limits<double>::infinity();
constexpr ProgressTiming timing = {.first_line = never, .lines = never};

/// A bar on a terminal, one line elsewhere; standard output belongs to the run.
class DecodingProgress {
 public:
  DecodingProgress(int64_t images, const std::string& what)
      : images_(images), what_(what), line_(std::cerr, terminal_on_stderr(), timing) {
    if (!line_.on_terminal()) std::cerr << "decoding " << images << " images of " << what << std::endl;
  }

  void show(int64_t done) {
    const double share = static_cast<double>(done) / static_cast<double>(images_);
    line_.show([&](int columns) { return bar_line("decoding " + what_, share, "", columns); });
  }

 private:
  int64_t images_;
  std::string what_;
  ProgressLine line_;
};

}  // namespace

void decode_images(int64_t images, const std::string& what, const std::function<void(int64_t)>& decode) {
  DecodingProgress progress(images, what);
  const auto shower = std::this_thread::get_id();
  in_threads(images, at::get_num_threads(), [&](int64_t index) {
    if (interruption() != 0) return;
    decode(index);
    if (std::this_thread::get_id() == shower) progress.show(index);
  });
  if (interruption() != 0) throw UserError("interrupted while the images of " + what + " were decoded");
}

}  // namespace mma::examples
