#include <mma/mma.hpp>

double loss_in_other_unit(const at::Tensor& weight) { return mma::minimal_angle_loss(weight).item<double>(); }
