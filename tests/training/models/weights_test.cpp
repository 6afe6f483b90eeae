// Loading tensors by name: what is copied, and the sentence when a file does not fit.
#include "training/models/weights.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>

#include "support/process/error.hpp"

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
  source.emplace_back("d", at::ones({1}));
  EXPECT_EQ(refusal(source), "w.pt does not fit the network: the network has no tensors 'c', 'd'");
  for (int i = 0; i < 30; ++i) source.emplace_back("x" + std::to_string(i), at::ones({1}));
  EXPECT_TRUE(refusal(source).ends_with(" and 12 more")) << refusal(source);
}

NamedTensors renamed(const std::string& prefix) {
  NamedTensors source = fitting();
  for (auto& [name, tensor] : source) name.insert(0, prefix);
  return source;
}

TEST(Weights, PrefixesThatAllNamesShareAreTakenOff) {
  for (const char* prefix : {"", "module.", "_orig_mod.", "model.", "module._orig_mod.model.", "net.backbone."}) {
    EXPECT_EQ(refusal(fitted_to(targets(), renamed(prefix)).tensors), "") << prefix;
  }
  NamedTensors partly = renamed("model.");
  partly.emplace_back("loss.weight", at::ones({2, 3}));
  EXPECT_NE(refusal(fitted_to(targets(), partly).tensors), "");
}

TEST(Weights, PrefixesThatTheNetworkHasStay) {
  const NamedTensors into = {{"model.a", at::zeros({1})}};
  EXPECT_EQ(fitted_to(into, {{"model.a", at::ones({1})}}).tensors.front().first, "model.a");
  EXPECT_EQ(fitted_to(into, {{"model.model.a", at::ones({1})}}).tensors.front().first, "model.a");
}

TEST(Weights, NumbersThatToolsLeaveAreIgnoredWithAWord) {
  NamedTensors source = renamed("module.");
  source.emplace_back("total_ops", at::ones({1}, at::kDouble));
  source.emplace_back("module.a.total_params", at::ones({1}, at::kDouble));
  const FittedTensors fitted = fitted_to(targets(), source);
  EXPECT_EQ(refusal(fitted.tensors), "");
  EXPECT_EQ(fitted.words, "ignored, numbers that no layer has: 'total_ops', 'module.a.total_params'\n");
}

TEST(Weights, OfReparametrisedLayersAreMade) {
  NamedTensors source = renamed("model.");
  source[1] = {"model.a_orig", at::ones({2, 3}) * 2};
  source.emplace_back("model.a_mask", at::ones({2, 3}) * 0.5);
  const FittedTensors fitted = fitted_to(targets(), source);
  const NamedTensors into = targets();
  load_tensors(fitted.tensors, into, "w.pt");
  EXPECT_TRUE(at::equal(into[0].second, at::ones({2, 3})));
  EXPECT_EQ(fitted.words, "made of what is stored: 'model.a (pruned)'\n");
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
