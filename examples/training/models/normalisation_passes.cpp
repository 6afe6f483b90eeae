#include "training/models/normalisation_passes.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <type_traits>

namespace mma::examples::normalisation {
namespace {

/// The chunks by LibTorch's threads. Each goes over its own backwards where the pass before went forwards, so that what
/// was read last, which the cache still has, is read first. `scratch` floats are each task's own.
template <typename Task>
void over_chunks(int64_t chunks, int64_t scratch, bool backwards, const Task& task) {
  constexpr int64_t least_chunks = 1;
  at::parallel_for(0, chunks, least_chunks, [&](int64_t first, int64_t last) {
    std::vector<float> memory(static_cast<size_t>(scratch));
    for (int64_t k = first; k < last; ++k) task(backwards ? first + last - 1 - k : k, memory.data());
  });
}

/// Of a row's entries: the channel's number, as often as there are pixels side by side.
std::vector<float> repeated(const Layout& layout, const double* of_channel) {
  std::vector<float> row(static_cast<size_t>(layout.width));
  for (int64_t j = 0; j < layout.width; ++j) {
    row[static_cast<size_t>(j)] = static_cast<float>(of_channel[j % layout.channels]);
  }
  return row;
}

/// sums = what the row has of each channel
void add_up(const Layout& layout, const float* row, double* sums) {
  std::fill_n(sums, layout.channels, 0);
  for (int64_t pixel = 0; pixel < layout.side_by_side; ++pixel, row += layout.channels) {
    for (int64_t c = 0; c < layout.channels; ++c) sums[c] += static_cast<double>(row[c]);
  }
}

/// About each channel's mean in the range: from its first rows. It is taken off before squares are summed in float32,
/// where a mean far from zero would leave nothing of the variance. That it is not the mean exactly costs nothing: were
/// the first rows far from it, the variance would be as large.
void find_pivot(const Layout& layout, const float* x, Range range, double* of_channel, float* row) {
  const int64_t pixels = std::min(rows_at_once * layout.side_by_side, range.last - range.first);
  std::fill_n(of_channel, layout.channels, 0);
  const float* pixel = x + range.first * layout.channels;
  for (int64_t k = 0; k < pixels; ++k, pixel += layout.channels) {
    for (int64_t c = 0; c < layout.channels; ++c) of_channel[c] += static_cast<double>(pixel[c]);
  }
  for (int64_t c = 0; c < layout.channels; ++c)
    row[c] = static_cast<float>(of_channel[c] / static_cast<double>(pixels));
  for (int64_t j = layout.channels; j < layout.width; ++j) row[j] = row[j - layout.channels];
  for (int64_t c = 0; c < layout.channels; ++c) of_channel[c] = static_cast<double>(row[c]);
}

/// Of one chunk, means and sums of squares one after the other.
void moments_of_chunk(const Layout& layout, const float* x, Range range, float* scratch, double* result) {
  float *pivot = scratch, *sum = pivot + layout.width, *squares = sum + layout.width;
  double *means = result, *square_sums = result + layout.channels;
  find_pivot(layout, x, range, means, pivot);
  std::fill_n(sum, 2 * layout.width, 0.0F);
  in_widest_registers([&]() __attribute__((always_inline)) {
    in_rows(
        layout, range, [&](auto rows, int64_t pixel, int64_t width) __attribute__((always_inline)) {
          const float* from = x + pixel * layout.channels;
          ask_for_rows(from, rows() * width);
          add_moments<rows()>(from, pivot, width, sum, squares);
        });
  });
  Numbers deviations(static_cast<size_t>(layout.channels));
  add_up(layout, sum, deviations.data());
  add_up(layout, squares, square_sums);
  const auto count = static_cast<double>(range.last - range.first);
  for (int64_t c = 0; c < layout.channels; ++c) {
    const double deviation = deviations[static_cast<size_t>(c)] / count;
    means[c] += deviation;
    const double square_sum = square_sums[c] - deviation * deviation * count;
    square_sums[c] = square_sum < 0 ? 0 : square_sum;  // NaN stays
  }
}

/// step(Window, where the pooled channels begin, or -1 for pixels that no window has)
template <typename Step>
[[gnu::always_inline]] inline void in_windows(const Windows& windows, const float* images, Range range,
                                              const Step& step) {
  const int64_t c = windows.channels, line = windows.width * c;
  for (int64_t row = range.first; row < range.last; ++row) {
    const int64_t picture = row / windows.rows, y = row % windows.rows;
    const bool two_lines = 2 * y + 1 < windows.height;
    const int64_t pooled_line = (picture * windows.pooled_height + y) * windows.pooled_width * c;
    int64_t pixel = (picture * windows.height + 2 * y) * line;
    for (int64_t x = 0; 2 * x < windows.width; ++x, pixel += 2 * c) {
      const bool is_pooled = y < windows.pooled_height && x < windows.pooled_width;
      const int64_t pooled = is_pooled ? pooled_line + x * c : -1;
      const bool two_columns = 2 * x + 1 < windows.width;
      ask_for_rows(images + pixel, 2 * c);
      ask_for_rows(images + pixel + line, 2 * c);
      if (two_lines && two_columns) {
        step(Window<4>{pixel, pixel + c, pixel + line, pixel + line + c}, pooled);
      } else if (two_lines || two_columns) {
        step(Window<2>{pixel, pixel + (two_lines ? line : c)}, pooled);
      } else {
        step(Window<1>{pixel}, pooled);
      }
    }
  }
}

/// Sums over all pixels of the gradient of the normalised values, and of that times x - mean: a row of chunks each.
struct GradientSums {
  GradientSums(const Layout& layout, int64_t chunks)
      : layout_(layout), of_chunks_(static_cast<size_t>(2 * chunks * layout.channels)) {}

