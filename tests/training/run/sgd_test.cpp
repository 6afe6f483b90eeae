// SGD against its formula, written out element by element in double precision.
#include "training/run/sgd.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace mma::examples {
namespace {

/// w and v of one element after a step.
void plain_step(double gradient, double rate, const SgdOptions& options, bool of_filter, double& w, double& v) {
  const double g = gradient + (of_filter || !options.decay_filters_only ? options.weight_decay * w : 0);
  v = options.momentum * v + g;
  w -= rate * (options.nesterov ? g + options.momentum * v : v);
}

std::vector<double> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().reshape(-1).to(at::kDouble);
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

class SgdFormula : public testing::TestWithParam<SgdOptions> {};

TEST_P(SgdFormula, HoldsForSeveralStepsAndRates) {
  auto generator = at::detail::createCPUGenerator(3);
  const auto draw = [&](at::IntArrayRef shape) { return at::randn(shape, generator, at::kDouble); };
  const std::vector<std::vector<int64_t>> shapes = {{5}, {4, 3, 3, 3}, {7}, {3, 2}};
  NamedTensors parameters;
  std::vector<std::vector<double>> w, v;
  for (const auto& shape : shapes) {
    const at::Tensor parameter = draw(shape);
    w.push_back(values_of(parameter));
    v.emplace_back(w.back().size(), 0.0);
    parameters.emplace_back(std::string("p").append(std::to_string(parameters.size())), parameter);
  }
  Sgd sgd(parameters, GetParam());
  for (const double rate : {0.1, 0.1, 0.01, 0.01}) {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const at::Tensor gradient = draw(shapes[i]);
      parameters[i].second.mutable_grad() = gradient.clone();
      const std::vector<double> g = values_of(gradient);
      for (size_t k = 0; k < g.size(); ++k) plain_step(g[k], rate, GetParam(), shapes[i].size() > 1, w[i][k], v[i][k]);
    }
    sgd.set_learning_rate(rate);
    sgd.step();
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const std::vector<double> updated = values_of(parameters[i].second);
    for (size_t k = 0; k < updated.size(); ++k) EXPECT_NEAR(updated[k], w[i][k], 1e-12);
  }
  ASSERT_EQ(sgd.momentum_buffers().size(), GetParam().momentum > 0 ? parameters.size() : 0);
  for (size_t i = 0; i < sgd.momentum_buffers().size(); ++i) {
    const auto& [name, buffer] = sgd.momentum_buffers()[i];
    const std::vector<double> momentum = values_of(buffer);
    EXPECT_EQ(name, parameters[i].first);
    for (size_t k = 0; k < momentum.size(); ++k) EXPECT_NEAR(momentum[k], v[i][k], 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(AllVariants, SgdFormula,
                         testing::Values(SgdOptions{0, 0, false}, SgdOptions{0.9, 0, false},
                                         SgdOptions{0.9, 5e-4, false}, SgdOptions{0.9, 5e-4, true},
                                         SgdOptions{0.9, 0.1, true, true}, SgdOptions{0, 0.1, false, true}));

TEST(Sgd, UpdatesWeightsInAnotherMemoryOrderTheSame) {
  auto generator = at::detail::createCPUGenerator(5);
  const at::Tensor plain = at::randn({4, 3, 3, 3}, generator, at::kFloat);
  const at::Tensor channels_last = plain.clone(at::MemoryFormat::ChannelsLast);
  const at::Tensor gradient = at::randn({4, 3, 3, 3}, generator, at::kFloat);
  Sgd first({{"w", plain}}, {});
  Sgd second({{"w", channels_last}}, {});
  for (Sgd* sgd : {&first, &second}) sgd->set_learning_rate(0.1);
  for (int step = 0; step < 3; ++step) {
    plain.mutable_grad() = gradient.clone();
    channels_last.mutable_grad() = gradient.clone(at::MemoryFormat::ChannelsLast);
    first.step();
    second.step();
  }
  EXPECT_TRUE(at::equal(plain, channels_last));
}

TEST(Sgd, ForgetsGradients) {
  at::Tensor parameter = at::randn({2});
  parameter.mutable_grad() = at::randn({2});
  Sgd sgd({{"w", parameter}}, {});
  sgd.zero_grad();
  EXPECT_FALSE(parameter.grad().defined());
}

}  // namespace
}  // namespace mma::examples
