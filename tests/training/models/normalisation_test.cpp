// Batch normalisation and what follows it as one operation, against the formulas as plain loops in double precision;
// where it is not made for what it is given, against LibTorch's own operations one after the other.
#include "training/models/normalisation.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "image_numbers.hpp"

namespace mma::examples {
namespace {

using mma::tests::error_of;
using mma::tests::image_numbers;
using mma::tests::noise;
using torch::nn::BatchNorm2d;

enum class Kind { Plain, Relu, Add, AddRelu, Pool, PoolCeil, MeanPool };
constexpr Kind kinds[] = {Kind::Plain, Kind::Relu,     Kind::Add,     Kind::AddRelu,
                          Kind::Pool,  Kind::PoolCeil, Kind::MeanPool};

bool adds(Kind kind) { return kind == Kind::Add || kind == Kind::AddRelu; }
bool pools(Kind kind) { return kind == Kind::Pool || kind == Kind::PoolCeil || kind == Kind::MeanPool; }
bool has_relu(Kind kind) { return kind != Kind::Plain && kind != Kind::Add; }

struct Shape {
  int64_t batch, channels, height, width;
};

at::Tensor images_of(const Shape& shape, uint64_t stream) {
  return image_numbers(stream, {shape.batch, shape.channels, shape.height, shape.width});
}

/// With weights of both signs.
BatchNorm2d norm_of(int64_t channels) {
  BatchNorm2d norm(channels);
  const c10::NoGradGuard no_grad;
  norm->weight.copy_(noise(5, {channels}) * 3 + 0.3);
  norm->bias.copy_(noise(6, {channels}));
  return norm;
}

at::Tensor fused(Kind kind, BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut) {
  switch (kind) {
    case Kind::Plain:
      return batch_norm(norm, images);
    case Kind::Relu:
      return batch_norm_relu(norm, images);
    case Kind::Add:
      return batch_norm_add(norm, images, shortcut);
    case Kind::AddRelu:
      return batch_norm_add_relu(norm, images, shortcut);
    case Kind::MeanPool:
      return batch_norm_relu_mean_pool(norm, images);
    default:
      return batch_norm_relu_max_pool(norm, images, kind == Kind::PoolCeil);
  }
}

at::Tensor by_libtorch(Kind kind, BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut) {
  at::Tensor result = norm->forward(images);
  if (adds(kind)) result = result + shortcut;
  if (has_relu(kind)) result = result.relu();
  if (kind == Kind::MeanPool) return at::avg_pool2d(result, 2);
  return pools(kind) ? at::max_pool2d(result, 2, 2, 0, 1, kind == Kind::PoolCeil) : result;
}

/// What an operation gave, or what it should give.
struct Outcome {
  at::Tensor result, of_images, of_weight, of_bias, of_shortcut, running_mean, running_var;
};

/// result and, for the gradient `gradient(result)` of it, all other gradients.
template <typename Operation>
Outcome outcome_of(const Operation& operation, Kind kind, BatchNorm2d norm, at::Tensor images, at::Tensor shortcut) {
  images = images.detach().clone().requires_grad_(true);
  shortcut = shortcut.detach().clone().requires_grad_(true);
  norm->zero_grad();
  const at::Tensor result = operation(kind, norm, images, shortcut);
  const Shape shape{result.size(0), result.size(1), result.size(2), result.size(3)};
  torch::autograd::backward({result}, {images_of(shape, 3)});
  return {result.detach(),          images.grad(),   norm->weight.grad(),
          norm->bias.grad(),        shortcut.grad(), norm->running_mean.clone(),
          norm->running_var.clone()};
}

/// The formulas, a channel at a time, in double precision.
class Formula {
 public:
  Formula(Kind kind, const BatchNorm2d& norm, const at::Tensor& images, const at::Tensor& shortcut)
      : kind_(kind),
        images_(images.to(at::kDouble).contiguous()),
        shortcut_(shortcut.to(at::kDouble).contiguous()),
        weight_(norm->weight.detach().to(at::kDouble)),
        bias_(norm->bias.detach().to(at::kDouble)),
        epsilon_(norm->options.eps()) {}

