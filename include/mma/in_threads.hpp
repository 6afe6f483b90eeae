// Independent tasks, numbered from 0, over threads of their own: for work between which and LibTorch's threads there is
// nothing to share, such as searches from many starts or decoding files. Work inside LibTorch's operations belongs to
// LibTorch's threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace mma {

namespace detail {

/// The exception of the first task, by its number, that threw one.
class FirstFailure {
 public:
  void keep(int64_t task, std::exception_ptr exception) {
    const std::lock_guard lock(mutex_);
    if (!exception_ || task < task_) {
      task_ = task;
      exception_ = std::move(exception);
    }
  }
  void rethrow() const {
    if (exception_) {
      std::rethrow_exception(exception_);
    }
  }

 private:
  std::mutex mutex_;
  int64_t task_ = 0;
  std::exception_ptr exception_;
};

}  // namespace detail

/// Calls task(0) ... task(count - 1) on so many threads at most, the caller's among them, and returns when all are
/// done. They are begun in their order; which thread takes which is open. Where the system gives no more threads, fewer
/// do the work.
/// An exception of any type ends the rest: what has begun is finished, nothing more is begun, and the exception comes
/// out here, on the caller's thread. Of several it is that of the lowest number, whatever the threads: all before a
/// task have begun when it begins.
template <typename Task>
void in_threads(int64_t count, int64_t threads, const Task& task) {
  std::atomic<int64_t> next = 0;
  detail::FirstFailure failure;
  const auto work = [&] {
    for (int64_t k = next++; k < count; k = next++) {
      try {
        task(k);
      } catch (...) {
        failure.keep(k, std::current_exception());
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    others.reserve(static_cast<size_t>(std::max<int64_t>(0, std::min(threads, count) - 1)));
    try {
      while (others.size() < others.capacity()) {
        others.emplace_back(work);
      }
    } catch (const std::system_error&) {  // no more threads are to be had
    }
    work();
  }
  failure.rethrow();
}

}  // namespace mma
