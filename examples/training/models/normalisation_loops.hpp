// The loops of normalisation_passes.cpp over pictures with channels last, [pixels, channels] in memory. On x86 compiled
// for SSE2 and for AVX2 (AVX-512 was no faster: memory is what they wait for), elsewhere plain; the same sums in the
// same order by any number of threads.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>

namespace mma::examples::normalisation {

constexpr int64_t rows_at_once = 4;

/// How [pixels, channels] is gone over. Of few channels several pixels side by side are one row, so that they fill the
/// registers; rows are taken `rows_at_once`, chunks of rows are what threads share and what is summed up in float32.
/// Where the pictures are the first channels of wider ones, `stride` is how many channels those have.
struct Layout {
  Layout(int64_t pixel_count, int64_t channel_count) : Layout(pixel_count, channel_count, channel_count) {}
  Layout(int64_t pixel_count, int64_t channel_count, int64_t pixel_stride)
      : pixels(pixel_count), channels(channel_count), stride(pixel_stride) {
    constexpr int64_t register_width = 16, wide = 128, too_wide = 1024, chunk_entries = 32768, chunk_pixels = 256;
    side_by_side = register_width / std::gcd(channels, register_width);
    if (side_by_side * channels < wide) side_by_side *= wide / (side_by_side * channels);
    if (side_by_side * channels > too_wide || stride != channels) side_by_side = 1;
    width = side_by_side * channels;
    const int64_t unit = rows_at_once * side_by_side;
    chunk = std::max(unit, std::max(chunk_pixels, chunk_entries / channels) / unit * unit);
  }

  int64_t chunks() const { return (pixels + chunk - 1) / chunk; }