  Outcome outcome() {
    Outcome outcome;
    const int64_t height = pooled(images_.size(2)), width = pooled(images_.size(3));
    outcome.result = at::zeros({images_.size(0), images_.size(1), height, width}, at::kDouble);
    const at::Tensor gradient =
        images_of({images_.size(0), images_.size(1), height, width}, 3).to(at::kDouble).contiguous();
    outcome.of_images = at::zeros_like(images_);
    outcome.of_shortcut = at::zeros_like(images_);
    for (at::Tensor* each : {&outcome.of_weight, &outcome.of_bias, &outcome.running_mean, &outcome.running_var}) {
      *each = at::zeros({images_.size(1)}, at::kDouble);
    }
    for (int64_t c = 0; c < images_.size(1); ++c) channel(c, gradient, outcome);
    return outcome;
  }

 private:
  int64_t pooled(int64_t size) const {
    return kind_ == Kind::PoolCeil ? (size + 1) / 2 : pools(kind_) ? size / 2 : size;
  }

  void channel(int64_t c, const at::Tensor& gradient, Outcome& outcome) {
    const at::Tensor x = images_.select(1, c), passed = at::zeros_like(x), normal = at::empty_like(x);
    const auto count = static_cast<double>(x.numel());
    const double mean = x.sum().item<double>() / count;
    const double squares = (x - mean).square().sum().item<double>();
    const double inverse = 1 / std::sqrt(squares / count + epsilon_);
    const double weight = weight_[c].item<double>(), bias = bias_[c].item<double>();
    outcome.running_mean[c] = 0.1 * mean;
    outcome.running_var[c] = 0.9 + 0.1 * squares / (count - 1);
    normal.copy_((x - mean) * inverse);
    at::Tensor value = normal * weight + bias;
    if (adds(kind_)) value = value + shortcut_.select(1, c);
    if (kind_ == Kind::MeanPool) {
      average(value.contiguous(), gradient.select(1, c), outcome.result.select(1, c), passed);
    } else {
      follow(value.contiguous(), gradient.select(1, c), outcome.result.select(1, c), passed);
    }
    if (adds(kind_)) outcome.of_shortcut.select(1, c).copy_(passed);
    const double sum = passed.sum().item<double>(), product = (passed * normal).sum().item<double>();
    outcome.of_bias[c] = sum;
    outcome.of_weight[c] = product;
    outcome.of_images.select(1, c).copy_((passed - sum / count - normal * (product / count)) * (weight * inverse));
  }

  /// result and the gradient that comes through to `value`, pixel by pixel.
  void follow(const at::Tensor& value, const at::Tensor& gradient, at::Tensor result, at::Tensor passed) const {
    const auto values = value.accessor<double, 3>();
    const auto gradients = gradient.accessor<double, 3>();
    auto results = result.accessor<double, 3>(), through = passed.accessor<double, 3>();
    const int64_t side = pools(kind_) ? 2 : 1;
    for (int64_t n = 0; n < result.size(0); ++n) {
      for (int64_t y = 0; y < result.size(1); ++y) {
        for (int64_t x = 0; x < result.size(2); ++x) {
          int64_t best_y = y * side, best_x = x * side;
          for (int64_t v = y * side; v < std::min((y + 1) * side, value.size(1)); ++v) {
            for (int64_t u = x * side; u < std::min((x + 1) * side, value.size(2)); ++u) {
              if (values[n][v][u] > values[n][best_y][best_x]) best_y = v, best_x = u;
            }
          }
          const double best = values[n][best_y][best_x];
          results[n][y][x] = has_relu(kind_) ? std::max(best, 0.0) : best;
          if (!has_relu(kind_) || best > 0) through[n][best_y][best_x] = gradients[n][y][x];
        }
      }
    }
  }

