#include "training/models/normalisation.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/avg_pool2d.h>
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

#include <optional>
#include <utility>

#include "training/distributed/synchronised_norm.hpp"
#include "training/models/normalisation_nodes.hpp"

namespace mma::examples::normalisation {
namespace {

bool is_plain(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat;
}
bool is_plain_vector(const at::Tensor& vector, int64_t size) {
  return vector.defined() && is_plain(vector) && vector.is_contiguous() && vector.numel() == size;
}

}  // namespace

bool is_plain_image(const at::Tensor& images) {
  return images.dim() == 4 && is_plain(images) && images.is_contiguous(at::MemoryFormat::ChannelsLast);
}

bool is_fused(const torch::nn::BatchNorm2dImpl& norm, int64_t channels, int64_t entries) {
  if (!norm.is_training() || !norm.options.momentum() || SynchronisedNorm::processes() != nullptr) return false;
  return channels > 0 && entries > channels && is_plain_vector(norm.weight, channels) &&
         is_plain_vector(norm.bias, channels) && is_plain_vector(norm.running_mean, channels) &&
         is_plain_vector(norm.running_var, channels) && norm.weight.requires_grad() && norm.bias.requires_grad() &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

Moments moments_of_images(const at::Tensor& images) {
  return moments_of({images.numel() / images.size(1), images.size(1)}, images.const_data_ptr<float>());
}

void update_running_statistics(torch::nn::BatchNorm2dImpl& norm, const Moments& moments, int64_t count) {
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

bool is_own(const at::Tensor& gradient) { return gradient.use_count() == 1 && gradient.storage().use_count() == 1; }

at::Tensor own_copy(const at::Tensor& gradient) {
  if (is_own(gradient) && gradient.is_contiguous(at::MemoryFormat::ChannelsLast)) return gradient;
  return gradient.clone(at::MemoryFormat::ChannelsLast);
}

at::Tensor alias_of(const at::Tensor& tensor) { return tensor.variable_data(); }

}  // namespace mma::examples::normalisation

namespace mma::examples {
namespace {

using namespace normalisation;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using torch::nn::BatchNorm2d;
using torch::nn::BatchNorm2dImpl;

enum class Following { Nothing, Relu, Add, AddRelu, ReluMaxPool, ReluMaxPoolCeil, ReluMeanPool };

bool is_relu(Following following) { return following != Following::Nothing && following != Following::Add; }
bool adds(Following following) { return following == Following::Add || following == Following::AddRelu; }
bool is_pooled(Following following) { return following >= Following::ReluMaxPool; }
Pooling pooling_of(Following following) { return following == Following::ReluMeanPool ? Pooling::Mean : Pooling::Max; }

Layout layout_of(const at::Tensor& images) { return {images.numel() / images.size(1), images.size(1)}; }

at::Tensor empty_result(const at::Tensor& images, Following following) {
  if (!is_pooled(following)) return at::empty_like(images);
  const Windows windows(images, following == Following::ReluMaxPoolCeil);
  return at::empty({images.size(0), windows.channels, windows.pooled_height, windows.pooled_width}, images.options(),
                   at::MemoryFormat::ChannelsLast);
}

/// int32: what the relu of a sum lets through
at::Tensor empty_marks(const at::Tensor& images, Following following) {
  return following == Following::AddRelu ? at::empty({words_of(layout_of(images))}, at::kInt) : at::Tensor();
}
uint32_t* words_in(const at::Tensor& marks) { return static_cast<uint32_t*>(marks.data_ptr()); }

void write_result(const at::Tensor& images, const float* shortcut, const Affine& affine, Following following,
                  const at::Tensor& result, const at::Tensor& marks) {
  const auto* x = images.const_data_ptr<float>();
  auto* out = result.mutable_data_ptr<float>();
  if (following == Following::AddRelu) {
    normalise_and_mark(layout_of(images), x, shortcut, affine, out, words_in(marks));
  } else if (is_pooled(following)) {
    pool_all(Windows(images, following == Following::ReluMaxPoolCeil), pooling_of(following), x, affine, out);
  } else {
    normalise_all(layout_of(images), x, shortcut, affine, is_relu(following), out);
  }
}

/// By LibTorch's operations, for a gradient that is differentiated itself.
at::Tensor by_libtorch(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                       Following following) {
  const at::Tensor normal = at::batch_norm(images, weight, bias, {}, {}, /*training=*/true, 0, epsilon, false);
  if (!is_relu(following) || following == Following::AddRelu) return normal;
  const at::Tensor active = at::relu(normal);
  if (!is_pooled(following)) return active;
  if (following == Following::ReluMeanPool) return at::avg_pool2d(active, 2);
  return at::max_pool2d(active, 2, 2, 0, 1, following == Following::ReluMaxPoolCeil);
}

/// The one node of autograd for all of them.
class NormalisationNode : public torch::autograd::Function<NormalisationNode> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& images, const at::Tensor& weight,
                            const at::Tensor& bias, const std::optional<at::Tensor>& shortcut, BatchNorm2dImpl& norm,
                            Following following) {
    const Layout layout = layout_of(images);
    const Moments moments = moments_of_images(images);
    update_running_statistics(norm, moments, layout.pixels);
    const at::Tensor statistics = moments.statistics(layout.pixels, norm.options.eps());
    const Affine affine = affine_of(layout, statistics.const_data_ptr<double>(), weight.const_data_ptr<float>(),
                                    bias.const_data_ptr<float>());
    const at::Tensor result = empty_result(images, following), marks = empty_marks(images, following);
    write_result(images, shortcut ? shortcut->const_data_ptr<float>() : nullptr, affine, following, result, marks);
    context->save_for_backward(
        {images, weight, bias, statistics, following == Following::AddRelu ? result : at::Tensor(), marks});
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
  static variable_list gradients_of(const variable_list& saved, const at::Tensor& gradient, Following following,
                                    bool of_images) {
    const at::Tensor &images = saved[0], &weight = saved[1], &bias = saved[2], &result = saved[4];
    const auto* statistics = saved[3].const_data_ptr<double>();
    const Layout layout = layout_of(images);
    const Windows windows(images, following == Following::ReluMaxPoolCeil);
    const Backward pass{layout, images.const_data_ptr<float>(), gradient.mutable_data_ptr<float>(),
                        affine_of(layout, statistics, weight.const_data_ptr<float>(), bias.const_data_ptr<float>())};
    Numbers sums;
    if (is_pooled(following)) {
      sums = pooled_gradient_sums(pass, windows, pooling_of(following));
    } else if (following == Following::AddRelu) {
      sums = gradient_sums_of_sum(pass, result.const_data_ptr<float>(), words_in(saved[5]));
    } else {
      sums = gradient_sums(pass, following == Following::Relu);
    }
    const at::Tensor of_weight = at::empty_like(weight), of_bias = at::empty_like(bias);
    const Slopes slopes = slopes_of(layout, sums, statistics, weight.const_data_ptr<float>(),
                                    of_weight.mutable_data_ptr<float>(), of_bias.mutable_data_ptr<float>());
    const at::Tensor of_shortcut = adds(following) ? gradient : at::Tensor();
    const at::Tensor none;
    if (!of_images) return {none, of_weight, of_bias, of_shortcut, none, none};
    const at::Tensor of_input = adds(following) || is_pooled(following) ? at::empty_like(images) : gradient;
    auto* out = of_input.mutable_data_ptr<float>();
    if (is_pooled(following)) {
      pooled_input_gradient(pass, windows, pooling_of(following), slopes, out);
    } else if (adds(following)) {
      input_gradient(pass, slopes, false, Target::Fresh, out);
    } else {
      input_gradient(pass, slopes, following == Following::Relu, Target::InPlace, out);
    }
    return {of_input, of_weight, of_bias, of_shortcut, none, none};
  }

  static variable_list differentiable(const variable_list& saved, const at::Tensor& gradient, double epsilon,
                                      Following following) {
    const variable_list inputs = {saved[0], saved[1], saved[2]};
    const at::Tensor result = by_libtorch(saved[0], saved[1], saved[2], epsilon, following);
    const at::Tensor let_through =
        following == Following::AddRelu ? at::threshold_backward(gradient, saved[4].detach(), 0) : gradient;
    variable_list gradients = torch::autograd::grad({result}, inputs, {let_through}, /*retain_graph=*/true,
                                                    /*create_graph=*/true, /*allow_unused=*/true);
    const at::Tensor none;
    gradients.insert(gradients.end(), {adds(following) ? let_through : none, none, none});
    return gradients;
  }
};

bool is_fused(const BatchNorm2dImpl& norm, const at::Tensor& images) {
  return is_plain_image(images) && normalisation::is_fused(norm, images.size(1), images.numel());
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

at::Tensor batch_norm_relu_mean_pool(BatchNorm2d& norm, const at::Tensor& images) {
  if (is_fused(*norm, images) && images.size(2) >= 2 && images.size(3) >= 2) {
    return fused(norm, images, {}, Following::ReluMeanPool);
  }
  return at::avg_pool2d(plain(norm, images).relu_(), 2);
}

}  // namespace mma::examples
