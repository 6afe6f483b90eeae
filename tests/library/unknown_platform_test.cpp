// On a platform that is not known the library compiles, loops are plain and give the same numbers, no library is ever
// found, and patterns are what they are.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorIterator.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn.h>
#include <torch/optim/lbfgs.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "reference.hpp"

#undef __linux__  // after the headers of the system and of LibTorch
#undef __x86_64__
#include <mma/mma.hpp>
#include <mma/tammes.hpp>

#ifdef RTLD_NOW
#error "platform.hpp includes <dlfcn.h> where __linux__ is not defined"
#endif

namespace {

using mma::detail::SharedLibrary;

TEST(UnknownPlatform, NoLibraryIsEverFound) {
  for (const SharedLibrary& library : {SharedLibrary(), SharedLibrary("libm.so.6")}) {
    EXPECT_FALSE(library);
    EXPECT_EQ(library.folder(), "");
    void (*function)() = [] {};
    library.find(function, "malloc");
    EXPECT_EQ(function, nullptr);
  }
  void (*function)() = [] {};
  SharedLibrary::find_in_process(function, "malloc");
  EXPECT_EQ(function, nullptr);
}

TEST(UnknownPlatform, LossAndGradientAreThePlainFormulas) {
  EXPECT_EQ(mma::detail::pairs::loops::narrowest, 1);
  for (const auto type : {at::kFloat, at::kDouble}) {
    const at::Tensor weight = at::randn({33, 37}, at::detail::createCPUGenerator(1), type).requires_grad_();
    const at::Tensor loss = mma::minimal_angle_loss(weight);
    EXPECT_NEAR(loss.item<double>(), reference::minimal_angle_loss(weight), 1e-6);
    loss.backward();
    const at::Tensor expected = reference::minimal_angle_gradient(weight);
    EXPECT_LT(((weight.grad().to(at::kDouble) - expected).norm() / expected.norm()).item<double>(), 1e-6);
  }
}

TEST(UnknownPlatform, PatternsAreMatched) {
  EXPECT_TRUE(mma::detail::matches("layer[1-3].*", "layer2.conv"));
  EXPECT_FALSE(mma::detail::matches("layer[!1-3].*", "layer2.conv"));
}

}  // namespace
