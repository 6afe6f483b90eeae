#include "training/models/normalisation.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/threshold_backward.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <optional>
#include <vector>

#include "training/distributed/synchronised_norm.hpp"
#include "training/models/normalisation_loops.hpp"

namespace mma::examples {
namespace {

using namespace normalisation;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using torch::nn::BatchNorm2d;
using torch::nn::BatchNorm2dImpl;
using Numbers = std::vector<double>;

enum class Following { Nothing, Relu, Add, AddRelu, ReluMaxPool, ReluMaxPoolCeil };

bool is_relu(Following following) { return following != Following::Nothing && following != Following::Add; }
bool adds(Following following) { return following == Following::Add || following == Following::AddRelu; }
bool is_pooled(Following following) {
  return following == Following::ReluMaxPool || following == Following::ReluMaxPoolCeil;
}

Layout layout_of(const at::Tensor& images) { return {images.numel() / images.size(1), images.size(1)}; }

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

/// Mean and sum of squared deviations of each channel.
struct Moments {
  explicit Moments(int64_t channels) : mean(static_cast<size_t>(channels)), squares(static_cast<size_t>(channels)) {}

  /// Chan, Golub and LeVeque's formula: `count` more values to the `before` that there are.
  void add(int64_t before, int64_t count, const double* means, const double* other_squares) {
    const double share = static_cast<double>(count) / static_cast<double>(before + count);
    for (size_t c = 0; c < mean.size(); ++c) {
      const double difference = means[c] - mean[c];
      mean[c] += difference * share;
      squares[c] += other_squares[c] + difference * difference * share * static_cast<double>(before);
    }
  }

  Numbers mean, squares;
};

/// Of one chunk, means and sums of squares one after the other.
void moments_of_chunk(const Layout& layout, const float* x, Range range, float* scratch, double* result) {
  float *pivot = scratch, *sum = pivot + layout.width, *squares = sum + layout.width;
  double *means = result, *square_sums = result + layout.channels;
  find_pivot(layout, x, range, means, pivot);
  std::fill_n(sum, 2 * layout.width, 0.0F);
  in_widest_registers([&]() __attribute__((always_inline)) {
    in_rows(
        layout, range, [&](auto rows, int64_t first, int64_t width) __attribute__((always_inline)) {
          ask_for_rows(x + first, rows() * width);
          add_moments<rows()>(x + first, pivot, width, sum, squares);
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

/// How a value becomes normalised: (x - mean) * scale + shift, for each entry of a row. The mean is rounded to float32;
/// what that loses is in the shift.
struct Affine {
  std::vector<float> mean, scale, shift;
};

/// `statistics`: means, then inverse deviations.
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

template <bool relu, bool add>
void normalise_all(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, float* out) {
  const float *mean = affine.mean.data(), *scale = affine.scale.data(), *shift = affine.shift.data();
  over_chunks(layout.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t first, int64_t width) __attribute__((always_inline)) {
            ask_for_rows(x + first, rows() * width);
            if constexpr (add) ask_for_rows(shortcut + first, rows() * width);
            normalise<rows(), relu, add>(x + first, shortcut + first, mean, scale, shift, width, out + first);
          });
    });
  });
}

/// The 2 x 2 windows of pictures with channels last.
struct Windows {
  Windows(const at::Tensor& images, bool ceil_mode)
      : channels(images.size(1)),
        height(images.size(2)),
        width(images.size(3)),
        rows((height + 1) / 2),
        pooled_height(ceil_mode ? rows : height / 2),
        pooled_width(ceil_mode ? (width + 1) / 2 : width / 2),
        all_rows(images.size(0) * rows),
        chunk(std::max<int64_t>(1, 32768 / (2 * width * channels))) {}

  int64_t chunks() const { return (all_rows + chunk - 1) / chunk; }
  Range chunk_of(int64_t index) const { return {index * chunk, std::min((index + 1) * chunk, all_rows)}; }

