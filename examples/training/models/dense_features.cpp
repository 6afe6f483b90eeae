#include "training/models/dense_features.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/relu.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "training/distributed/synchronised_norm.hpp"
#include "training/models/normalisation.hpp"
#include "training/models/normalisation_nodes.hpp"

namespace mma::examples {
namespace {

using namespace normalisation;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A tensor that autograd is not to see as a node's input.
struct Place {
  const at::Tensor& features;
};

/// Whether pixels lie one after the other, however far apart, and the channels of each side by side.
bool is_row_of_pixels(const at::Tensor& images) {
  const int64_t pixel = images.stride(3);
  return images.stride(1) == 1 && images.stride(2) == images.size(3) * pixel &&
         images.stride(0) == images.size(2) * images.stride(2);
}

/// to = from, of one size: LibTorch's copy of a few channels takes three times as long.
void copy_features(const at::Tensor& from, const at::Tensor& to) {
  if (!is_row_of_pixels(from) || !is_row_of_pixels(to)) {
    to.copy_(from);
    return;
  }
  copy_channels(from.numel() / from.size(1), from.size(1), from.const_data_ptr<float>(), from.stride(3),
                to.mutable_data_ptr<float>(), to.stride(3));
}

/// Writes new features after those that are there, if any: all of them, in their place.
class AppendNode : public torch::autograd::Function<AppendNode> {
 public:
  static at::Tensor forward(AutogradContext* context, const std::optional<at::Tensor>& before,
                            const at::Tensor& features, const Place& place) {
    const int64_t first = before ? before->size(1) : 0;
    context->saved_data["first"] = first;
    copy_features(features, place.features.narrow(1, first, features.size(1)));
    return alias_of(place.features.narrow(1, 0, first + features.size(1)));
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor &gradient = gradients[0], none;
    const int64_t first = context->saved_data["first"].toInt();
    const at::Tensor before = first == 0 ? none : gradient.narrow(1, 0, first);
    const at::Tensor features = gradient.narrow(1, first, gradient.size(1) - first);
    if (c10::GradMode::is_enabled()) return {before, features.contiguous(at::MemoryFormat::ChannelsLast), none};
    const at::Tensor copy = at::empty(features.sizes(), features.options(), at::MemoryFormat::ChannelsLast);
    copy_features(features, copy);
    return {before.defined() ? alias_of(before) : none, copy, none};
  }
};

/// relu(norm(features)), and the features themselves for whoever reads them next: the gradient that comes back from
/// there is added to where it is.
class DenseNormNode : public torch::autograd::Function<DenseNormNode> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& features, const at::Tensor& weight,
                               const at::Tensor& bias, const Moments& moments, double epsilon) {
    const Layout layout = layout_of(features);
    const at::Tensor statistics = moments.statistics(layout.pixels, epsilon);
    const Affine affine = affine_of(layout, statistics.const_data_ptr<double>(), weight.const_data_ptr<float>(),
                                    bias.const_data_ptr<float>());
    const at::Tensor result = at::empty(features.sizes(), features.options(), at::MemoryFormat::ChannelsLast);
    normalise_all(layout, features.const_data_ptr<float>(), nullptr, affine, true, result.mutable_data_ptr<float>());
    context->save_for_backward({features, weight, bias, statistics});
    context->saved_data["epsilon"] = epsilon;
    context->set_materialize_grads(false);
    return {result, alias_of(features)};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor none;
    if (!gradients[0].defined()) return {gradients[1], none, none, none, none};
    if (c10::GradMode::is_enabled()) return differentiable(saved, gradients, context->saved_data["epsilon"].toDouble());
    RECORD_USER_SCOPE("mma.normalisation");
    const at::Tensor gradient = own_copy(gradients[0]);
    const at::Tensor sum = gradients[1].defined() ? in_place_of(saved[0], gradients[1]) : none;
    return gradients_of(saved, gradient, sum);
  }

 private:
  static Layout layout_of(const at::Tensor& features) {
    return {features.numel() / features.size(1), features.size(1), features.stride(3)};
  }

