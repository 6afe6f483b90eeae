// The loops over a row's entries that decide the speed on a CPU, in float64 whatever the rows are: sums of squares, the
// lengths |a - b| and |a + b| of two rows, and weighted sums of rows. On x86 compiled a second time for AVX2.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace mma::detail {

/// |a - b|^2 and |a + b|^2.
struct PairSquares {
  double difference, sum;
};

/// factor * row
template <typename T>
struct WeightedRow {
  const T* row;
  double factor;
};

// Each body is inlined into a plain function and one for AVX2: the same operations in the same order, so the same bits.
// FMA is left out, which would make a - b depend on which of the two rows comes first.
namespace cpu_loops {

constexpr int64_t width = 4;  // what AVX2 has registers for; two sums at a time hide the latency of an addition
typedef double Doubles __attribute__((vector_size(width * sizeof(double))));

template <typename T>
struct Packed {
  typedef T Type __attribute__((vector_size(width * sizeof(T))));
};

template <typename T>
[[gnu::always_inline]] inline void load(const T* from, Doubles& to) {
  typename Packed<T>::Type packed;
  std::memcpy(&packed, from, sizeof packed);
  to = __builtin_convertvector(packed, Doubles);
}

template <typename T>
[[gnu::always_inline]] inline void store(const Doubles& from, bool add, T* to) {
  auto packed = __builtin_convertvector(from, typename Packed<T>::Type);
  if (add) {
    typename Packed<T>::Type before;
    std::memcpy(&before, to, sizeof before);
    packed += before;
  }
  std::memcpy(to, &packed, sizeof packed);
}

[[gnu::always_inline]] inline double total(const Doubles& s) { return (s[0] + s[2]) + (s[1] + s[3]); }

template <typename T>
[[gnu::always_inline]] inline double square_sum_body(const T* row, double factor, int64_t count) {
  Doubles sums{}, more_sums{}, x, y;
  int64_t k = 0;
  for (; k + 2 * width <= count; k += 2 * width) {
    load(row + k, x);
    load(row + k + width, y);
    x *= factor;
    y *= factor;
    sums += x * x;
    more_sums += y * y;
  }
  double rest = 0;
  for (const T value : std::span(row + k, row + count)) {
    const double scaled = static_cast<double>(value) * factor;
    rest += scaled * scaled;
  }
  return total(sums + more_sums) + rest;
}

template <typename T>
[[gnu::always_inline]] inline PairSquares pair_squares_body(const WeightedRow<T>& first, const WeightedRow<T>& second,
                                                            int64_t count) {
  Doubles differences{}, sums{}, a, b;
  int64_t k = 0;
  for (; k + width <= count; k += width) {
    load(first.row + k, a);
    load(second.row + k, b);
    a *= first.factor;
    b *= second.factor;
    const Doubles difference = a - b, sum = a + b;
    differences += difference * difference;
    sums += sum * sum;
  }
  PairSquares rest{0, 0};
  const T* other = second.row + k;
  for (const T value : std::span(first.row + k, first.row + count)) {
    const double x = static_cast<double>(value) * first.factor;
    const double y = static_cast<double>(*other++) * second.factor;
    rest.difference += (x - y) * (x - y);
    rest.sum += (x + y) * (x + y);
  }
  return {total(differences) + rest.difference, total(sums) + rest.sum};
}

template <typename T>
[[gnu::always_inline]] inline void weighted_sum_body(std::span<const WeightedRow<T>> terms, int64_t count, bool add,
                                                     T* out) {
  int64_t k = 0;
  for (; k + 2 * width <= count; k += 2 * width) {
    Doubles sum{}, more_sum{}, x, y;
    for (const WeightedRow<T>& term : terms) {
      load(term.row + k, x);
      load(term.row + k + width, y);
      sum += x * term.factor;
      more_sum += y * term.factor;
    }
    store(sum, add, out + k);
    store(more_sum, add, out + k + width);
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
inline bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}

template <typename T>
[[gnu::target("avx2")]] double square_sum_avx2(const T* row, double factor, int64_t count) {
  return square_sum_body(row, factor, count);
}

template <typename T>
[[gnu::target("avx2")]] PairSquares pair_squares_avx2(const WeightedRow<T>& first, const WeightedRow<T>& second,
                                                      int64_t count) {
  return pair_squares_body(first, second, count);
}

template <typename T>
[[gnu::target("avx2")]] void weighted_sum_avx2(std::span<const WeightedRow<T>> terms, int64_t count, bool add, T* out) {
  weighted_sum_body(terms, count, add, out);
}
#endif

}  // namespace cpu_loops

/// sum_k (factor row[k])^2
template <typename T>
double square_sum(const T* row, double factor, int64_t count) {
#if defined(__x86_64__)
  if (cpu_loops::has_avx2()) {
    return cpu_loops::square_sum_avx2(row, factor, count);
  }
#endif
  return cpu_loops::square_sum_body(row, factor, count);
}

template <typename T>
PairSquares pair_squares(const WeightedRow<T>& first, const WeightedRow<T>& second, int64_t count) {
#if defined(__x86_64__)
  if (cpu_loops::has_avx2()) {
    return cpu_loops::pair_squares_avx2(first, second, count);
  }
#endif
  return cpu_loops::pair_squares_body(first, second, count);
}

/// out = sum of the terms, rounded once; with `add` out += that.
template <typename T>
void weighted_sum(std::span<const WeightedRow<T>> terms, int64_t count, bool add, T* out) {
#if defined(__x86_64__)
  if (cpu_loops::has_avx2()) {
    cpu_loops::weighted_sum_avx2(terms, count, add, out);
    return;
  }
#endif
  cpu_loops::weighted_sum_body(terms, count, add, out);
}

}  // namespace mma::detail