  int64_t channels, height, width;
  int64_t rows;  ///< of windows in a picture, with those that reach over the edge
  int64_t pooled_height, pooled_width;
  int64_t all_rows, chunk;  ///< of all pictures, of a chunk
};

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

void pool_all(const Windows& windows, const float* x, const Affine& affine, float* out) {
  const float *mean = affine.mean.data(), *scale = affine.scale.data(), *shift = affine.shift.data();
  over_chunks(windows.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_windows(
          windows, x, windows.chunk_of(chunk), [&](const auto& window, int64_t pooled) __attribute__((always_inline)) {
            if (pooled >= 0) pool(x, window, mean, scale, shift, windows.channels, out + pooled);
          });
    });
  });
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

/// What the passes of backward read.
struct Backward {
  Layout layout;
  const float *x, *gradient;
  Affine affine;
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

template <bool relu>
Numbers gradient_sums(const Backward& pass) {
  const Layout& layout = pass.layout;
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  return summed(layout, layout.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t first, int64_t width) __attribute__((always_inline)) {
            ask_for_rows(pass.x + first, rows() * width);
            ask_for_rows(pass.gradient + first, rows() * width);
            add_gradients<rows(), relu>(pass.x + first, pass.gradient + first, mean, scale, shift, width, sum,
                                        products);
          });
    });
  });
}

Numbers gradient_sums_of_sum(const Backward& pass, const float* result, float* gradient) {
  const Layout& layout = pass.layout;
  const float* mean = pass.affine.mean.data();
  return summed(layout, layout.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t first, int64_t width) __attribute__((always_inline)) {
            ask_for_rows(pass.x + first, rows() * width);
            ask_for_rows(gradient + first, rows() * width);
            ask_for_rows(result + first, rows() * width);
            add_gradients_of_sum<rows()>(pass.x + first, result + first, mean, width, gradient + first, sum, products);
          });
    });
  });
}

Numbers pooled_gradient_sums(const Backward& pass, const Windows& windows) {
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  return summed(pass.layout, windows.chunks(), [&](int64_t chunk, float* sum, float* products) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_windows(
          windows, pass.x,
          windows.chunk_of(chunk), [&](const auto& window, int64_t pooled) __attribute__((always_inline)) {
            if (pooled < 0) return;
            add_pooled_gradients(pass.x, window, pass.gradient + pooled, mean, scale, shift, windows.channels, sum,
                                 products);
          });
    });
  });
}

/// The gradient of x: of_gradient * gradient + of_deviation * (x - mean) + constant, for each entry of a row.
struct Slopes {
  std::vector<float> of_gradient, of_deviation, constant;
};

template <bool relu, bool in_place>
void input_gradient(const Backward& pass, const Slopes& slopes, float* out) {
  const Layout& layout = pass.layout;
  const float *mean = pass.affine.mean.data(), *scale = pass.affine.scale.data(), *shift = pass.affine.shift.data();
  const float *of_gradient = slopes.of_gradient.data(), *of_deviation = slopes.of_deviation.data();
  const float* constant = slopes.constant.data();
  over_chunks(layout.chunks(), 0, true, [&](int64_t chunk, float*) {
    in_widest_registers([&]() __attribute__((always_inline)) {
      in_rows(
          layout, chunk_of(layout, chunk), [&](auto rows, int64_t first, int64_t width) __attribute__((always_inline)) {
            ask_for_rows(pass.x + first, rows() * width);
            ask_for_rows(pass.gradient + first, rows() * width);
            gradient_of_input<rows(), relu, in_place>(pass.x + first, pass.gradient + first, mean, scale, shift,
                                                      of_gradient, of_deviation, constant, width, out + first);
          });
    });
  });
}

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
            gradient_of_pooled(pass.x, window, gradient, mean, scale, shift, of_gradient, of_deviation, constant,
                               windows.channels, out);
          });
    });
  });
}

