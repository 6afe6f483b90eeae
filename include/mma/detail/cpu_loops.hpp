// The loops over a row's entries that decide the speed on a CPU, in float64 whatever the rows are: sums of squares, the
// squared distance of two rows, and weighted sums of rows. On x86 compiled again for AVX2 and for AVX-512.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace mma::detail {

/// factor * row
template <typename T>
struct WeightedRow {
  const T* row;
  double factor;
};

// Each body is inlined into a plain function, one for AVX2 and one for AVX-512: the same operations in the same order,
// so the same bits, whatever the width of a register. FMA is left out, which would make a - b depend on which of the
// two rows comes first.
namespace cpu_loops {

constexpr int64_t sums = 16;     // side by side in a sum over a row: they hide the latency of an addition
constexpr int64_t outputs = 32;  // of a weighted sum that are made at a time

template <typename T, int64_t width>
struct Packed {
  typedef T Type __attribute__((vector_size(width * sizeof(T))));
};
template <int64_t width>
using Doubles = typename Packed<double, width>::Type;

template <int64_t width, typename T>
[[gnu::always_inline]] inline void load(const T* from, Doubles<width>& to) {
  typename Packed<T, width>::Type packed;
  std::memcpy(&packed, from, sizeof packed);
  to = __builtin_convertvector(packed, Doubles<width>);
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline void store(const Doubles<width>& from, bool add, T* to) {
  auto packed = __builtin_convertvector(from, typename Packed<T, width>::Type);
  if (add) {
    typename Packed<T, width>::Type before;
    std::memcpy(&before, to, sizeof before);
    packed += before;
  }
  std::memcpy(to, &packed, sizeof packed);
}

/// Of `sums` numbers: the halves are added until one is left.
template <int64_t width>
[[gnu::always_inline]] inline double total(const std::array<Doubles<width>, sums / width>& parts) {
  std::array<double, sums> numbers;
  std::memcpy(numbers.data(), parts.data(), sizeof numbers);
  for (int64_t half = sums / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) {
      numbers[static_cast<size_t>(k)] += numbers[static_cast<size_t>(k + half)];
    }
  }
  return numbers[0];
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline double square_sum_body(const T* row, double factor, int64_t count) {
  std::array<Doubles<width>, sums / width> parts{};
  int64_t k = 0;
  for (; k + sums <= count; k += sums) {
#pragma GCC unroll 16
    for (size_t p = 0; p < parts.size(); ++p) {
      Doubles<width> x;
      load<width>(row + k + static_cast<int64_t>(p) * width, x);
      x *= factor;
      parts[p] += x * x;
    }
  }
  double rest = 0;
  for (const T value : std::span(row + k, row + count)) {
    const double scaled = static_cast<double>(value) * factor;
    rest += scaled * scaled;
  }
  return total<width>(parts) + rest;
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline double square_distance_body(const WeightedRow<T>& first, const WeightedRow<T>& second,
                                                          int64_t count) {
  std::array<Doubles<width>, sums / width> parts{};
  int64_t k = 0;
  for (; k + sums <= count; k += sums) {
#pragma GCC unroll 16
    for (size_t p = 0; p < parts.size(); ++p) {
      const int64_t place = k + static_cast<int64_t>(p) * width;
      Doubles<width> a, b;
      load<width>(first.row + place, a);
      load<width>(second.row + place, b);
      const Doubles<width> difference = a * first.factor - b * second.factor;
      parts[p] += difference * difference;
    }
  }
  double rest = 0;
  const T* other = second.row + k;
  for (const T value : std::span(first.row + k, first.row + count)) {
    const double difference = static_cast<double>(value) * first.factor - static_cast<double>(*other++) * second.factor;
    rest += difference * difference;
  }
  return total<width>(parts) + rest;
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline void weighted_sum_body(std::span<const WeightedRow<T>> terms, int64_t count, bool add,
                                                     T* out) {
  int64_t k = 0;
  for (; k + outputs <= count; k += outputs) {
    std::array<Doubles<width>, outputs / width> parts{};
    for (const WeightedRow<T>& term : terms) {
#pragma GCC unroll 16
      for (size_t p = 0; p < parts.size(); ++p) {
        Doubles<width> x;
        load<width>(term.row + k + static_cast<int64_t>(p) * width, x);
        parts[p] += x * term.factor;
      }
    }
#pragma GCC unroll 16
    for (size_t p = 0; p < parts.size(); ++p) {
      store<width>(parts[p], add, out + k + static_cast<int64_t>(p) * width);
    }
  }
  for (T& value : std::span(out + k, out + count)) {
    double sum = 0;
    for (const WeightedRow<T>& term : terms) {
      sum += static_cast<double>(term.row[k]) * term.factor;
    }
    value = (add ? value : T{0}) + static_cast<T>(sum);
    ++k;
  }
}

#if defined(__x86_64__)
enum class Registers { Plain, Avx2, Avx512 };

inline Registers registers() {
  static const Registers have = __builtin_cpu_supports("avx512f") ? Registers::Avx512
                                : __builtin_cpu_supports("avx2")  ? Registers::Avx2
                                                                  : Registers::Plain;
  return have;
}

template <typename T>
[[gnu::target("avx2")]] double square_sum_avx2(const T* row, double factor, int64_t count) {
  return square_sum_body<4>(row, factor, count);
}
template <typename T>
[[gnu::target("avx512f")]] double square_sum_avx512(const T* row, double factor, int64_t count) {
  return square_sum_body<8>(row, factor, count);
}

template <typename T>
[[gnu::target("avx2")]] double square_distance_avx2(const WeightedRow<T>& first, const WeightedRow<T>& second,
                                                    int64_t count) {
  return square_distance_body<4>(first, second, count);
}
template <typename T>
[[gnu::target("avx512f")]] double square_distance_avx512(const WeightedRow<T>& first, const WeightedRow<T>& second,
                                                         int64_t count) {
  return square_distance_body<8>(first, second, count);
}

template <typename T>
[[gnu::target("avx2")]] void weighted_sum_avx2(std::span<const WeightedRow<T>> terms, int64_t count, bool add, T* out) {
  weighted_sum_body<4>(terms, count, add, out);
}
template <typename T>
[[gnu::target("avx512f")]] void weighted_sum_avx512(std::span<const WeightedRow<T>> terms, int64_t count, bool add,
                                                    T* out) {
  weighted_sum_body<8>(terms, count, add, out);
}
#endif

}  // namespace cpu_loops

/// sum_k (factor row[k])^2
template <typename T>
double square_sum(const T* row, double factor, int64_t count) {
#if defined(__x86_64__)
  switch (cpu_loops::registers()) {
    case cpu_loops::Registers::Avx512:
      return cpu_loops::square_sum_avx512(row, factor, count);
    case cpu_loops::Registers::Avx2:
      return cpu_loops::square_sum_avx2(row, factor, count);
    default:
      break;
  }
#endif
  return cpu_loops::square_sum_body<2>(row, factor, count);
}

/// |a - b|^2
template <typename T>
double square_distance(const WeightedRow<T>& first, const WeightedRow<T>& second, int64_t count) {
#if defined(__x86_64__)
  switch (cpu_loops::registers()) {
    case cpu_loops::Registers::Avx512:
      return cpu_loops::square_distance_avx512(first, second, count);
    case cpu_loops::Registers::Avx2:
      return cpu_loops::square_distance_avx2(first, second, count);
    default:
      break;
  }
#endif
  return cpu_loops::square_distance_body<2>(first, second, count);
}

/// out = sum of the terms, rounded once; with `add` out += that.
template <typename T>
void weighted_sum(std::span<const WeightedRow<T>> terms, int64_t count, bool add, T* out) {
#if defined(__x86_64__)
  switch (cpu_loops::registers()) {
    case cpu_loops::Registers::Avx512:
      cpu_loops::weighted_sum_avx512(terms, count, add, out);
      return;
    case cpu_loops::Registers::Avx2:
      cpu_loops::weighted_sum_avx2(terms, count, add, out);
      return;
    default:
      break;
  }
#endif
  cpu_loops::weighted_sum_body<2>(terms, count, add, out);
}

}  // namespace mma::detail