  /// The same of the mean of four.
  static void average(const at::Tensor& value, const at::Tensor& gradient, at::Tensor result, at::Tensor passed) {
    const auto values = value.accessor<double, 3>();
    const auto gradients = gradient.accessor<double, 3>();
    auto results = result.accessor<double, 3>(), through = passed.accessor<double, 3>();
    for (int64_t n = 0; n < result.size(0); ++n) {
      for (int64_t y = 0; y < 2 * result.size(1); ++y) {
        for (int64_t x = 0; x < 2 * result.size(2); ++x) {
          if (values[n][y][x] <= 0) continue;
          results[n][y / 2][x / 2] += values[n][y][x] / 4;
          through[n][y][x] = gradients[n][y / 2][x / 2] / 4;
        }
      }
    }
  }

  Kind kind_;
  at::Tensor images_, shortcut_, weight_, bias_;
  double epsilon_;
};

void expect_near(const Outcome& found, const Outcome& expected, double tolerance, const std::string& what) {
  EXPECT_EQ(found.result.sizes(), expected.result.sizes()) << what;
  EXPECT_LT(error_of(found.result, expected.result), tolerance) << what;
  EXPECT_LT(error_of(found.of_images, expected.of_images), tolerance) << what;
  EXPECT_LT(error_of(found.of_weight, expected.of_weight), tolerance) << what;
  EXPECT_LT(error_of(found.of_bias, expected.of_bias), tolerance) << what;
  if (found.of_shortcut.defined()) {
    EXPECT_LT(error_of(found.of_shortcut, expected.of_shortcut), tolerance) << what;
  }
  EXPECT_LT(error_of(found.running_mean, expected.running_mean), 1e-6) << what;
  EXPECT_LT(error_of(found.running_var, expected.running_var), 1e-5) << what;
}

std::string name_of(Kind kind, const Shape& shape) {
  return "kind " + std::to_string(static_cast<int>(kind)) + ", " + std::to_string(shape.batch) + " x " +
         std::to_string(shape.channels) + " x " + std::to_string(shape.height) + " x " + std::to_string(shape.width);
}

constexpr Shape shapes[] = {{2, 1, 1, 1},    {7, 3, 1, 1},    {33, 100, 1, 1}, {1, 16, 3, 5},   {2, 3, 3, 5},
                            {3, 17, 3, 5},   {33, 64, 3, 5},  {7, 100, 3, 5},  {33, 1, 3, 5},   {1, 1, 32, 32},
                            {3, 16, 32, 32}, {7, 17, 32, 32}, {2, 64, 32, 32}, {33, 3, 32, 32}, {2, 1030, 4, 3},
                            {300, 16, 5, 4}, {5, 65, 6, 7},   {9, 80, 5, 3},   {2, 144, 9, 8}};

TEST(Normalisation, IsTheFormula) {
  for (const Shape& shape : shapes) {
    for (const Kind kind : kinds) {
      if (pools(kind) && kind != Kind::PoolCeil && std::min(shape.height, shape.width) < 2) continue;
      const BatchNorm2d norm = norm_of(shape.channels);
      const at::Tensor images = images_of(shape, 1), shortcut = images_of(shape, 2);
      const Outcome expected = Formula(kind, norm, images, shortcut).outcome();
      const Outcome found = outcome_of(fused, kind, norm, images, shortcut);
      expect_near(found, expected, 2e-5, name_of(kind, shape));
      EXPECT_TRUE(found.result.is_contiguous(at::MemoryFormat::ChannelsLast));
      EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 1);
    }
  }
}

TEST(Normalisation, LosesNothingFarFromZero) {
  const Shape shape{33, 17, 9, 8};
  for (const Kind kind : kinds) {
    const BatchNorm2d norm = norm_of(shape.channels);
    const at::Tensor images = images_of(shape, 1) + 1000, shortcut = images_of(shape, 2);
    expect_near(outcome_of(fused, kind, norm, images, shortcut), Formula(kind, norm, images, shortcut).outcome(), 2e-5,
                name_of(kind, shape));
  }
}

TEST(Normalisation, OfAConstantChannelIsItsBias) {
  for (const Kind kind : kinds) {
    const BatchNorm2d norm = norm_of(16);
    at::Tensor images = images_of({3, 16, 6, 7}, 1);
    const at::Tensor shortcut = at::zeros_like(images);
    images.select(1, 3).fill_(0.1);
    images.select(1, 4).fill_(-1e6);
    expect_near(outcome_of(fused, kind, norm, images, shortcut), Formula(kind, norm, images, shortcut).outcome(), 1e-4,
                name_of(kind, {3, 16, 6, 7}));
  }
}

TEST(Normalisation, NaNStaysInItsChannel) {
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const Kind kind : kinds) {
      const BatchNorm2d norm = norm_of(16);
      at::Tensor images = images_of({3, 16, 6, 8}, 1);
      images[1][5][2][3] = wrong;
      const Outcome outcome = outcome_of(fused, kind, norm, images, images_of({3, 16, 6, 8}, 2));
      for (int64_t c = 0; c < 16; ++c) {
        EXPECT_EQ(outcome.result.select(1, c).isnan().all().item<bool>(), c == 5);
        EXPECT_EQ(outcome.result.select(1, c).isnan().any().item<bool>(), c == 5);
        EXPECT_EQ(outcome.of_images.select(1, c).isnan().any().item<bool>(), c == 5);
        EXPECT_EQ(outcome.of_weight[c].isnan().item<bool>(), c == 5);
        EXPECT_EQ(outcome.running_var[c].isnan().item<bool>(), c == 5);
      }
    }
  }
}

