// Loading tensors by name: what is copied, and the sentence when a file does not fit.
#include "train/weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include "common/error.hpp"

namespace mma::examples {
namespace {

NamedTensors targets() {
  return {{"a", at::zeros({2, 3})}, {"b", at::zeros({4})}, {"n.num_batches_tracked", at::zeros({}, at::kLong)}};
}

NamedTensors fitting() {
  return {{"b", at::ones({4})}, {"a", at::ones({2, 3})}, {"n.num_batches_tracked", at::ones({}, at::kLong)}};
}

std::string refusal(const NamedTensors& source) {
  const NamedTensors into = targets();
  try {
    load_tensors(source, into, "w.pt");
  } catch (const UserError& error) {
    for (const auto& [name, tensor] : into) EXPECT_TRUE(at::equal(tensor, at::zeros_like(tensor))) << name;
    return error.what();
  }
  return "";
}

TEST(Weights, AreCopiedByNameWhateverTheirOrder) {
  const NamedTensors into = targets();
  load_tensors(fitting(), into, "w.pt");
  for (const auto& [name, tensor] : into) EXPECT_TRUE(at::equal(tensor, at::ones_like(tensor))) << name;
}

TEST(Weights, OfHalfPrecisionAreConverted) {
  NamedTensors source = fitting();
  source[0].second = source[0].second.to(at::kBFloat16) * 0.5;
  const NamedTensors into = targets();
  load_tensors(source, into, "w.pt");
  EXPECT_EQ(into[1].second.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(into[1].second, at::ones({4}) * 0.5));
}

TEST(Weights, OfOldFilesMayLackTheCounterOfBatches) {
  NamedTensors source = fitting();
  source.pop_back();
  EXPECT_EQ(refusal(source), "");
}

TEST(Weights, MissingAreNamedAndCounted) {
  EXPECT_EQ(refusal({}), "w.pt does not fit the network: it has no tensor 'a' (and 1 more like it)");
}

TEST(Weights, UnexpectedAreNamed) {
  NamedTensors source = fitting();
  source.emplace_back("c", at::ones({1}));
  EXPECT_EQ(refusal(source), "w.pt does not fit the network: the network has no tensor 'c'");
}

TEST(Weights, MisshapedAreNamedWithBothShapes) {
  NamedTensors source = fitting();
  source[1].second = at::ones({3, 2});
  EXPECT_EQ(refusal(source), "w.pt does not fit the network: its 'a' has the shape [3, 2], the network's [2, 3]");
}

TEST(Weights, OfIntegersAreNotTakenForNumbers) {
  NamedTensors source = fitting();
  source[1].second = at::ones({2, 3}, at::kLong);
  EXPECT_NE(refusal(source).find("'a' is of type"), std::string::npos);
}

TEST(Weights, StateHoldsParametersThenBuffers) {
  torch::nn::BatchNorm1d module(2);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : state_of(*module)) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}));
}

}  // namespace
}  // namespace mma::examples