  int64_t pixels, channels, stride;
  int64_t side_by_side, width;  ///< pixels and entries of a row
  int64_t chunk;                ///< in pixels
};

/// The pixels of a chunk.
struct Range {
  int64_t first, last;
};
inline Range chunk_of(const Layout& layout, int64_t index) {
  return {index * layout.chunk, std::min((index + 1) * layout.chunk, layout.pixels)};
}

/// Asks for what will be read of rows that are `ahead` of these: what a training reads backward has long left the
/// cache.
[[gnu::always_inline]] inline void ask_for_rows(const float* rows, int64_t entries) {
  constexpr int64_t ahead = 2048, line = 16;  // floats
  for (int64_t k = 0; k < entries; k += line) __builtin_prefetch(rows + ahead + k);
}

/// The same of what will be written: memory given out anew has mostly left the cache too, and is read before it is
/// written.
[[gnu::always_inline]] inline void ask_to_write(const float* rows, int64_t entries) {
  constexpr int64_t ahead = 2048, line = 16;  // floats
  for (int64_t k = 0; k < entries; k += line) __builtin_prefetch(rows + ahead + k, 1);
}

/// The same of a pixel's first channels where pixels lie `stride` apart.
[[gnu::always_inline]] inline void ask_for_pixel(const float* pixel, int64_t stride, int64_t channels) {
  constexpr int64_t ahead = 2048, line = 16;  // floats
  const float* later = pixel + (ahead / stride + 1) * stride;
  for (int64_t k = 0; k < channels; k += line) __builtin_prefetch(later + k);
}

/// Where a layout's rows begin in the pictures; several at once are never apart.
template <int64_t rows>
[[gnu::always_inline]] inline int64_t place_of(const Layout& layout, int64_t pixel) {
  return pixel * (rows > 1 ? layout.channels : layout.stride);
}

/// Asks for what comes after them.
template <int64_t rows>
[[gnu::always_inline]] inline void ask_for(const Layout& layout, const float* first, int64_t width) {
  if (rows > 1 || layout.stride == layout.channels) return ask_for_rows(first, rows * width);
  ask_for_pixel(first, layout.stride, width);
}

/// step(how many rows: a constant, the first pixel, the width of a row) until the range is done.
template <typename Step>
[[gnu::always_inline]] inline void in_rows(const Layout& layout, Range range, const Step& step) {
  int64_t pixel = range.first;
  const int64_t at_once = rows_at_once * layout.side_by_side;
  const int64_t last = layout.stride == layout.channels ? range.last : 0;  // rows that lie apart come one by one
  for (; pixel + at_once <= last; pixel += at_once) {
    step(std::integral_constant<int64_t, rows_at_once>(), pixel, layout.width);
  }
  for (; pixel < range.last; pixel += layout.side_by_side) {
    const int64_t side_by_side = std::min(layout.side_by_side, range.last - pixel);
    step(std::integral_constant<int64_t, 1>(), pixel, side_by_side * layout.channels);
  }
}

/// sum += x - pivot, squares += (x - pivot)^2
template <int64_t rows>
[[gnu::always_inline]] inline void add_moments(const float* __restrict x, const float* __restrict pivot, int64_t width,
                                               float* __restrict sum, float* __restrict squares) {
  for (int64_t j = 0; j < width; ++j) {
    float deviations = 0, products = 0;
#pragma GCC unroll 4
    for (int64_t row = 0; row < rows; ++row) {
      const float deviation = x[row * width + j] - pivot[j];
      deviations += deviation;
      products += deviation * deviation;
    }
    sum[j] += deviations;
    squares[j] += products;
  }
}

/// out = relu((x - mean) * scale + shift + shortcut), with relu and shortcut where they are wanted. NaN stays NaN.
template <int64_t rows, bool relu, bool add>
[[gnu::always_inline]] inline void normalise(const float* __restrict x, const float* __restrict shortcut,
                                             const float* __restrict mean, const float* __restrict scale,
                                             const float* __restrict shift, int64_t width, float* __restrict out) {
  for (int64_t j = 0; j < width; ++j) {
#pragma GCC unroll 4
    for (int64_t row = 0; row < rows; ++row) {
      float value = (x[row * width + j] - mean[j]) * scale[j] + shift[j];
      if constexpr (add) value += shortcut[row * width + j];
      if constexpr (relu) value = value < 0 ? 0 : value;
      out[row * width + j] = value;
    }
  }
}

/// The number or 0, without a branch, which would keep the compiler from whole registers.
[[gnu::always_inline]] inline float where(bool condition, float number) {
  return std::bit_cast<float>(std::bit_cast<int32_t>(number) & -static_cast<int32_t>(condition));
}

/// What a relu lets through of whole groups of rows, a bit each, which backward reads in place of the result: a
/// thirty-second of it, and what backward reads comes from memory. A lane's word has the bits of its columns, row by
/// row. A group's words begin at its first entry / entries_a_word, which leaves room where the width of a row is no
/// multiple of the columns of the lanes' words.
using Floats [[gnu::vector_size(32)]] = float;
using Condition [[gnu::vector_size(32)]] = int32_t;  ///< all bits or none
using Words [[gnu::vector_size(32)]] = uint32_t;
constexpr int64_t lanes = 8, marked_columns = lanes * (32 / rows_at_once), entries_a_word = 16;

inline bool can_be_marked(const Layout& layout) {
  return layout.stride == layout.channels && layout.width % entries_a_word == 0;
}

// By reference: a register as an argument or result would be one of the ABI, which not all processors have.
template <typename Vector, typename Number>
[[gnu::always_inline]] inline void load(Vector& vector, const Number* numbers) {
  std::memcpy(&vector, numbers, sizeof vector);
}
template <typename Vector, typename Number>
[[gnu::always_inline]] inline void store(const Vector& vector, Number* numbers) {
  std::memcpy(numbers, &vector, sizeof vector);
}
/// Others become 0.
[[gnu::always_inline]] inline void keep_where(const Condition& condition, Floats& numbers) {
  numbers = reinterpret_cast<Floats>(reinterpret_cast<Condition>(numbers) & condition);
}

/// As normalise with relu and shortcut, of a group of rows; `active` becomes what the relu lets through.
[[gnu::always_inline]] inline void normalise_and_mark(const float* __restrict x, const float* __restrict shortcut,
                                                      const float* __restrict mean, const float* __restrict scale,
                                                      const float* __restrict shift, int64_t width,
                                                      float* __restrict out, uint32_t* __restrict active) {
  for (int64_t first = 0; first < width; first += marked_columns, active += lanes) {
    const int64_t last = std::min(first + marked_columns, width);
    Words marks = {}, bit = Words{} + 1;
    for (int64_t j = first; j < last; j += lanes) {
      Floats means, scales, shifts, value, summand;
      load(means, mean + j);
      load(scales, scale + j);
      load(shifts, shift + j);
#pragma GCC unroll 4
      for (int64_t at = j; at < j + rows_at_once * width; at += width, bit += bit) {
        load(value, x + at);
        load(summand, shortcut + at);
        value = (value - means) * scales + shifts + summand;
        const Condition through = ~(value <= 0);
        keep_where(through, value);
        store(value, out + at);
        marks |= reinterpret_cast<Words>(through) & bit;
      }
    }
    store(marks, active);
  }
}

/// Whether the relu of a value lets a gradient through.
[[gnu::always_inline]] inline bool is_active(float value) { return !(value <= 0); }

/// sum += gradient, products += gradient * (x - mean), where gradient is what the relu lets through.
template <int64_t rows, bool relu>
[[gnu::always_inline]] inline void add_gradients(const float* __restrict x, const float* __restrict gradient,
                                                 const float* __restrict mean, const float* __restrict scale,
                                                 const float* __restrict shift, int64_t width, float* __restrict sum,
                                                 float* __restrict products) {
  for (int64_t j = 0; j < width; ++j) {
    float gradients = 0, of_deviations = 0;
#pragma GCC unroll 4
    for (int64_t row = 0; row < rows; ++row) {
      const float deviation = x[row * width + j] - mean[j];
      const float slope = gradient[row * width + j], product = slope * deviation;
      const bool active = !relu || is_active(deviation * scale[j] + shift[j]);
      gradients += where(active, slope);
      of_deviations += where(active, product);
    }
    sum[j] += gradients;
    products[j] += of_deviations;
  }
}

/// The same where the relu's result tells what it lets through. The gradient becomes that, which is the shortcut's too.
template <int64_t rows>
[[gnu::always_inline]] inline void add_gradients_of_sum(const float* __restrict x, const float* __restrict result,
                                                        const float* __restrict mean, int64_t width,
                                                        float* __restrict gradient, float* __restrict sum,
                                                        float* __restrict products) {
  for (int64_t j = 0; j < width; ++j) {
    float gradients = 0, of_deviations = 0;
#pragma GCC unroll 4
    for (int64_t row = 0; row < rows; ++row) {
      const float deviation = x[row * width + j] - mean[j];
      const float slope = gradient[row * width + j], product = slope * deviation;
      const bool active = is_active(result[row * width + j]);
      gradient[row * width + j] = where(active, slope);
      gradients += where(active, slope);
      of_deviations += where(active, product);
    }
    sum[j] += gradients;
    products[j] += of_deviations;
  }
}

/// The same of a group of rows by what normalise_and_mark kept.
[[gnu::always_inline]] inline void add_marked_gradients(const float* __restrict x, const uint32_t* __restrict active,
                                                        const float* __restrict mean, int64_t width,
                                                        float* __restrict gradient, float* __restrict sum,
                                                        float* __restrict products) {
  for (int64_t first = 0; first < width; first += marked_columns, active += lanes) {
    const int64_t last = std::min(first + marked_columns, width);
    Words marks, bit = Words{} + 1;
    load(marks, active);
    for (int64_t j = first; j < last; j += lanes) {
      Floats means, slope, product, total, gradients = {}, of_deviations = {};
      load(means, mean + j);
#pragma GCC unroll 4
      for (int64_t at = j; at < j + rows_at_once * width; at += width, bit += bit) {
        load(slope, gradient + at);
        load(product, x + at);
        product = slope * (product - means);
        const Condition through = (marks & bit) != 0;
        keep_where(through, slope);
        keep_where(through, product);
        store(slope, gradient + at);
        gradients += slope;
        of_deviations += product;
      }
      load(total, sum + j);
      store(total + gradients, sum + j);
      load(total, products + j);
      store(total + of_deviations, products + j);
    }
  }
}

/// Where the gradient of x goes: over the gradient that came, elsewhere, or it is added to what is there.
enum class Target { InPlace, Fresh, Added };

/// out = the gradient of x; in place, of what is in out.
template <int64_t rows, bool relu, Target target>
[[gnu::always_inline]] inline void gradient_of_input(const float* __restrict x, const float* __restrict gradient,
                                                     const float* __restrict mean, const float* __restrict scale,
                                                     const float* __restrict shift, const float* __restrict of_gradient,
                                                     const float* __restrict of_deviation,
                                                     const float* __restrict constant, int64_t width,
                                                     float* __restrict out) {
  for (int64_t j = 0; j < width; ++j) {
#pragma GCC unroll 4
    for (int64_t row = 0; row < rows; ++row) {
      const float deviation = x[row * width + j] - mean[j];
      float slope = of_gradient[j] * (target == Target::InPlace ? out : gradient)[row * width + j];
      if constexpr (relu) slope = where(is_active(deviation * scale[j] + shift[j]), slope);
      slope += of_deviation[j] * deviation + constant[j];
      if constexpr (target == Target::Added) slope += out[row * width + j];
      out[row * width + j] = slope;
    }
  }
}

/// Up to 2 x 2 pixels of a picture: where the channels of each begin.
template <size_t taps>
using Window = std::array<int64_t, taps>;

/// out = relu of the largest normalised value
template <size_t taps>
[[gnu::always_inline]] inline void pool(const float* __restrict x, const Window<taps>& at, const float* __restrict mean,
                                        const float* __restrict scale, const float* __restrict shift, int64_t channels,
                                        float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    float largest = (x[at[0] + c] - mean[c]) * scale[c] + shift[c];
#pragma GCC unroll 4
    for (size_t tap = 1; tap < taps; ++tap) {
      const float value = (x[at[tap] + c] - mean[c]) * scale[c] + shift[c];
      largest = value > largest ? value : largest;
    }
    out[c] = largest < 0 ? 0 : largest;
  }
}