  /// The gradient, to be added to: laid out as the features are.
  static at::Tensor in_place_of(const at::Tensor& features, const at::Tensor& gradient) {
    if (is_own(gradient) && gradient.strides() == features.strides()) return gradient;
    const at::Tensor place = at::empty({features.size(0), features.stride(3), features.size(2), features.size(3)},
                                       features.options(), at::MemoryFormat::ChannelsLast);
    return alias_of(place.narrow(1, 0, features.size(1)).copy_(gradient));
  }

  /// `sum` is what is added to, if anything.
  static variable_list gradients_of(const variable_list& saved, const at::Tensor& gradient, const at::Tensor& sum) {
    const at::Tensor &features = saved[0], &weight = saved[1], &bias = saved[2], none;
    const auto* statistics = saved[3].const_data_ptr<double>();
    const Backward pass{
        layout_of(features), features.const_data_ptr<float>(), gradient.mutable_data_ptr<float>(),
        affine_of(layout_of(features), statistics, weight.const_data_ptr<float>(), bias.const_data_ptr<float>())};
    const at::Tensor of_weight = at::empty_like(weight), of_bias = at::empty_like(bias);
    const Slopes slopes = slopes_of(pass.layout, gradient_sums(pass, true), statistics, weight.const_data_ptr<float>(),
                                    of_weight.mutable_data_ptr<float>(), of_bias.mutable_data_ptr<float>());
    const at::Tensor of_features = sum.defined() ? sum : gradient;
    input_gradient(pass, slopes, true, sum.defined() ? Target::Added : Target::InPlace,
                   of_features.mutable_data_ptr<float>());
    return {of_features, of_weight, of_bias, none, none};
  }

  static variable_list differentiable(const variable_list& saved, const variable_list& gradients, double epsilon) {
    const at::Tensor normal =
        at::batch_norm(saved[0], saved[1], saved[2], {}, {}, /*training=*/true, 0, epsilon, false);
    variable_list result =
        torch::autograd::grad({at::relu(normal)}, {saved[0], saved[1], saved[2]}, {gradients[0]}, /*retain_graph=*/true,
                              /*create_graph=*/true, /*allow_unused=*/true);
    if (gradients[1].defined()) result[0] = result[0] + gradients[1];
    result.resize(5);
    return result;
  }
};

bool have_one_place(const at::Tensor& images) {
  return c10::GradMode::is_enabled() && is_plain_image(images) && SynchronisedNorm::processes() == nullptr &&
         !at::autocast::is_autocast_enabled(at::kCPU);
}

}  // namespace

DenseFeatures::DenseFeatures(const at::Tensor& images, int64_t channels) : all_(images), moments_(0) {
  if (!have_one_place(images)) return;
  RECORD_USER_SCOPE("mma.normalisation");
  place_ = at::empty({images.size(0), channels, images.size(2), images.size(3)}, images.options(),
                     at::MemoryFormat::ChannelsLast);
  moments_ = moments_of_images(images);
  all_ = AppendNode::apply(std::nullopt, images, Place{place_});
}

at::Tensor DenseFeatures::batch_norm_relu(torch::nn::BatchNorm2d& norm) {
  if (!place_.defined() || !is_fused(*norm, all_.size(1), all_.numel())) {
    return examples::batch_norm_relu(norm, all_.contiguous(all_.suggest_memory_format()));
  }
  RECORD_USER_SCOPE("mma.normalisation");
  update_running_statistics(*norm, moments_, pixels());
  variable_list results = DenseNormNode::apply(all_, norm->weight, norm->bias, moments_, norm->options.eps());
  all_ = results[1];
  return results[0];
}

void DenseFeatures::append(const at::Tensor& features) {
  if (!place_.defined()) {
    all_ = at::cat({all_, features}, 1);
    return;
  }
  RECORD_USER_SCOPE("mma.normalisation");
  const Moments added = moments_of_images(features.contiguous(at::MemoryFormat::ChannelsLast));
  moments_.mean.insert(moments_.mean.end(), added.mean.begin(), added.mean.end());
  moments_.squares.insert(moments_.squares.end(), added.squares.begin(), added.squares.end());
  all_ = AppendNode::apply(all_, features, Place{place_});
}

}  // namespace mma::examples
