#include "training/distributed/synchronised_norm.hpp"

#include <ATen/Functions.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <numeric>

namespace mma::examples {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Processes*& current() {
  static thread_local Processes* processes = nullptr;
  return processes;
}

/// All dimensions but the channels'.
std::vector<int64_t> reduced_dimensions(const at::Tensor& images) {
  std::vector<int64_t> dimensions(static_cast<size_t>(images.dim()));
  std::iota(dimensions.begin(), dimensions.end(), 0);
  dimensions.erase(dimensions.begin() + 1);
  return dimensions;
}

/// Numbers a channel, to broadcast over the images.
at::Tensor by_channel(const at::Tensor& numbers, const at::Tensor& images) {
  std::vector<int64_t> shape(static_cast<size_t>(images.dim()), 1);
  shape[1] = images.size(1);
  return numbers.to(images.scalar_type()).view(shape);
}

struct MomentsOfAll {
  at::Tensor mean, variance;  ///< float64 [C], the variance with its bias
  at::Tensor count;           ///< float64, a scalar: values of a channel, of all processes
};

/// The sums of all processes in float64, made of each one's mean and variance, which LibTorch finds without
/// cancellation.
MomentsOfAll moments_of(const at::Tensor& images, Processes& processes) {
  const int64_t channels = images.size(1), count = images.numel() / channels;
  at::Tensor sums = at::zeros({2 * channels + 1}, images.options().dtype(at::kDouble).memory_format(std::nullopt));
  if (count > 0) {
    const auto [variance, mean] = at::var_mean(images, reduced_dimensions(images), /*correction=*/0);
    const at::Tensor exact = mean.to(at::kDouble);
    sums.narrow(0, 0, channels).copy_(exact * count);
    sums.narrow(0, channels, channels).copy_((variance.to(at::kDouble) + exact * exact) * count);
    sums[2 * channels].fill_(count);
  }
  processes.add_up(sums);
  const at::Tensor all = sums[2 * channels];
  const at::Tensor mean = sums.narrow(0, 0, channels) / all;
  return {mean, (sums.narrow(0, channels, channels) / all - mean * mean).clamp_min(0), all};
}

void update_running_statistics(const NormState& state, const MomentsOfAll& moments) {
  if (!state.running_mean.defined()) return;
  const at::Tensor unbiased = moments.variance * (moments.count / (moments.count - 1));
  state.running_mean.lerp_(moments.mean.to(state.running_mean.scalar_type()), state.momentum);
  state.running_var.lerp_(unbiased.to(state.running_var.scalar_type()), state.momentum);
  if (state.batches.defined()) state.batches.add_(1);
}

class SynchronisedNormNode : public torch::autograd::Function<SynchronisedNormNode> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& images, const at::Tensor& weight,
                            const at::Tensor& bias, const NormState& state, Processes& processes) {
    const MomentsOfAll moments = moments_of(images, processes);
    update_running_statistics(state, moments);
    const at::Tensor inverse = (moments.variance + state.epsilon).rsqrt();
    const at::Tensor scale = weight.to(at::kDouble) * inverse;
    context->save_for_backward({images, weight, moments.mean, inverse, moments.count});
    context->saved_data["processes"] = reinterpret_cast<int64_t>(&processes);
    return (images - by_channel(moments.mean, images)) * by_channel(scale, images) + by_channel(bias, images);
  }

  /// With g the gradient and x' the normalised images: w / deviation * (g - mean(g) - x' mean(g x')), the means of the
  /// whole batch. The gradients of weight and bias are this process's share: they are averaged with all the others.
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &images = saved[0], &weight = saved[1], &inverse = saved[3], &count = saved[4];
    auto& processes = *reinterpret_cast<Processes*>(context->saved_data["processes"].toInt());
    const int64_t channels = images.size(1);
    const at::Tensor normal = (images - by_channel(saved[2], images)) * by_channel(inverse, images);
    const std::vector<int64_t> dimensions = reduced_dimensions(images);
    const at::Tensor of_bias = gradients[0].sum(dimensions, false, at::kDouble);
    const at::Tensor of_weight = (gradients[0] * normal).sum(dimensions, false, at::kDouble);
    at::Tensor sums = at::cat({of_bias, of_weight});
    processes.add_up(sums);
    const at::Tensor means = sums / count, scale = weight.to(at::kDouble) * inverse;
    const at::Tensor of_images = (gradients[0] - by_channel(means.narrow(0, 0, channels), images) -
                                  normal * by_channel(means.narrow(0, channels, channels), images)) *
                                 by_channel(scale, images);
    return {of_images, of_weight.to(weight.scalar_type()), of_bias.to(weight.scalar_type()), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

SynchronisedNorm::SynchronisedNorm(Processes& processes) : before_(current()) {
  if (processes.are_several()) current() = &processes;
}

SynchronisedNorm::~SynchronisedNorm() { current() = before_; }

Processes* SynchronisedNorm::processes() { return current(); }

at::Tensor synchronised_batch_norm(const at::Tensor& images, const NormState& state, Processes& processes) {
  const at::Tensor wide =
      images.scalar_type() == at::kHalf || images.scalar_type() == at::kBFloat16 ? images.to(at::kFloat) : images;
  return SynchronisedNormNode::apply(wide, state.weight, state.bias, state, processes).to(images.scalar_type());
}

}  // namespace mma::examples