/// The gradients of weight and bias from the sums, and the slopes of the gradient of x.
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

/// As LibTorch keeps them: the variance without bias.
void update_running_statistics(BatchNorm2dImpl& norm, const Moments& moments, int64_t count) {
  if (norm.num_batches_tracked.defined()) ++*norm.num_batches_tracked.mutable_data_ptr<int64_t>();
  const double share = norm.options.momentum().value_or(0);
  auto* mean = norm.running_mean.mutable_data_ptr<float>();
  auto* variance = norm.running_var.mutable_data_ptr<float>();
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    const double unbiased = moments.squares[c] / static_cast<double>(count - 1);
    mean[c] = static_cast<float>((1 - share) * static_cast<double>(mean[c]) + share * moments.mean[c]);
    variance[c] = static_cast<float>((1 - share) * static_cast<double>(variance[c]) + share * unbiased);
  }
}

at::Tensor empty_result(const at::Tensor& images, Following following) {
  if (!is_pooled(following)) return at::empty_like(images);
  const Windows windows(images, following == Following::ReluMaxPoolCeil);
  return at::empty({images.size(0), windows.channels, windows.pooled_height, windows.pooled_width}, images.options(),
                   at::MemoryFormat::ChannelsLast);
}

void write_result(const at::Tensor& images, const float* shortcut, const Affine& affine, Following following,
                  const at::Tensor& result) {
  const Layout layout = layout_of(images);
  const auto* x = images.const_data_ptr<float>();
  auto* out = result.mutable_data_ptr<float>();
  switch (following) {
    case Following::Nothing:
      return normalise_all<false, false>(layout, x, x, affine, out);
    case Following::Relu:
      return normalise_all<true, false>(layout, x, x, affine, out);
    case Following::Add:
      return normalise_all<false, true>(layout, x, shortcut, affine, out);
    case Following::AddRelu:
      return normalise_all<true, true>(layout, x, shortcut, affine, out);
    case Following::ReluMaxPool:
    case Following::ReluMaxPoolCeil:
      return pool_all(Windows(images, following == Following::ReluMaxPoolCeil), x, affine, out);
  }
}

/// By LibTorch's operations, for a gradient that is differentiated itself.
at::Tensor by_libtorch(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                       Following following) {
  const at::Tensor normal = at::batch_norm(images, weight, bias, {}, {}, /*training=*/true, 0, epsilon, false);
  if (!is_relu(following) || following == Following::AddRelu) return normal;
  const at::Tensor active = at::relu(normal);
  if (!is_pooled(following)) return active;
  return at::max_pool2d(active, 2, 2, 0, 1, following == Following::ReluMaxPoolCeil);
}

