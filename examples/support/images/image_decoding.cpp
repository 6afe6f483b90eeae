#include "support/images/image_decoding.hpp"

#include <ATen/Parallel.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <mutex>
#include <thread>
#include <vector>

#include "support/process/error.hpp"
#include "support/process/interruption.hpp"
#include "support/terminal/terminal.hpp"

namespace mma::examples {
namespace {

using Clock = std::chrono::steady_clock;

/// A bar on a terminal, one line elsewhere; standard output belongs to the run.
class DecodingProgress {
 public:
  DecodingProgress(int64_t images, const std::string& what)
      : images_(images), what_(what), on_terminal_(isatty(STDERR_FILENO) != 0) {
    if (!on_terminal_) std::cerr << "decoding " << images << " images of " << what << std::endl;
  }
  ~DecodingProgress() {
    if (on_terminal_) std::cerr << "\r\033[K" << std::flush;
  }
  DecodingProgress(const DecodingProgress&) = delete;
  DecodingProgress& operator=(const DecodingProgress&) = delete;

  void show(int64_t done) {
    const auto now = Clock::now();
    if (!on_terminal_ || now - drawn_ < std::chrono::milliseconds(100)) return;
    drawn_ = now;
    const double fraction = static_cast<double>(done) / static_cast<double>(images_);
    std::cerr << "\rdecoding " << what_ << ' ' << bar(fraction, 24) << formatted(" %3.0f %%", 100 * fraction)
              << "\033[K" << std::flush;
  }

 private:
  int64_t images_;
  std::string what_;
  bool on_terminal_;
  Clock::time_point drawn_;
};

/// Where several threads take their next image and leave the first failure.
class Decoding {
 public:
  Decoding(int64_t images, const std::function<void(int64_t)>& decode) : images_(images), decode_(decode) {}

  /// Decodes until nothing is left, somebody failed or the user interrupts; calls shown(images begun) after each.
  template <class Shown>
  void work(const Shown& shown) {
    while (interruption() == 0) {
      const int64_t index = next_++;
      if (index >= images_ || failed_) return;
      try {
        decode_(index);
      } catch (const UserError& error) {
        fail(index, error.what());
      }
      shown(index);
    }
  }

  void throw_what_failed(const std::string& what) const {
    if (failed_) throw UserError(error_);
    if (interruption() != 0) throw UserError("interrupted while the images of " + what + " were decoded");
  }

 private:
  /// Images are begun in order, so the earliest damaged one is found whichever thread gets it.
  void fail(int64_t index, std::string error) {
    const std::lock_guard lock(mutex_);
    if (!failed_ || index < failed_index_) {
      failed_index_ = index;
      error_ = std::move(error);
    }
    failed_ = true;
  }

  int64_t images_;
  const std::function<void(int64_t)>& decode_;
  std::atomic<int64_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  int64_t failed_index_ = 0;
  std::string error_;
};

}  // namespace

void decode_images(int64_t images, const std::string& what, const std::function<void(int64_t)>& decode) {
  Decoding decoding(images, decode);
  {
    DecodingProgress progress(images, what);
    std::vector<std::jthread> helpers;
    for (int i = 1; i < at::get_num_threads(); ++i) helpers.emplace_back([&] { decoding.work([](int64_t) {}); });
    decoding.work([&](int64_t done) { progress.show(done); });
  }
  decoding.throw_what_failed(what);
}

}  // namespace mma::examples