void expect_same_bits(const Outcome& one, const Outcome& other) {
  EXPECT_TRUE(at::equal(one.result, other.result));
  EXPECT_TRUE(at::equal(one.of_images, other.of_images));
  EXPECT_TRUE(at::equal(one.of_weight, other.of_weight));
  EXPECT_TRUE(at::equal(one.of_bias, other.of_bias));
  EXPECT_TRUE(at::equal(one.running_mean, other.running_mean));
  EXPECT_TRUE(at::equal(one.running_var, other.running_var));
}

TEST(Normalisation, HasTheSameBitsByAnyNumberOfThreads) {
  const Shape shape{33, 17, 32, 32};
  const int before = at::get_num_threads();
  for (const Kind kind : kinds) {
    const at::Tensor images = images_of(shape, 1), shortcut = images_of(shape, 2);
    at::set_num_threads(1);
    const Outcome one = outcome_of(fused, kind, norm_of(shape.channels), images, shortcut);
    at::set_num_threads(2);
    expect_same_bits(one, outcome_of(fused, kind, norm_of(shape.channels), images, shortcut));
  }
  at::set_num_threads(before);
}

/// Backward writes over gradients that nobody else holds, and over no others.
TEST(Normalisation, LeavesGradientsThatAreSeenAsTheyAre) {
  for (const Kind kind : kinds) {
    BatchNorm2d norm = norm_of(16);
    const at::Tensor images = images_of({3, 16, 6, 8}, 1).requires_grad_(true);
    const at::Tensor result = fused(kind, norm, images, images_of({3, 16, 6, 8}, 2).requires_grad_(true));
    result.retain_grad();
    const at::Tensor sum = (result * result).sum();
    sum.backward();
    EXPECT_TRUE(at::equal(result.grad(), 2 * result)) << name_of(kind, {3, 16, 6, 8});
  }
  for (const Kind kind : kinds) {
    BatchNorm2d norm = norm_of(16);
    const at::Tensor images = images_of({3, 16, 6, 8}, 1).requires_grad_(true);
    const at::Tensor result = fused(kind, norm, images, images_of({3, 16, 6, 8}, 2));
    const at::Tensor gradient = at::ones_like(result);
    torch::autograd::backward({result}, {gradient});
    EXPECT_TRUE(at::equal(gradient, at::ones_like(result))) << name_of(kind, {3, 16, 6, 8});
  }
}