/// The one node of autograd for all of them.
class NormalisationNode : public torch::autograd::Function<NormalisationNode> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& images, const at::Tensor& weight,
                            const at::Tensor& bias, const std::optional<at::Tensor>& shortcut, BatchNorm2dImpl& norm,
                            Following following) {
    const Layout layout = layout_of(images);
    const Moments moments = moments_of(layout, images.const_data_ptr<float>());
    update_running_statistics(norm, moments, layout.pixels);
    const at::Tensor statistics = at::empty({2, layout.channels}, at::kDouble);
    auto* numbers = statistics.mutable_data_ptr<double>();
    for (size_t c = 0; c < moments.mean.size(); ++c) {
      *numbers++ = moments.mean[c];
    }
    for (const double squares : moments.squares) {
      *numbers++ = 1 / std::sqrt(squares / static_cast<double>(layout.pixels) + norm.options.eps());
    }
    const Affine affine = affine_of(layout, statistics.const_data_ptr<double>(), weight.const_data_ptr<float>(),
                                    bias.const_data_ptr<float>());
    at::Tensor result = empty_result(images, following);
    write_result(images, shortcut ? shortcut->const_data_ptr<float>() : nullptr, affine, following, result);
    context->save_for_backward(
        {images, weight, bias, statistics, following == Following::AddRelu ? result : at::Tensor()});
    context->saved_data["epsilon"] = norm.options.eps();
    context->saved_data["following"] = static_cast<int64_t>(following);
    return result;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto following = static_cast<Following>(context->saved_data["following"].toInt());
    if (c10::GradMode::is_enabled()) {
      return differentiable(saved, gradients[0], context->saved_data["epsilon"].toDouble(), following);
    }
    RECORD_USER_SCOPE("mma.normalisation");
    return gradients_of(saved, own_copy(gradients[0]), following, context->needs_input_grad(0));
  }

 private:
  /// The gradient itself where nobody else holds it, so that it can be written over while it is in the cache.
  static at::Tensor own_copy(const at::Tensor& gradient) {
    const bool is_own = gradient.use_count() == 1 && gradient.storage().use_count() == 1;
    if (is_own && gradient.is_contiguous(at::MemoryFormat::ChannelsLast)) return gradient;
    return gradient.clone(at::MemoryFormat::ChannelsLast);
  }

  static variable_list gradients_of(const variable_list& saved, const at::Tensor& gradient, Following following,
                                    bool of_images) {
    const at::Tensor &images = saved[0], &weight = saved[1], &bias = saved[2], &result = saved[4];
    const auto* statistics = saved[3].const_data_ptr<double>();
    const Layout layout = layout_of(images);
    const Windows windows(images, following == Following::ReluMaxPoolCeil);
    Backward pass{layout, images.const_data_ptr<float>(), gradient.mutable_data_ptr<float>(),
                  affine_of(layout, statistics, weight.const_data_ptr<float>(), bias.const_data_ptr<float>())};
    Numbers sums;
    if (is_pooled(following)) {
      sums = pooled_gradient_sums(pass, windows);
    } else if (following == Following::AddRelu) {
      sums = gradient_sums_of_sum(pass, result.const_data_ptr<float>(), gradient.mutable_data_ptr<float>());
    } else {
      sums = following == Following::Relu ? gradient_sums<true>(pass) : gradient_sums<false>(pass);
    }
    const at::Tensor of_weight = at::empty_like(weight), of_bias = at::empty_like(bias);
    const Slopes slopes = slopes_of(layout, sums, statistics, weight.const_data_ptr<float>(),
                                    of_weight.mutable_data_ptr<float>(), of_bias.mutable_data_ptr<float>());
    const at::Tensor of_shortcut = adds(following) ? gradient : at::Tensor();
    if (!of_images) return {at::Tensor(), of_weight, of_bias, of_shortcut, at::Tensor(), at::Tensor()};
    at::Tensor of_input = adds(following) || is_pooled(following) ? at::empty_like(images) : gradient;
    auto* out = of_input.mutable_data_ptr<float>();
    if (is_pooled(following)) {
      pooled_input_gradient(pass, windows, slopes, out);
    } else if (adds(following)) {
      input_gradient<false, false>(pass, slopes, out);
    } else {
      following == Following::Relu ? input_gradient<true, true>(pass, slopes, out)
                                   : input_gradient<false, true>(pass, slopes, out);
    }
    return {of_input, of_weight, of_bias, of_shortcut, at::Tensor(), at::Tensor()};
  }

  static variable_list differentiable(const variable_list& saved, const at::Tensor& gradient, double epsilon,
                                      Following following) {
    const variable_list inputs = {saved[0], saved[1], saved[2]};
    const at::Tensor result = by_libtorch(saved[0], saved[1], saved[2], epsilon, following);
    const at::Tensor let_through =
        following == Following::AddRelu ? at::threshold_backward(gradient, saved[4].detach(), 0) : gradient;
    variable_list gradients = torch::autograd::grad({result}, inputs, {let_through}, /*retain_graph=*/true,
                                                    /*create_graph=*/true, /*allow_unused=*/true);
    gradients.insert(gradients.end(), {adds(following) ? let_through : at::Tensor(), at::Tensor(), at::Tensor()});
    return gradients;
  }
};

