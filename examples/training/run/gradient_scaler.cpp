#include "training/run/gradient_scaler.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace mma::examples {

GradientScaler::GradientScaler(const at::Device& device, GradientScalerOptions options)
    : options_(options),
      scale_(at::full({1}, options.first_scale, at::TensorOptions(at::kFloat).device(device))),
      growth_tracker_(at::zeros({1}, at::TensorOptions(at::kInt).device(device))),
      found_inf_(at::zeros({1}, at::TensorOptions(at::kFloat).device(device))),
      skipped_(at::zeros({1}, at::TensorOptions(at::kLong).device(device))) {}

at::Tensor GradientScaler::scaled(const at::Tensor& loss) const { return loss * scale_.squeeze(); }

void GradientScaler::unscale(const std::vector<at::Tensor>& gradients) {
  const c10::NoGradGuard no_grad;
  found_inf_.zero_();
  // As torch.amp: the reciprocal in float64, so that it is exact for a power of two.
  at::_amp_foreach_non_finite_check_and_unscale_(gradients, found_inf_,
                                                 scale_.to(at::kDouble).reciprocal().to(at::kFloat));
}

void GradientScaler::update() {
  const c10::NoGradGuard no_grad;
  skipped_.add_(found_inf_.ne(0));
  at::_amp_update_scale_(scale_, growth_tracker_, found_inf_, options_.growth_factor, options_.backoff_factor,
                         options_.growth_interval);
}

int64_t GradientScaler::skipped_steps() const { return skipped_.cpu().item<int64_t>(); }
void GradientScaler::set_skipped_steps(int64_t count) { skipped_.fill_(count); }
double GradientScaler::scale() const { return static_cast<double>(scale_.cpu().item<float>()); }

NamedTensors GradientScaler::state() const { return {{"scale", scale_}, {"growth_tracker", growth_tracker_}}; }

}  // namespace mma::examples
