// The weights that reparametrised and pruned layers make, against the formulas written out; names and words.
#include "support/files/made_weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

namespace mma::examples {
namespace {

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

const at::Tensor v = at::tensor({3.0, 4.0, 0.0, 5.0, 12.0, 84.0}, at::kDouble).reshape({2, 3});  // norms 5 and 85

MadeWeight only(const Tensors& tensors) {
  const std::vector<MadeWeight> made = made_weights(tensors);
  EXPECT_EQ(made.size(), 1u);
  return made.at(0);
}

void expect_close(const at::Tensor& actual, const at::Tensor& expected) {
  EXPECT_TRUE(actual.allclose(expected, 1e-12, 1e-12)) << actual << expected;
}

TEST(MadeWeights, WeightNorm) {
  const at::Tensor g = at::tensor({10.0, 85.0}, at::kDouble).reshape({2, 1});
  const at::Tensor expected = at::tensor({6.0, 8.0, 0.0, 5.0, 12.0, 84.0}, at::kDouble).reshape({2, 3});
  for (const auto& [first, second] :
       {std::pair{"a.weight_g", "a.weight_v"},
        std::pair{"a.parametrizations.weight.original0", "a.parametrizations.weight.original1"}}) {
    const MadeWeight weight = only({{first, g}, {second, v}});
    EXPECT_EQ(weight.name, "a.weight");
    EXPECT_EQ(weight.note, "weight_norm");
    expect_close(weight.tensor, expected);
  }
}

TEST(MadeWeights, WeightNormOfColumnsAndOfAll) {
  const MadeWeight columns = only({{"weight_g", at::ones({1, 3}, at::kDouble)}, {"weight_v", v}});
  EXPECT_NEAR(columns.tensor[0][0].item<double>(), 3 / std::sqrt(9.0 + 25), 1e-12);
  EXPECT_NEAR(columns.tensor[1][1].item<double>(), 12 / std::sqrt(16.0 + 144), 1e-12);
  const MadeWeight all = only({{"weight_g", at::ones({}, at::kDouble)}, {"weight_v", v}});
  EXPECT_NEAR(all.tensor[1][2].item<double>(), 84 / std::sqrt(25.0 + 7225), 1e-12);
}

TEST(MadeWeights, SpectralNorm) {
  const at::Tensor u = at::tensor({0.6, 0.8}, at::kDouble), right = at::tensor({1.0, 0.0, 0.0}, at::kDouble);
  const double sigma = 0.6 * 3 + 0.8 * 5;
  for (const std::string& original :
       {std::string("a.weight_orig"), std::string("a.parametrizations.weight.original")}) {
    const bool old = original.ends_with("_orig");
    const std::string parts = old ? "a.weight" : "a.parametrizations.weight.0.";
    const MadeWeight weight = only({{original, v}, {parts + "_u", u}, {parts + "_v", right}});
    EXPECT_EQ(weight.name, "a.weight");
    EXPECT_EQ(weight.note, "spectral_norm");
    expect_close(weight.tensor, v / sigma);
  }
  // Before PyTorch 1.1 there was no v: W' u, normalised.
  const double length = std::sqrt(5.8 * 5.8 + 12.0 * 12.0 + 67.2 * 67.2);
  expect_close(only({{"weight_orig", v}, {"weight_u", u}}).tensor, v / length);
}

TEST(MadeWeights, Pruned) {
  const at::Tensor mask = at::tensor({0.0, 1.0, 1.0, 1.0, 0.0, 1.0}).reshape({2, 3});
  const MadeWeight weight = only({{"a.weight_orig", v}, {"a.weight_mask", mask}});
  EXPECT_EQ(weight.name, "a.weight");
  EXPECT_EQ(weight.note, "pruned");
  EXPECT_TRUE(weight.tensor.equal(at::tensor({0.0, 4.0, 0.0, 5.0, 0.0, 84.0}, at::kDouble).reshape({2, 3})));
}

TEST(MadeWeights, OthersAreShownAsStoredAndSaidSo) {
  EXPECT_EQ(only({{"a.weight_orig", v}}).note, "as stored in a.weight_orig");
  const std::vector<MadeWeight> made = made_weights({{"a.parametrizations.weight.original", v},
                                                     {"a.parametrizations.weight.0._u", at::ones({2}, at::kDouble)},
                                                     {"a.parametrizations.weight.1.base", v}});
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(made[0].name, "a.weight");
  EXPECT_EQ(made[0].note, "as stored, before its parametrization");
  EXPECT_TRUE(made[0].tensor.equal(v));
}

TEST(MadeWeights, PartsThatDoNotFitAreLeftAsTheyAre) {
  const at::Tensor five = at::ones({5, 1}, at::kDouble);
  for (const Tensors& tensors :
       {Tensors{{"weight_g", five}, {"weight_v", v}}, Tensors{{"weight_v", v}},
        Tensors{{"weight_g", at::ones({2, 3}, at::kDouble)}, {"weight_v", v}},
        Tensors{{"weight_orig", v}, {"weight_mask", five}},
        Tensors{{"weight_g", at::ones({2, 1})}, {"weight_v", v}, {"weight", v}},
        Tensors{{"x_v", at::ones({3})}, {"x_g", at::ones({3})}}, Tensors{{"parametrizations.original", v}}}) {
    const std::vector<MadeWeight> made = made_weights(tensors);
    ASSERT_EQ(made.size(), tensors.size());
    for (size_t i = 0; i < made.size(); ++i) {
      EXPECT_EQ(made[i].name, tensors[i].first);
      EXPECT_EQ(made[i].note, "");
    }
  }
}

}  // namespace
}  // namespace mma::examples
