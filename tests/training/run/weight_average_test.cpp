// The moving average of a network's weights against its formula, and that testing leaves the weights alone.
#include "training/run/weight_average.hpp"

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>

namespace mma::examples {
namespace {

TEST(WeightAverage, IsTheFormulasOfParametersAndStatistics) {
  const at::Generator random = at::detail::createCPUGenerator(1);
  torch::nn::BatchNorm1d model(3);
  const c10::NoGradGuard no_grad;
  const double decay = 0.75;
  std::vector<std::vector<double>> expected;
  for (const auto& [name, tensor] : state_of(*model)) {
    const at::Tensor flat = tensor.to(at::kDouble).reshape(-1);
    expected.emplace_back(flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel());
  }
  WeightAverage average(*model, decay);
  for (int step = 0; step < 5; ++step) {
    size_t k = 0;
    for (const auto& [name, tensor] : state_of(*model)) {
      at::Tensor weight = tensor;
      weight.is_floating_point() ? weight.copy_(at::randn(weight.sizes(), random)) : weight.add_(1);
      const at::Tensor flat = weight.to(at::kDouble).reshape(-1);
      for (int64_t i = 0; i < flat.numel(); ++i) {
        double& mean = expected[k][static_cast<size_t>(i)];
        const double value = flat[i].item<double>();
        mean = weight.is_floating_point() ? decay * mean + (1 - decay) * value : value;
      }
      ++k;
    }
    average.add(*model);
  }
  size_t k = 0;
  for (const auto& [name, tensor] : average.state()) {
    const at::Tensor flat = tensor.to(at::kDouble).reshape(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      EXPECT_NEAR(flat[i].item<double>(), expected[k][static_cast<size_t>(i)], 1e-6) << name;
    }
    ++k;
  }
}

TEST(WeightAverage, IsInPlaceOnlyWhileItIsTested) {
  torch::nn::BatchNorm1d model(3);
  const c10::NoGradGuard no_grad;
  WeightAverage average(*model, 0.5);
  model->weight.fill_(7);
  const void* memory = model->weight.data_ptr();
  {
    const AverageInPlace in_place(average, *model);
    EXPECT_EQ(model->weight[0].item<double>(), 1);
  }
  EXPECT_EQ(model->weight[0].item<double>(), 7);
  EXPECT_EQ(average.state().front().second[0].item<double>(), 1);
  EXPECT_EQ(model->weight.data_ptr(), memory);  // a captured step goes on with it
}

}  // namespace
}  // namespace mma::examples
