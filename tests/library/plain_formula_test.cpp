// What Eq 6 does when it is written in a few tensor operations and left to autograd, as the paper's own code does it
// (cosines clamped to +-0.99999): the facts of README's comparison. Not a test of this library.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace {

at::Tensor plain_loss(const at::Tensor& weight) {
  const at::Tensor rows = weight.dim() > 2 ? weight.view({weight.size(0), -1}) : weight;
  const at::Tensor unit = rows / rows.norm(2, 1, true).clamp_min(1e-12);
  at::Tensor cosines = at::matmul(unit, unit.t());
  cosines = cosines - 2 * at::diag(at::diag(cosines));
  return -at::acos(std::get<0>(cosines.max(1)).clamp(-0.99999, 0.99999)).mean();
}

at::Tensor plain_gradient_of(const at::Tensor& weight) {
  const at::Tensor leaf = weight.detach().clone().requires_grad_();
  plain_loss(leaf).backward();
  return leaf.grad();
}

at::Tensor pair_at(double angle) {
  return at::tensor({1.0, 0.0, std::cos(angle), std::sin(angle)}).reshape({2, 2}).to(at::kFloat);
}

TEST(PlainFormula, AnglesBelowTheClampAreWrongAndHaveNoGradient) {
  EXPECT_NEAR(-plain_loss(pair_at(1e-4)).item<double>(), 4.47e-3, 1e-4);  // arccos(0.99999), 45 times too large
  EXPECT_EQ(plain_gradient_of(pair_at(1e-4)).abs().max().item<double>(), 0);
}

TEST(PlainFormula, DuplicatesNeverPart) { EXPECT_EQ(plain_gradient_of(pair_at(0)).abs().max().item<double>(), 0); }

TEST(PlainFormula, AntipodesAreClamped) { EXPECT_NEAR(-plain_loss(pair_at(M_PI)).item<double>(), 3.137, 1e-3); }

TEST(PlainFormula, AZeroRowExplodes) {
  at::Tensor rows = at::randn({4, 5});
  rows[1].zero_();
  EXPECT_GT(plain_gradient_of(rows)[1].norm().item<double>(), 1e11);
}

TEST(PlainFormula, OneRowPretendsToAnAngle) { EXPECT_NEAR(plain_loss(at::ones({1, 5})).item<double>(), -3.137, 1e-3); }

TEST(PlainFormula, ChannelsLastThrows) {
  EXPECT_THROW(plain_loss(at::randn({4, 3, 3, 3}).contiguous(at::MemoryFormat::ChannelsLast)), c10::Error);
}

/// Not finite; since LibTorch 2.15 zero.
TEST(PlainFormula, NearPairsInBfloat16HaveNoGradient) {
  const at::Tensor gradient = plain_gradient_of(pair_at(1e-3).to(at::kBFloat16));
  EXPECT_FALSE(gradient.isfinite().all().item<bool>() && gradient.any().item<bool>());
}

TEST(PlainFormula, ConvTransposeRowsAreInputChannels) {
  const at::Tensor weight = at::randn({5, 7, 3, 3});
  EXPECT_EQ(plain_loss(weight).item<double>(), plain_loss(weight.reshape({5, 63})).item<double>());
}

}  // namespace
