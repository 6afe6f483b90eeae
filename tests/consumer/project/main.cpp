// One of two translation units that include the whole library.
#include <mma/mma.hpp>

#include <ATen/ops/eye.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <iostream>

#ifdef MMA_PACKAGE_VERSION
static_assert(mma::version == MMA_PACKAGE_VERSION, "find_package(mma) and version.hpp disagree");
#endif

double loss_in_other_unit(const at::Tensor& weight);

int main() {
  torch::nn::Linear layer(6, 4);
  mma::Regularizer<> regularizer(*layer, mma::Options().coefficient(0.07));
  regularizer.loss().backward();
  const bool has_gradient = layer->weight.grad().defined();
  const double right_angle = std::acos(0.0);
  const bool both_agree = std::abs(loss_in_other_unit(at::eye(4)) + right_angle) < 1e-6 &&
                          std::abs(mma::minimal_angle_loss(at::eye(4)).item<double>() + right_angle) < 1e-6;
  std::cout << "mma " << mma::version << '\n' << regularizer.report();
  return has_gradient && both_agree ? 0 : 1;
}
