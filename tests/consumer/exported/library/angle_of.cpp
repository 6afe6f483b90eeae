#include "angle_of.hpp"

#include <mma/mma.hpp>

double mean_nearest_angle(const at::Tensor& weight, const mma::WeightLayout& layout) {
  return mma::measure_angles("weight", mma::weight_rows(weight, layout)).mean_nearest_angle;
}