  void set(int64_t chunk, const float* sum, const float* products) {
    double* place = &of_chunks_[static_cast<size_t>(2 * chunk * layout_.channels)];
    add_up(layout_, sum, place);
    add_up(layout_, products, place + layout_.channels);
  }

  Numbers total() const {
    const auto two_channels = static_cast<size_t>(2 * layout_.channels);
    Numbers total(two_channels);
    for (size_t k = 0; k < of_chunks_.size(); k += two_channels) {
      for (size_t c = 0; c < two_channels; ++c) total[c] += of_chunks_[k + c];
    }
    return total;
  }

 private:
  Layout layout_;
  Numbers of_chunks_;
};

/// `step` adds up a chunk: (chunk, sum, products).
template <typename Step>
Numbers summed(const Layout& layout, int64_t chunks, const Step& step) {
  GradientSums sums(layout, chunks);
  over_chunks(chunks, 2 * layout.width, false, [&](int64_t chunk, float* scratch) {
    std::fill_n(scratch, 2 * layout.width, 0.0F);
    step(chunk, scratch, scratch + layout.width);
    sums.set(chunk, scratch, scratch + layout.width);
  });
  return sums.total();
}

/// step(true_type or false_type) by a number that is known when it runs.
template <typename Step>
decltype(auto) by(bool flag, const Step& step) {
  return flag ? step(std::true_type()) : step(std::false_type());
}

/// Where `marked`, groups of rows leave in `active` what the relu of their sum lets through.
template <bool relu, bool add, bool marked>
void normalise_all(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, float* out,
                   uint32_t* active) {
  static_assert(!marked || (relu && add));
  const float *mean = affine.mean.data(), *scale = affine.scale.data(), *shift = affine.shift.data();
  over_chunks(layout.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t pixel, int64_t width) __attribute__((always_inline)) {
            const int64_t first = pixel * layout.channels;
            const float* from = x + place_of<rows()>(layout, pixel);
            ask_for<rows()>(layout, from, width);
            if constexpr (add) ask_for_rows(shortcut + first, rows() * width);
            ask_to_write(out + first, rows() * width);
            if constexpr (marked && rows() == rows_at_once) {
              normalise_and_mark(from, shortcut + first, mean, scale, shift, width, out + first,
                                 active + first / entries_a_word);
            } else {
              normalise<rows(), relu, add>(from, shortcut + first, mean, scale, shift, width, out + first);
            }
          });
    });
  });
}

