// Work for LibTorch's threads from a header. at::parallel_for does nothing in parallel in a program that is compiled
// without OpenMP; a TensorIterator's loop runs on LibTorch's own threads, whatever the program's flags.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/TensorIterator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace mma::detail {

/// work(thread) on so many of LibTorch's threads at most, at least once; numbers below at::get_num_threads(). Without a
/// graph.
template <typename Work>
void on_threads(int64_t threads, const Work& work) {
  threads = std::min<int64_t>(threads, at::get_num_threads());
  if (threads <= 1 || at::in_parallel_region()) {
    const c10::ParallelGuard serial(true);
    const at::NoGradGuard no_grad;
    work(size_t{0});
    return;
  }
  const at::Tensor tokens = at::empty({threads}, at::TensorOptions(at::kByte));
  at::TensorIterator iterator = at::TensorIterator::borrowing_nullary_op(tokens);
  const auto loop = [&](char**, const int64_t*, int64_t, int64_t) {
    const at::NoGradGuard no_grad;  // each thread's own: the caller's does not hold there
    work(static_cast<size_t>(at::get_thread_num()));
  };
  iterator.for_each(at::TensorIteratorBase::loop2d_t(loop), 1);
}

/// task(k, thread) for k in [begin, end), each thread taking the next one that is left.
template <typename Task>
void for_each_index(int64_t begin, int64_t end, int64_t threads, const Task& task) {
  std::atomic<int64_t> next{begin};
  on_threads(std::min(threads, end - begin), [&](size_t thread) {
    for (int64_t k = next++; k < end; k = next++) {
      task(k, thread);
    }
  });
}

/// range(begin, end) over [0, count), in pieces of `grain`.
template <typename Range>
void for_each_range(int64_t count, int64_t grain, const Range& range) {
  for_each_index(0, (count + grain - 1) / grain, at::get_num_threads(),
                 [&](int64_t k, size_t) { range(k * grain, std::min(count, (k + 1) * grain)); });
}

}  // namespace mma::detail