/// As add_gradients, where the gradient is of the window's first largest value alone.
template <size_t taps>
[[gnu::always_inline]] inline void add_pooled_gradients(const float* __restrict x, const Window<taps>& at,
                                                        const float* __restrict gradient, const float* __restrict mean,
                                                        const float* __restrict scale, const float* __restrict shift,
                                                        int64_t channels, float* __restrict sum,
                                                        float* __restrict products) {
  for (int64_t c = 0; c < channels; ++c) {
    float deviation_of_largest = x[at[0] + c] - mean[c];
    float largest = deviation_of_largest * scale[c] + shift[c];
#pragma GCC unroll 4
    for (size_t tap = 1; tap < taps; ++tap) {
      const float deviation = x[at[tap] + c] - mean[c];
      const float value = deviation * scale[c] + shift[c];
      deviation_of_largest = value > largest ? deviation : deviation_of_largest;
      largest = value > largest ? value : largest;
    }
    const float slope = gradient[c], product = slope * deviation_of_largest;
    sum[c] += where(is_active(largest), slope);
    products[c] += where(is_active(largest), product);
  }
}

/// As gradient_of_input; `gradient` is null for pixels that no window has.
template <size_t taps>
[[gnu::always_inline]] inline void gradient_of_pooled(
    const float* __restrict x, const Window<taps>& at, const float* __restrict gradient, const float* __restrict mean,
    const float* __restrict scale, const float* __restrict shift, const float* __restrict of_gradient,
    const float* __restrict of_deviation, const float* __restrict constant, int64_t channels, float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    std::array<float, taps> deviations;
    deviations[0] = x[at[0] + c] - mean[c];
    float largest = deviations[0] * scale[c] + shift[c];
    int32_t winner = 0;
#pragma GCC unroll 4
    for (size_t tap = 1; tap < taps; ++tap) {
      deviations[tap] = x[at[tap] + c] - mean[c];
      const float value = deviations[tap] * scale[c] + shift[c];
      winner += (static_cast<int32_t>(tap) - winner) * static_cast<int32_t>(value > largest);
      largest = value > largest ? value : largest;
    }
    const float slope = where(is_active(largest), gradient[c] * of_gradient[c]);
#pragma GCC unroll 4
    for (size_t tap = 0; tap < taps; ++tap) {
      const float rest = of_deviation[c] * deviations[tap] + constant[c];
      out[at[tap] + c] = where(winner == static_cast<int32_t>(tap), slope) + rest;
    }
  }
}

