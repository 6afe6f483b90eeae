#include <ATen/ops/eye.h>
#include <angle_of.hpp>

#include <cmath>

int main() { return std::abs(mean_nearest_angle(at::eye(4)) - std::acos(0.0)) < 1e-6 ? 0 : 1; }