TEST(Normalisation, GoesBackwardTwiceWhereTheGraphIsKept) {
  for (const Kind kind : kinds) {
    BatchNorm2d norm = norm_of(16);
    const at::Tensor images = images_of({9, 16, 6, 8}, 1).requires_grad_(true);
    const at::Tensor sum = fused(kind, norm, images, images_of({9, 16, 6, 8}, 2)).pow(2).sum();
    const std::vector<at::Tensor> inputs = {images, norm->weight, norm->bias};
    const auto first = torch::autograd::grad({sum}, inputs, {}, /*retain_graph=*/true);
    const auto second = torch::autograd::grad({sum}, inputs);
    for (size_t k = 0; k < inputs.size(); ++k) EXPECT_TRUE(at::equal(first[k], second[k]));
  }
}

/// What it is not made for: LibTorch's bits.
TEST(Normalisation, IsLibtorchsElsewhere) {
  const Shape shape{3, 5, 6, 7};
  const at::Tensor images = images_of(shape, 1), shortcut = images_of(shape, 2);
  for (const Kind kind : kinds) {
    const auto expect_libtorchs = [&](const auto& change, const at::Tensor& given) {
      BatchNorm2d one = norm_of(shape.channels), other = norm_of(shape.channels);
      change(one);
      change(other);
      const at::Tensor also = shortcut.to(given.options()).contiguous(given.suggest_memory_format());
      EXPECT_TRUE(at::equal(fused(kind, one, given, also), by_libtorch(kind, other, given, also)));
      EXPECT_TRUE(at::equal(one->running_var, other->running_var));
      EXPECT_TRUE(at::equal(one->num_batches_tracked, other->num_batches_tracked));
    };
    expect_libtorchs([](BatchNorm2d& norm) { norm->eval(); }, images);
    expect_libtorchs([](BatchNorm2d& norm) { norm->weight.set_requires_grad(false); }, images);
    expect_libtorchs([](BatchNorm2d& norm) { norm->options.momentum(std::nullopt); }, images);
    expect_libtorchs([](BatchNorm2d& norm) { norm->to(at::kDouble); }, images.to(at::kDouble));
    expect_libtorchs([](BatchNorm2d&) {}, images.contiguous());
  }
}

TEST(Normalisation, RefusesASinglePixelAsLibtorchDoes) {
  BatchNorm2d norm = norm_of(4);
  EXPECT_ANY_THROW(batch_norm_relu(norm, images_of({1, 4, 1, 1}, 1)));
}

/// The gradient of the length of a gradient, as a gradient penalty has it.
TEST(Normalisation, HasASecondDerivative) {
  const Shape shape{3, 5, 6, 7};
  for (const Kind kind : kinds) {
    std::vector<at::Tensor> seconds;
    for (const auto& operation : {fused, by_libtorch}) {
      BatchNorm2d norm = norm_of(shape.channels);
      const at::Tensor images = images_of(shape, 1).requires_grad_(true);
      const at::Tensor shortcut = images_of(shape, 2).requires_grad_(true);
      const at::Tensor sum = operation(kind, norm, images, shortcut).pow(3).sum();
      const at::Tensor gradient = torch::autograd::grad({sum}, {images}, {}, true, /*create_graph=*/true)[0];
      seconds.push_back(torch::autograd::grad({gradient.square().sum()}, {images})[0]);
    }
    EXPECT_LT(error_of(seconds[0], seconds[1].to(at::kDouble)), 1e-4) << name_of(kind, shape);
  }
}

}  // namespace
}  // namespace mma::examples
