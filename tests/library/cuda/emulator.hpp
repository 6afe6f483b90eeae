// Runs the CUDA engine's kernels on the CPU: each thread of a block is a fiber, blocks run one after another in an
// order that a seed shuffles. It knows what those kernels use of CUDA and nothing more.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

namespace emulator {

struct Index {
  int x = 0;
};

/// The block that runs: fibers take turns, each until a barrier at which it waits for others.
class Block {
 public:
  using Values = std::array<uint32_t, 2>;  ///< what a lane can show the others at a time

  /// Runs `kernel` once for each of the block's threads.
  void run(int block, int threads, const std::function<void()>& kernel) {
    block_.x = block;
    kernel_ = &kernel;
    if (fibers_.size() < static_cast<size_t>(threads)) fibers_.resize(static_cast<size_t>(threads));
    threads_ = threads;
    block_barrier_.waiting.clear();
    warp_barriers_.assign(static_cast<size_t>(threads + 31) / 32, {});
    ready_.clear();
    for (int t = 0; t < threads; ++t) {
      fibers_[static_cast<size_t>(t)].started = false;
      ready_.push_back(t);
    }
    int done = 0;
    while (!ready_.empty()) {
      thread_.x = ready_.front();
      ready_.pop_front();
      done += resume(fibers_[static_cast<size_t>(thread_.x)]) ? 1 : 0;
    }
    if (done < threads) throw std::runtime_error("emulator: a block's threads wait for one that has returned");
  }

  const Index& thread() const { return thread_; }
  const Index& block() const { return block_; }

  void wait_for_block() { wait(block_barrier_, threads_); }

  /// How often the threads of a block have waited for each other, in all launches.
  int64_t waits() const { return static_cast<int64_t>(block_barrier_.passed); }

  void wait_for_warp() { wait(warp_barriers_[static_cast<size_t>(thread_.x / 32)], 32); }

  /// Every lane shows values and sees those of all, until its next call but one.
  const std::array<Values, 32>& gather(const Values& values) {
    Barrier& warp = warp_barriers_[static_cast<size_t>(thread_.x / 32)];
    auto& shown = warp.shown[warp.passed % 2];
    shown[static_cast<size_t>(thread_.x % 32)] = values;
    wait(warp, 32);
    return shown;
  }

 private:
  static constexpr size_t stack_bytes = 64 * 1024;
  enum Switch { first, back, finished };

  struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool started = false;
  };

  struct Barrier {
    std::vector<int> waiting;
    size_t passed = 0;
    std::array<std::array<Values, 32>, 2> shown;
  };

  /// Until the fiber waits or returns; whether it has returned. Jumps rather than swapcontext, which asks the kernel
  /// for signal masks each time.
  bool resume(Fiber& fiber) {
    const int how = _setjmp(scheduler_);
    if (how == first) {
      if (fiber.started) _longjmp(fiber.place, back);
      fiber.started = true;
      if (!fiber.stack) fiber.stack = std::make_unique<char[]>(stack_bytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = stack_bytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Block::enter, 0);
      setcontext(&fiber.context);
    }
    return how == finished;
  }

  static void enter();

  void wait(Barrier& barrier, int expected) {
    const int self = thread_.x;
    if (static_cast<int>(barrier.waiting.size()) + 1 == expected) {
      ++barrier.passed;
      ready_.insert(ready_.end(), barrier.waiting.begin(), barrier.waiting.end());
      barrier.waiting.clear();
      return;
    }
    barrier.waiting.push_back(self);
    if (_setjmp(fibers_[static_cast<size_t>(self)].place) == first) _longjmp(scheduler_, back);
  }

  Index thread_, block_;
  int threads_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  std::vector<Fiber> fibers_;
  std::deque<int> ready_;
  Barrier block_barrier_;
  std::vector<Barrier> warp_barriers_;
  jmp_buf scheduler_;
};

inline Block& block() {
  static Block instance;
  return instance;
}

inline void Block::enter() {
  Block& self = emulator::block();
  (*self.kernel_)();
  _longjmp(self.scheduler_, finished);
}

/// All blocks of a launch, in an order of the seed's. How often the threads of a block waited for each other.
inline int64_t launch(int64_t blocks, int threads, unsigned seed, const std::function<void()>& kernel) {
  std::vector<int> order(static_cast<size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  const int64_t before = block().waits();
  for (const int b : order) block().run(b, threads, kernel);
  return block().waits() - before;
}

template <typename To, typename From>
To bits_as(const From& value) {
  To result{};
  std::memcpy(&result, &value, std::min(sizeof result, sizeof value));
  return result;
}

}  // namespace emulator

// What the kernels see. In a header for one translation unit.
#define __device__
#define __global__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define KERNEL static
#define MMA_EMULATED
#define threadIdx (::emulator::block().thread())
#define blockIdx (::emulator::block().block())

inline void __syncthreads() { emulator::block().wait_for_block(); }
inline void __syncwarp() { emulator::block().wait_for_warp(); }

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  using emulator::Block;
  return emulator::bits_as<T>(
      emulator::block().gather(emulator::bits_as<Block::Values>(value))[static_cast<size_t>(lane)]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  return __shfl_sync(mask, value, threadIdx.x % 32 ^ other);
}
inline unsigned __ballot_sync(unsigned, bool value) {
  const auto& all = emulator::block().gather({value ? 1u : 0u});
  unsigned result = 0;
  for (size_t lane = 0; lane < 32; ++lane) result |= all[lane][0] << lane;
  return result;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __float_as_int(float value) { return emulator::bits_as<int>(value); }
inline float __int_as_float(int bits) { return emulator::bits_as<float>(bits); }
inline double __longlong_as_double(long long bits) { return emulator::bits_as<double>(bits); }
inline long long __double_as_longlong(double value) { return emulator::bits_as<long long>(value); }
inline unsigned long long atomicMax(unsigned long long* at, unsigned long long value) {
  const unsigned long long before = *at;
  *at = std::max(before, value);
  return before;
}
using std::max;
using std::min;
inline float emulated_float16_value(unsigned short bits) { return c10::Half(bits, c10::Half::from_bits()); }
inline unsigned short emulated_float16_bits(float value) { return c10::Half(value).x; }
