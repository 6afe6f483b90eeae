// The loss of orthogonal rows is minus a right angle: the headers are there, and LibTorch is linked.
#include <ATen/ops/eye.h>
#include <mma/objectives/minimal_angle.hpp>
#include <mma/version.hpp>

#include <cmath>
#include <iostream>

int main() {
  const double loss = mma::minimal_angle_loss(at::eye(4)).item<double>();
  std::cout << "mma " << mma::version << ": minimal_angle_loss(eye(4)) is " << loss << '\n';
  return std::abs(loss + std::acos(0.0)) < 1e-6 ? 0 : 1;
}