/// out = the mean of the window's relus
template <size_t taps>
[[gnu::always_inline]] inline void average(const float* __restrict x, const Window<taps>& at,
                                           const float* __restrict mean, const float* __restrict scale,
                                           const float* __restrict shift, int64_t channels, float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    float total = 0;
#pragma GCC unroll 4
    for (size_t tap = 0; tap < taps; ++tap) {
      const float value = (x[at[tap] + c] - mean[c]) * scale[c] + shift[c];
      total += where(!(value < 0), value);  // NaN stays
    }
    out[c] = total * (1.0F / taps);
  }
}

/// As add_gradients, each pixel's gradient its share of the window's.
template <size_t taps>
[[gnu::always_inline]] inline void add_shared_gradients(const float* __restrict x, const Window<taps>& at,
                                                        const float* __restrict gradient, const float* __restrict mean,
                                                        const float* __restrict scale, const float* __restrict shift,
                                                        int64_t channels, float* __restrict sum,
                                                        float* __restrict products) {
  for (int64_t c = 0; c < channels; ++c) {
    const float slope = gradient[c] * (1.0F / taps);
    float gradients = 0, of_deviations = 0;
#pragma GCC unroll 4
    for (size_t tap = 0; tap < taps; ++tap) {
      const float deviation = x[at[tap] + c] - mean[c], product = slope * deviation;
      const bool active = is_active(deviation * scale[c] + shift[c]);
      gradients += where(active, slope);
      of_deviations += where(active, product);
    }
    sum[c] += gradients;
    products[c] += of_deviations;
  }
}