/// Of groups of rows that are marked the marks tell what the relu let through, of others its result.
template <bool marked>
Numbers sum_gradient_sums(const Backward& pass, const float* result, const uint32_t* active) {
  const Layout& layout = pass.layout;
  const float *x = pass.x, *mean = pass.affine.mean.data();
  return summed(layout, layout.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t pixel, int64_t width) __attribute__((always_inline)) {
            const int64_t first = pixel * layout.channels;
            float* gradient = pass.gradient + first;
            ask_for_rows(x + first, rows() * width);
            ask_for_rows(gradient, rows() * width);
            if constexpr (marked && rows() == rows_at_once) {
              add_marked_gradients(x + first, active + first / entries_a_word, mean, width, gradient, sum, products);
            } else {
              ask_for_rows(result + first, rows() * width);
              add_gradients_of_sum<rows()>(x + first, result + first, mean, width, gradient, sum, products);
            }
          });
    });
  });
}

template <bool relu>
Numbers gradient_sums(const Backward& pass) {
  const Layout& layout = pass.layout;
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  return summed(layout, layout.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t pixel, int64_t width) __attribute__((always_inline)) {
            const int64_t first = pixel * layout.channels;
            const float* x = pass.x + place_of<rows()>(layout, pixel);
            ask_for<rows()>(layout, x, width);
            ask_for_rows(pass.gradient + first, rows() * width);
            add_gradients<rows(), relu>(x, pass.gradient + first, mean, scale, shift, width, sum, products);
          });
    });
  });
}

template <bool relu, Target target>
void input_gradient(const Backward& pass, const Slopes& slopes, float* out) {
  const Layout& layout = pass.layout;
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  const float *of_gradient = slopes.of_gradient.data(), *of_deviation = slopes.of_deviation.data();
  const float* constant = slopes.constant.data();
  over_chunks(layout.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t pixel, int64_t width) __attribute__((always_inline)) {
            const float *x = pass.x + place_of<rows()>(layout, pixel),
                        *gradient = pass.gradient + pixel * layout.channels;
            float* to = out + (target == Target::Added ? place_of<rows()>(layout, pixel) : pixel * layout.channels);
            ask_for<rows()>(layout, x, width);
            ask_for_rows(gradient, rows() * width);
            if constexpr (target == Target::Added) ask_for<rows()>(layout, to, width);
            if constexpr (target == Target::Fresh) ask_to_write(to, rows() * width);
            gradient_of_input<rows(), relu, target>(x, gradient, mean, scale, shift, of_gradient, of_deviation,
                                                    constant, width, to);
          });
    });
  });
}

template <Pooling pooling>
void pool_all(const Windows& windows, const float* x, const Affine& affine, float* out) {
  const float *mean = affine.mean.data(), *scale = affine.scale.data(), *shift = affine.shift.data();
  over_chunks(windows.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_windows(
          windows, x, windows.chunk_of(chunk), [&](const auto& window, int64_t pooled) __attribute__((always_inline)) {
            if (pooled < 0) return;
            if constexpr (pooling == Pooling::Max) {
              pool(x, window, mean, scale, shift, windows.channels, out + pooled);
            } else {
              average(x, window, mean, scale, shift, windows.channels, out + pooled);
            }
          });
    });
  });
}

