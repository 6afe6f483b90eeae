// Batch normalisation's passes over pictures in float32 with channels last, [pixels, channels] in memory: moments and
// normalised values forward, sums and the gradient of the pictures backward, alone or with relu, shortcut and 2 x 2
// pooling. By LibTorch's threads, with the same bits for any number of them.
#pragma once

#include <ATen/core/TensorBase.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "training/models/normalisation_loops.hpp"

namespace mma::examples::normalisation {

using Numbers = std::vector<double>;

/// Mean and sum of squared deviations of each channel.
struct Moments {
  explicit Moments(int64_t channels) : mean(static_cast<size_t>(channels)), squares(static_cast<size_t>(channels)) {}

  /// Chan, Golub and LeVeque's formula: `count` more values to the `before` that there are.
  void add(int64_t before, int64_t count, const double* means, const double* other_squares);

  /// Of all channels, means, then 1 / sqrt(variance + epsilon): `statistics` below. [2, channels], float64.
  at::Tensor statistics(int64_t count, double epsilon) const;

  Numbers mean, squares;
};

Moments moments_of(const Layout& layout, const float* x);

/// How a value becomes normalised: (x - mean) * scale + shift, for each entry of a row. The mean is rounded to float32;
/// what that loses is in the shift.
struct Affine {
  std::vector<float> mean, scale, shift;
};
Affine affine_of(const Layout& layout, const double* statistics, const float* weight, const float* bias);

/// out = normalised x, plus `shortcut` unless it is null, through a relu or not.
void normalise_all(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, bool relu,
                   float* out);

/// out = relu(normalised x + shortcut); `active` becomes what the relu lets through, `words_of(layout)` words.
void normalise_and_mark(const Layout& layout, const float* x, const float* shortcut, const Affine& affine, float* out,
                        uint32_t* active);
int64_t words_of(const Layout& layout);

enum class Pooling { Max, Mean };

/// The 2 x 2 windows of pictures with channels last.
struct Windows {
  Windows(const at::TensorBase& images, bool ceil_mode)
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

/// out = the windows' largest or mean relu of normalised x
void pool_all(const Windows& windows, Pooling pooling, const float* x, const Affine& affine, float* out);

/// What the passes of backward read.
struct Backward {
  Layout layout;
  const float* x;
  float* gradient;
  Affine affine;
};

/// Sums over all pixels of the gradient of each channel's normalised values, and of that times x - mean.
Numbers gradient_sums(const Backward& pass, bool relu);
/// Where the relu is of the sum with a shortcut: `result` and `active`, as they were marked, tell what it lets through,
/// which `gradient` becomes.
Numbers gradient_sums_of_sum(const Backward& pass, const float* result, const uint32_t* active);
Numbers pooled_gradient_sums(const Backward& pass, const Windows& windows, Pooling pooling);

/// The gradient of x: of_gradient * gradient + of_deviation * (x - mean) + constant, for each entry of a row.
struct Slopes {
  std::vector<float> of_gradient, of_deviation, constant;
};

/// The gradients of weight and bias from the sums, and the slopes of the gradient of x.
Slopes slopes_of(const Layout& layout, const Numbers& sums, const double* statistics, const float* weight,
                 float* weight_gradient, float* bias_gradient);

/// out = the gradient of x, or is added up; `target` says where it is.
void input_gradient(const Backward& pass, const Slopes& slopes, bool relu, Target target, float* out);
void pooled_input_gradient(const Backward& pass, const Windows& windows, Pooling pooling, const Slopes& slopes,
                           float* out);

/// Of each pixel, `channels` numbers: from pixels of `from_stride` to such of `to_stride`.
void copy_channels(int64_t pixels, int64_t channels, const float* from, int64_t from_stride, float* to,
                   int64_t to_stride);

}  // namespace mma::examples::normalisation
