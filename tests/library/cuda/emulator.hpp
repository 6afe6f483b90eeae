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
  using Values = std::array<uint32_t, 6>;  ///< what a lane can show the others at a time

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

  /// Whether any of the block's threads says so; waits for all.
  bool any_of_block(bool value) {
    bool& said = said_[block_barrier_.passed % 2];
    said = value || (said && !block_barrier_.waiting.empty());
    wait_for_block();
    return said;
  }

  void wait_for_warp() { wait(warp_barriers_[static_cast<size_t>(thread_.x / 32)], 32); }

  /// Every lane shows values and sees those of all, until its next call but one.
  const std::array<Values, 32>& gather(const Values& values) {
    Barrier& warp = warp_barriers_[static_cast<size_t>(thread_.x / 32)];
    auto& shown = warp.shown[warp.passed % 2];
    shown[static_cast<size_t>(thread_.x % 32)] = values;
    wait(warp, 32);
    return shown;
  }

  using Combined = std::array<float, 128>;

  /// What `combine` makes of what all lanes show, made once for the warp; until a lane's next call but one.
  template <typename Combine>
  const Combined& gather(const Values& values, const Combine& combine) {
    Barrier& warp = warp_barriers_[static_cast<size_t>(thread_.x / 32)];
    const size_t turn = warp.passed % 2;
    warp.is_combined[turn] = false;
    const auto& shown = gather(values);
    if (!warp.is_combined[turn]) {
      warp.combined[turn] = combine(shown);
      warp.is_combined[turn] = true;
    }
    return warp.combined[turn];
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
    std::array<Combined, 2> combined;
    std::array<bool, 2> is_combined;
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
  std::array<bool, 2> said_{};
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
#define in_global_memory(pointer)
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
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int step) {
  const int lane = threadIdx.x % 32;
  return __shfl_sync(mask, value, lane < step ? lane : lane - step);
}
inline unsigned __match_any_sync(unsigned, int value) {
  const auto& all = emulator::block().gather(emulator::bits_as<emulator::Block::Values>(value));
  const auto own = emulator::bits_as<uint32_t>(value);
  unsigned result = 0;
  for (size_t lane = 0; lane < 32; ++lane) result |= static_cast<unsigned>(all[lane][0] == own) << lane;
  return result;
}
inline int __syncthreads_or(int value) { return emulator::block().any_of_block(value != 0); }
inline void __threadfence() {}
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
inline int atomicAdd(int* at, int value) {
  const int before = *at;
  *at += value;
  return before;
}
using std::max;
using std::min;

// The functions of kernels/tensor_cores.hpp, as PTX defines the instructions: "ldmatrix", "mma.m16n8k16".
inline unsigned two_halves(float first, float second) {
  return c10::Half(first).x | static_cast<unsigned>(c10::Half(second).x) << 16;
}
inline float first_half(unsigned both) { return c10::Half(static_cast<uint16_t>(both), c10::Half::from_bits()); }
inline float second_half(unsigned both) { return c10::Half(static_cast<uint16_t>(both >> 16), c10::Half::from_bits()); }

inline void load_matrices(const unsigned short* row, unsigned (&entries)[4]) {
  using emulator::Block;
  const auto& rows = emulator::block().gather(emulator::bits_as<Block::Values>(row));
  const auto lane = static_cast<size_t>(threadIdx.x % 32);
  for (size_t m = 0; m < 4; ++m) {
    const auto* from = emulator::bits_as<const unsigned short*>(rows[8 * m + lane / 4]) + 2 * (lane % 4);
    entries[m] = from[0] | static_cast<unsigned>(from[1]) << 16;
  }
}

/// a [16, 16] b [16, 8] of the fragments that a warp's lanes show, row after row.
inline emulator::Block::Combined product_of_fragments(const std::array<emulator::Block::Values, 32>& shown) {
  std::array<std::array<float, 16>, 16> a{};
  std::array<std::array<float, 8>, 16> b{};
  for (size_t lane = 0; lane < 32; ++lane) {
    const size_t g = lane / 4, t = 2 * (lane % 4);
    const auto two = [&](size_t which, float& first, float& second) {
      first = first_half(shown[lane][which]);
      second = second_half(shown[lane][which]);
    };
    two(0, a[g][t], a[g][t + 1]);
    two(1, a[g + 8][t], a[g + 8][t + 1]);
    two(2, a[g][t + 8], a[g][t + 9]);
    two(3, a[g + 8][t + 8], a[g + 8][t + 9]);
    two(4, b[t][g], b[t + 1][g]);
    two(5, b[t + 8][g], b[t + 9][g]);
  }
  emulator::Block::Combined product{};
  for (size_t r = 0; r < 16; ++r) {
    for (size_t k = 0; k < 16; ++k) {
      for (size_t c = 0; c < 8; ++c) product[8 * r + c] += a[r][k] * b[k][c];
    }
  }
  return product;
}

inline void multiply_add(const unsigned (&a)[4], unsigned b_low, unsigned b_high, float (&sum)[4]) {
  const auto& product = emulator::block().gather({a[0], a[1], a[2], a[3], b_low, b_high}, product_of_fragments);
  const auto lane = static_cast<size_t>(threadIdx.x % 32);
  for (size_t e = 0; e < 4; ++e) {
    const size_t r = lane / 4 + e / 2 * 8, c = 2 * (lane % 4) + e % 2;
    const double exact = static_cast<double>(sum[e]) + static_cast<double>(product[8 * r + c]);
    sum[e] = static_cast<float>(exact);
    if (std::abs(static_cast<double>(sum[e])) > std::abs(exact)) sum[e] = std::nextafter(sum[e], 0.0f);  // as the cores
  }
}

inline float emulated_float16_value(unsigned short bits) { return c10::Half(bits, c10::Half::from_bits()); }
inline unsigned short emulated_float16_bits(float value) { return c10::Half(value).x; }