/// As gradient_of_pooled, of the mean.
template <size_t taps>
[[gnu::always_inline]] inline void gradient_of_shared(
    const float* __restrict x, const Window<taps>& at, const float* __restrict gradient, const float* __restrict mean,
    const float* __restrict scale, const float* __restrict shift, const float* __restrict of_gradient,
    const float* __restrict of_deviation, const float* __restrict constant, int64_t channels, float* __restrict out) {
  for (int64_t c = 0; c < channels; ++c) {
    const float slope = gradient[c] * of_gradient[c] * (1.0F / taps);
#pragma GCC unroll 4
    for (size_t tap = 0; tap < taps; ++tap) {
      const float deviation = x[at[tap] + c] - mean[c];
      const float rest = of_deviation[c] * deviation + constant[c];
      out[at[tap] + c] = where(is_active(deviation * scale[c] + shift[c]), slope) + rest;
    }
  }
}

#if defined(__x86_64__)
template <typename Loop>
[[gnu::target("avx2,fma")]] void with_avx2(const Loop& loop) {
  loop();
}
#endif

/// Runs a loop, always_inline with all that it calls, compiled for the widest registers that there are.
template <typename Loop>
void in_widest_registers(const Loop& loop) {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2) return with_avx2(loop);
#endif
  loop();
}

}  // namespace mma::examples::normalisation
