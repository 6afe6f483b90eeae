// Random numbers of an objective's own: each draw from a generator made of a seed and the number of the draw, so that
// the program's generators are untouched and the whole state is one number.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <map>
#include <string>

namespace mma {

/// Number `index`, from 0, of the SplitMix64 generator (Steele, Lea, Flood 2014) that begins with this seed.
/// Neighbouring seeds and indices give unrelated numbers, so that they make good seeds themselves.
inline uint64_t splitmix64(uint64_t seed, uint64_t index = 0) {
  uint64_t mixed = seed + 0x9e3779b97f4a7c15U * (index + 1);
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
  return mixed ^ (mixed >> 31);
}

/// Random numbers of an objective's own. The program's generators are neither read nor moved, and the same seed and
/// number of draws give the same numbers.
struct RandomDraws {
  uint64_t seed = 1;  ///< another one, other numbers
  int64_t draws = 0;  ///< made so far

  /// `count` of n rows for each of `batch` matrices, ascending, [batch, count] int64 on the CPU.
  at::Tensor rows(int64_t batch, int64_t n, int64_t count) {
    const at::Generator generator = next();
    at::Tensor result = at::empty({batch, count}, at::TensorOptions(at::kLong));
    for (int64_t b = 0; b < batch; ++b) {
      const at::Tensor order = at::randperm(n, generator, at::TensorOptions(at::kLong));
      result.select(0, b).copy_(std::get<0>(order.narrow(0, 0, count).sort()));
    }
    return result;
  }

  /// Standard normal numbers, float64 on the CPU.
  at::Tensor normal(at::IntArrayRef sizes) { return at::randn(sizes, next(), at::TensorOptions(at::kDouble)); }

  /// {"draws": how many were made}, for a checkpoint.
  std::map<std::string, at::Tensor> state() const { return {{"draws", at::scalar_tensor(draws, at::kLong)}}; }

  /// Goes on after the draws of state(). Throws c10::Error for a state without "draws".
  void load_state(const std::map<std::string, at::Tensor>& state) {
    const auto found = state.find("draws");
    TORCH_CHECK(found != state.end() && found->second.numel() == 1,
                "mma: the objective's state has no 'draws'; expected what its state() returned.");
    draws = found->second.item<int64_t>();
  }

 private:
  at::Generator next() {
    return at::make_generator<at::CPUGeneratorImpl>(splitmix64(seed, static_cast<uint64_t>(draws++)));
  }
};

}  // namespace mma
