// The loops over a row's entries that decide the speed on a CPU, in float64 whatever the rows are: sums of squares, the
// squared distance of two rows, and weighted sums of rows. On x86 compiled for SSE2, AVX2 and AVX-512, elsewhere plain.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

namespace mma::detail::pairs {

/// factor * row
template <typename T>
struct WeightedRow {
  const T* row;
  double factor;
};

// Each body is inlined into a plain function, one for AVX2 and one for AVX-512: the same operations in the same order,
// whatever the width of a register; width 1 is plain C++.
namespace loops {

constexpr int64_t sums = 16;     // side by side in a sum over a row: they hide the latency of an addition
constexpr int64_t outputs = 32;  // of a weighted sum that are made at a time

/// `width` numbers in a register.
template <typename T, int64_t width>
struct Packed {
#if defined(__x86_64__)
  using Type __attribute__((vector_size(static_cast<size_t>(width) * sizeof(T)))) = T;
#endif
};
template <typename T>
struct Packed<T, 1> {
  using Type = T;
};
template <int64_t width>
using Doubles = typename Packed<double, width>::Type;

/// Zero, but the compiler does not know: what keep_rounded needs.
inline int64_t hidden_zero() {
#if defined(__GNUC__)
  int64_t zero = 0;
  asm("" : "+r"(zero));
#else
  volatile int64_t zero = 0;
#endif
  return zero;
}

/// Keeps a product rounded: fused with a subtraction (as -march=native and -Ofast do), a - b would depend on which of
/// the two rows comes first.
template <int64_t width>
[[gnu::always_inline]] inline void keep_rounded(Doubles<width>& product, int64_t zero) {
  typename Packed<int64_t, width>::Type bits;
  std::memcpy(&bits, &product, sizeof bits);
  bits ^= zero;
  std::memcpy(&product, &bits, sizeof bits);
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline void load(const T* from, Doubles<width>& to) {
  if constexpr (width == 1) {
    to = static_cast<double>(*from);
  } else {
    typename Packed<T, width>::Type packed;
    std::memcpy(&packed, from, sizeof packed);
    to = __builtin_convertvector(packed, Doubles<width>);
  }
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline void store(const Doubles<width>& from, bool add, T* to) {
  if constexpr (width == 1) {
    *to = (add ? *to : T{0}) + static_cast<T>(from);
  } else {
    auto packed = __builtin_convertvector(from, typename Packed<T, width>::Type);
    if (add) {
      typename Packed<T, width>::Type before;
      std::memcpy(&before, to, sizeof before);
      packed += before;
    }
    std::memcpy(to, &packed, sizeof packed);
  }
}

/// `sums` numbers.
template <int64_t width>
using Sums = std::array<Doubles<width>, static_cast<size_t>(sums / width)>;

/// Of `sums` numbers: the halves are added until one is left.
template <int64_t width>
[[gnu::always_inline]] inline double total(const Sums<width>& parts) {
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
  Sums<width> parts{};
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
  const int64_t zero = hidden_zero();
  Sums<width> parts{};
  int64_t k = 0;
  for (; k + sums <= count; k += sums) {
#pragma GCC unroll 16
    for (size_t p = 0; p < parts.size(); ++p) {
      const int64_t place = k + static_cast<int64_t>(p) * width;
      Doubles<width> a, b;
      load<width>(first.row + place, a);
      load<width>(second.row + place, b);
      a *= first.factor;
      b *= second.factor;
      keep_rounded<width>(a, zero);
      keep_rounded<width>(b, zero);
      const Doubles<width> difference = a - b;
      parts[p] += difference * difference;
    }
  }
  double rest = 0;
  const T* other = second.row + k;
  for (const T value : std::span(first.row + k, first.row + count)) {
    double a = static_cast<double>(value) * first.factor, b = static_cast<double>(*other++) * second.factor;
    keep_rounded<1>(a, zero);
    keep_rounded<1>(b, zero);
    rest += (a - b) * (a - b);
  }
  return total<width>(parts) + rest;
}

template <int64_t width, typename T>
[[gnu::always_inline]] inline void weighted_sum_body(std::span<const WeightedRow<T>> terms, int64_t count, bool add,
                                                     T* out) {
  int64_t k = 0;
  for (; k + outputs <= count; k += outputs) {
    std::array<Doubles<width>, static_cast<size_t>(outputs / width)> parts{};
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

#if defined(__x86_64__)
constexpr int64_t narrowest = 2;  // SSE2
#else
constexpr int64_t narrowest = 1;
#endif

}  // namespace loops

/// sum_k (factor row[k])^2
template <typename T>
double square_sum(const T* row, double factor, int64_t count) {
#if defined(__x86_64__)
  switch (loops::registers()) {
    case loops::Registers::Avx512:
      return loops::square_sum_avx512(row, factor, count);
    case loops::Registers::Avx2:
      return loops::square_sum_avx2(row, factor, count);
    default:
      break;
  }
#endif
  return loops::square_sum_body<loops::narrowest>(row, factor, count);
}

/// |a - b|^2
template <typename T>
double square_distance(const WeightedRow<T>& first, const WeightedRow<T>& second, int64_t count) {
#if defined(__x86_64__)
  switch (loops::registers()) {
    case loops::Registers::Avx512:
      return loops::square_distance_avx512(first, second, count);
    case loops::Registers::Avx2:
      return loops::square_distance_avx2(first, second, count);
    default:
      break;
  }
#endif
  return loops::square_distance_body<loops::narrowest>(first, second, count);
}

/// out = sum of the terms, rounded once; with `add` out += that.
template <typename T>
void weighted_sum(std::span<const WeightedRow<T>> terms, int64_t count, bool add, T* out) {
#if defined(__x86_64__)
  switch (loops::registers()) {
    case loops::Registers::Avx512:
      loops::weighted_sum_avx512(terms, count, add, out);
      return;
    case loops::Registers::Avx2:
      loops::weighted_sum_avx2(terms, count, add, out);
      return;
    default:
      break;
  }
#endif
  loops::weighted_sum_body<loops::narrowest>(terms, count, add, out);
}

}  // namespace mma::detail::pairs