template <Pooling pooling>
Numbers pooled_gradient_sums(const Backward& pass, const Windows& windows) {
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  return summed(pass.layout, windows.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_windows(
          windows, pass.x,
          windows.chunk_of(chunk), [&](const auto& window, int64_t pooled) __attribute__((always_inline)) {
            if (pooled < 0) return;
            const float* gradient = pass.gradient + pooled;
            if constexpr (pooling == Pooling::Max) {
              add_pooled_gradients(pass.x, window, gradient, mean, scale, shift, windows.channels, sum, products);
            } else {
              add_shared_gradients(pass.x, window, gradient, mean, scale, shift, windows.channels, sum, products);
            }
          });
    });
  });
}

template <Pooling pooling>
void pooled_input_gradient(const Backward& pass, const Windows& windows, const Slopes& slopes, float* out) {
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  const float *of_gradient = slopes.of_gradient.data(), *of_deviation = slopes.of_deviation.data();
  const float* constant = slopes.constant.data();
  const std::vector<float> zeros(static_cast<size_t>(windows.channels));
  const float* none = zeros.data();
  over_chunks(windows.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_windows(
          windows, pass.x,
          windows.chunk_of(chunk), [&](const auto& window, int64_t pooled) __attribute__((always_inline)) {
            const float* gradient = pooled < 0 ? none : pass.gradient + pooled;
            if constexpr (pooling == Pooling::Max) {
              gradient_of_pooled(pass.x, window, gradient, mean, scale, shift, of_gradient, of_deviation, constant,
                                 windows.channels, out);
            } else {
              gradient_of_shared(pass.x, window, gradient, mean, scale, shift, of_gradient, of_deviation, constant,
                                 windows.channels, out);
            }
          });
    });
  });
}

}  // namespace

void Moments::add(int64_t before, int64_t count, const double* means, const double* other_squares) {
  const double share = static_cast<double>(count) / static_cast<double>(before + count);
  for (size_t c = 0; c < mean.size(); ++c) {
    const double difference = means[c] - mean[c];
    mean[c] += difference * share;
    squares[c] += other_squares[c] + difference * difference * share * static_cast<double>(before);
  }
}

at::Tensor Moments::statistics(int64_t count, double epsilon) const {
  at::Tensor result = at::empty({2, static_cast<int64_t>(mean.size())}, at::kDouble);
  auto* numbers = std::copy(mean.begin(), mean.end(), result.mutable_data_ptr<double>());
  for (const double square_sum : squares) *numbers++ = 1 / std::sqrt(square_sum / static_cast<double>(count) + epsilon);
  return result;
}

Moments moments_of(const Layout& layout, const float* x) {
  Numbers of_chunks(static_cast<size_t>(2 * layout.chunks() * layout.channels));
  over_chunks(layout.chunks(), 3 * layout.width, false, [&](int64_t chunk, float* scratch) {
    moments_of_chunk(layout, x, chunk_of(layout, chunk), scratch,
                     &of_chunks[static_cast<size_t>(2 * chunk * layout.channels)]);
  });
  Moments moments(layout.channels);
  for (int64_t chunk = 0; chunk < layout.chunks(); ++chunk) {
    const Range range = chunk_of(layout, chunk);
    const double* means = &of_chunks[static_cast<size_t>(2 * chunk * layout.channels)];
    moments.add(range.first, range.last - range.first, means, means + layout.channels);
  }
  return moments;
}

Affine affine_of(const Layout& layout, const double* statistics, const float* weight, const float* bias) {
  const auto channels = static_cast<size_t>(layout.channels);
  Numbers scale(channels), shift(channels);
  for (size_t c = 0; c < channels; ++c) {
    scale[c] = static_cast<double>(weight[c]) * statistics[channels + c];
    shift[c] = static_cast<double>(bias[c]) +
               (static_cast<double>(static_cast<float>(statistics[c])) - statistics[c]) * scale[c];
  }
  return {repeated(layout, statistics), repeated(layout, scale.data()), repeated(layout, shift.data())};
}

