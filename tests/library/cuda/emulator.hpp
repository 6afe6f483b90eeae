// Runs the kernels of cuda_source.hpp on the CPU: each thread of a block is a fiber, blocks run one after another in an
// order that a seed shuffles. It knows what those kernels use of CUDA and nothing more.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
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

/// The block that runs: fibers take turns, each until a barrier.
class Block {
 public:
  /// Runs `kernel` once for each of the block's threads.
  void run(int block, int threads, const std::function<void()>& kernel) {
    block_.x = block;
    kernel_ = &kernel;
    fibers_.resize(static_cast<size_t>(threads));
    block_barrier_ = {};
    warp_barriers_.assign(static_cast<size_t>(threads + 31) / 32, {});
    exchange_.assign(static_cast<size_t>(threads), 0);
    running_ = threads;
    for (int t = 0; t < threads; ++t) {
      start(t);
    }
    for (int t = 0, idle = 0; running_ > 0; t = (t + 1) % threads) {
      Fiber& fiber = fibers_[static_cast<size_t>(t)];
      if (fiber.done) continue;
      moved_ = false;
      thread_.x = t;
      swapcontext(&scheduler_, &fiber.context);
      idle = moved_ || fiber.done ? 0 : idle + 1;
      if (idle > 2 * threads) throw std::runtime_error("emulator: the block's threads wait for each other for ever");
    }
  }

  const Index& thread() const { return thread_; }
  const Index& block() const { return block_; }

  void wait_for_block() { wait(block_barrier_, static_cast<int>(fibers_.size())); }
  void wait_for_warp() { wait(warp_barriers_[static_cast<size_t>(thread_.x / 32)], 32); }

  /// Every lane gives a value and sees those of all.
  std::array<uint64_t, 32> gather(uint64_t value) {
    exchange_[static_cast<size_t>(thread_.x)] = value;
    wait_for_warp();
    std::array<uint64_t, 32> all;
    std::copy_n(exchange_.begin() + thread_.x / 32 * 32, 32, all.begin());
    wait_for_warp();
    return all;
  }

 private:
  static constexpr size_t stack_bytes = 64 * 1024;

  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
  };

  struct Barrier {
    int arrived = 0, generation = 0;
  };

  void start(int t) {
    Fiber& fiber = fibers_[static_cast<size_t>(t)];
    if (!fiber.stack) fiber.stack = std::make_unique<char[]>(stack_bytes);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = stack_bytes;
    fiber.context.uc_link = &scheduler_;
    makecontext(&fiber.context, &Block::enter, 0);
  }

  static void enter();

  /// A thread that has returned is missed at a barrier: the kernels must not have that.
  void wait(Barrier& barrier, int expected) {
    const int generation = barrier.generation;
    if (++barrier.arrived == expected) {
      barrier.arrived = 0;
      ++barrier.generation;
      moved_ = true;
      return;
    }
    moved_ = true;
    const int self = thread_.x;
    while (barrier.generation == generation) {
      swapcontext(&fibers_[static_cast<size_t>(self)].context, &scheduler_);
      moved_ = barrier.generation != generation;
    }
  }

  Index thread_, block_;
  const std::function<void()>* kernel_ = nullptr;
  std::vector<Fiber> fibers_;
  Barrier block_barrier_;
  std::vector<Barrier> warp_barriers_;
  std::vector<uint64_t> exchange_;
  ucontext_t scheduler_;
  int running_ = 0;
  bool moved_ = false;
};

inline Block& block() {
  static Block instance;
  return instance;
}

inline void Block::enter() {
  Block& self = emulator::block();
  const int t = self.thread_.x;
  (*self.kernel_)();
  self.fibers_[static_cast<size_t>(t)].done = true;
  --self.running_;
}

/// All blocks of a launch, in an order of the seed's.
inline void launch(int64_t blocks, int threads, unsigned seed, const std::function<void()>& kernel) {
  std::vector<int> order(static_cast<size_t>(blocks));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  for (const int b : order) block().run(b, threads, kernel);
}

template <typename T>
uint64_t bits_of(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// mma.sync m16n8k8 (TF32) or m16n8k16 (bfloat16): the layout of its fragments, and a sum that, like the hardware's, is
/// cut off and not rounded: here after each term.
template <int terms>
void tensor_product(float (&sum)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
  const int lane = block().thread().x % 32, group = lane / 4, place = lane % 4;
  std::array<std::array<uint64_t, 32>, 6> all;
  for (size_t r = 0; r < 6; ++r) all[r] = block().gather(r < 4 ? left[r] : right[r - 4]);
  const auto value = [](uint64_t bits, int part) {
    const auto word = static_cast<unsigned>(bits);
    return from_bits<float>(terms == 1 ? word : (part == 0 ? word << 16 : word & 0xffff0000u));
  };
  const auto cut = [](double exact) {
    const float nearest = static_cast<float>(exact);
    return std::abs(static_cast<double>(nearest)) > std::abs(exact) ? std::nextafter(nearest, 0.0f) : nearest;
  };
  for (int c = 0; c < 4; ++c) {
    const int row = group + 8 * (c / 2), column = 2 * place + c % 2;
    float& total = sum[c];
    for (int word = 0; word < 8; ++word) {
      const auto a = static_cast<size_t>((row % 8) * 4 + word % 4), b = static_cast<size_t>(column * 4 + word % 4);
      const auto a_register = static_cast<size_t>(row / 8 + 2 * (word / 4)),
                 b_register = static_cast<size_t>(4 + word / 4);
      for (int part = 0; part < terms; ++part) {
        total = cut(static_cast<double>(total) + static_cast<double>(value(all[a_register][a], part)) *
                                                     static_cast<double>(value(all[b_register][b], part)));
      }
    }
  }
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
  return emulator::from_bits<T>(emulator::block().gather(emulator::bits_of(value))[static_cast<size_t>(lane)]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int other) {
  return __shfl_sync(mask, value, threadIdx.x % 32 ^ other);
}
inline unsigned __ballot_sync(unsigned, bool value) {
  const auto all = emulator::block().gather(value);
  unsigned result = 0;
  for (size_t lane = 0; lane < 32; ++lane) result |= static_cast<unsigned>(all[lane]) << lane;
  return result;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __float_as_int(float value) { return emulator::from_bits<int>(emulator::bits_of(value)); }
inline float __int_as_float(int bits) { return emulator::from_bits<float>(emulator::bits_of(bits)); }
inline double __longlong_as_double(long long bits) { return emulator::from_bits<double>(emulator::bits_of(bits)); }
inline int atomicMax(int* at, int value) {
  const int before = *at;
  *at = std::max(before, value);
  return before;
}
inline int atomicAdd(int* at, int value) {
  const int before = *at;
  *at += value;
  return before;
}
inline float emulated_float16_value(unsigned short bits) { return c10::Half(bits, c10::Half::from_bits()); }
inline unsigned short emulated_float16_bits(float value) { return c10::Half(value).x; }
template <int terms>
void emulated_tensor_product(float (&sum)[4], const unsigned (&left)[4], const unsigned (&right)[2]) {
  emulator::tensor_product<terms>(sum, left, right);
}
