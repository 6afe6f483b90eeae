#include "training/run/weight_average.hpp"

#include <ATen/ops/_foreach_lerp.h>
#include <c10/core/GradMode.h>

namespace mma::examples {

WeightAverage::WeightAverage(const torch::nn::Module& model, double decay) : decay_(decay) {
  for (const auto& [name, tensor] : state_of(model)) average_.emplace_back(name, tensor.detach().clone());
}

void WeightAverage::add(const torch::nn::Module& model) {
  const c10::NoGradGuard no_grad;
  std::vector<at::Tensor> to, from;
  const NamedTensors weights = state_of(model);
  for (size_t k = 0; k < weights.size(); ++k) {
    const at::Tensor& weight = weights[k].second;
    at::Tensor& average = average_[k].second;
    if (!weight.is_floating_point()) {
      average.copy_(weight);
      continue;
    }
    to.push_back(average);
    from.push_back(weight);
  }
  at::_foreach_lerp_(to, from, 1 - decay_);
}

AverageInPlace::AverageInPlace(WeightAverage& average, torch::nn::Module& model) : average_(average), model_(model) {
  swap();
}

AverageInPlace::~AverageInPlace() { swap(); }

void AverageInPlace::swap() const {
  const c10::NoGradGuard no_grad;
  const NamedTensors weights = state_of(model_);
  for (size_t k = 0; k < weights.size(); ++k) {
    at::Tensor weight = weights[k].second, &average = average_.average_[k].second;
    const at::Tensor before = weight.clone();
    weight.copy_(average);
    average.copy_(before);
  }
}

}  // namespace mma::examples