Slopes slopes_of(const Layout& layout, const Numbers& sums, const double* statistics, const float* weight,
                 float* weight_gradient, float* bias_gradient) {
  const auto channels = static_cast<size_t>(layout.channels);
  const auto count = static_cast<double>(layout.pixels);
  Numbers of_gradient(channels), of_deviation(channels), constant(channels);
  for (size_t c = 0; c < channels; ++c) {
    const double inverse = statistics[channels + c], sum = sums[c];
    const double lost = static_cast<double>(static_cast<float>(statistics[c])) - statistics[c];  // of x - mean
    const double product = inverse * (sums[channels + c] + lost * sum);
    weight_gradient[c] = static_cast<float>(product);
    bias_gradient[c] = static_cast<float>(sum);
    of_gradient[c] = static_cast<double>(weight[c]) * inverse;
    of_deviation[c] = -of_gradient[c] * inverse * product / count;
    constant[c] = of_deviation[c] * lost - of_gradient[c] * sum / count;
  }
  return {repeated(layout, of_gradient.data()), repeated(layout, of_deviation.data()),
          repeated(layout, constant.data())};
}

void normalise_all(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, bool relu,
                   float* out) {
  by(relu, [&](auto with_relu) {
    by(shortcut != nullptr, [&](auto add) {
      normalise_all<with_relu(), add(), false>(layout, x, shortcut == nullptr ? x : shortcut, affine, out, nullptr);
    });
  });
}

void pool_all(const Windows& windows, Pooling pooling, const float* x, const Affine& affine, float* out) {
  pooling == Pooling::Max ? pool_all<Pooling::Max>(windows, x, affine, out)
                          : pool_all<Pooling::Mean>(windows, x, affine, out);
}

Numbers gradient_sums(const Backward& pass, bool relu) {
  return relu ? gradient_sums<true>(pass) : gradient_sums<false>(pass);
}

int64_t words_of(const Layout& layout) {
  return can_be_marked(layout) ? layout.pixels * layout.channels / entries_a_word : 0;
}

void normalise_and_mark(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, float* out,
                        uint32_t* active) {
  by(can_be_marked(layout),
     [&](auto marked) { normalise_all<true, true, marked()>(layout, x, shortcut, affine, out, active); });
}

Numbers gradient_sums_of_sum(const Backward& pass, const float* result, const uint32_t* active) {
  return by(can_be_marked(pass.layout), [&](auto marked) { return sum_gradient_sums<marked()>(pass, result, active); });
}

Numbers pooled_gradient_sums(const Backward& pass, const Windows& windows, Pooling pooling) {
  return pooling == Pooling::Max ? pooled_gradient_sums<Pooling::Max>(pass, windows)
                                 : pooled_gradient_sums<Pooling::Mean>(pass, windows);
}

void input_gradient(const Backward& pass, const Slopes& slopes, bool relu, Target target, float* out) {
  by(relu, [&](auto with_relu) {
    switch (target) {
      case Target::InPlace:
        return input_gradient<with_relu(), Target::InPlace>(pass, slopes, out);
      case Target::Fresh:
        return input_gradient<with_relu(), Target::Fresh>(pass, slopes, out);
      case Target::Added:
        return input_gradient<with_relu(), Target::Added>(pass, slopes, out);
    }
  });
}

void pooled_input_gradient(const Backward& pass, const Windows& windows, Pooling pooling, const Slopes& slopes,
                           float* out) {
  pooling == Pooling::Max ? pooled_input_gradient<Pooling::Max>(pass, windows, slopes, out)
                          : pooled_input_gradient<Pooling::Mean>(pass, windows, slopes, out);
}

void copy_channels(int64_t pixels, int64_t channels, const float* from, int64_t from_stride, float* to,
                   int64_t to_stride) {
  at::parallel_for(0, pixels, 4096, [&](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      const float* __restrict source = from + pixel * from_stride;
      float* __restrict target = to + pixel * to_stride;
      for (int64_t c = 0; c < channels; ++c) target[c] = source[c];
    }
  });
}

}  // namespace mma::examples::normalisation