bool is_plain(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat;
}
bool is_plain_image(const at::Tensor& images) {
  return images.dim() == 4 && is_plain(images) && images.is_contiguous(at::MemoryFormat::ChannelsLast);
}
bool is_plain_vector(const at::Tensor& vector, int64_t size) {
  return vector.defined() && is_plain(vector) && vector.is_contiguous() && vector.numel() == size;
}

/// Whether the operation is made for this; all else is LibTorch's.
bool is_fused(const BatchNorm2dImpl& norm, const at::Tensor& images) {
  if (!norm.is_training() || !norm.options.momentum() || !is_plain_image(images)) return false;
  if (SynchronisedNorm::processes() != nullptr) return false;
  const int64_t channels = images.size(1);
  return channels > 0 && images.numel() > channels && is_plain_vector(norm.weight, channels) &&
         is_plain_vector(norm.bias, channels) && is_plain_vector(norm.running_mean, channels) &&
         is_plain_vector(norm.running_var, channels) && norm.weight.requires_grad() && norm.bias.requires_grad() &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

bool is_fused(const BatchNorm2dImpl& norm, const at::Tensor& images, const at::Tensor& shortcut) {
  return is_fused(norm, images) && is_plain_image(shortcut) && shortcut.sizes() == images.sizes();
}

at::Tensor fused(BatchNorm2d& norm, const at::Tensor& images, const std::optional<at::Tensor>& shortcut,
                 Following following) {
  RECORD_USER_SCOPE("mma.normalisation");
  return NormalisationNode::apply(images, norm->weight, norm->bias, shortcut, *norm, following);
}

/// By LibTorch's operation, or over all processes.
template <typename Norm>
at::Tensor plain(Norm& norm, const at::Tensor& images) {
  Processes* processes = norm->is_training() ? SynchronisedNorm::processes() : nullptr;
  if (processes == nullptr) return norm->forward(images);
  const NormState state{norm->weight,
                        norm->bias,
                        norm->running_mean,
                        norm->running_var,
                        norm->num_batches_tracked,
                        norm->options.momentum().value_or(0),
                        norm->options.eps()};
  return synchronised_batch_norm(images, state, *processes);
}

}  // namespace

at::Tensor batch_norm(BatchNorm2d& norm, const at::Tensor& images) {
  return is_fused(*norm, images) ? fused(norm, images, {}, Following::Nothing) : plain(norm, images);
}

at::Tensor batch_norm(torch::nn::BatchNorm1d& norm, const at::Tensor& rows) { return plain(norm, rows); }

at::Tensor batch_norm_relu(BatchNorm2d& norm, const at::Tensor& images) {
  return is_fused(*norm, images) ? fused(norm, images, {}, Following::Relu) : plain(norm, images).relu_();
}

at::Tensor batch_norm_add(BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut) {
  if (is_fused(*norm, images, shortcut)) return fused(norm, images, shortcut, Following::Add);
  return plain(norm, images).add_(shortcut);
}

at::Tensor batch_norm_add_relu(BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut) {
  if (is_fused(*norm, images, shortcut)) return fused(norm, images, shortcut, Following::AddRelu);
  return plain(norm, images).add_(shortcut).relu_();
}

at::Tensor batch_norm_relu_max_pool(BatchNorm2d& norm, const at::Tensor& images, bool ceil_mode) {
  const int64_t smallest = ceil_mode ? 1 : 2;
  if (is_fused(*norm, images) && images.size(2) >= smallest && images.size(3) >= smallest) {
    return fused(norm, images, {}, ceil_mode ? Following::ReluMaxPoolCeil : Following::ReluMaxPool);
  }
  return at::max_pool2d(plain(norm, images).relu_(), 2, 2, 0, 1, ceil_mode);
}

}  // namespace mma::examples
