// What the library of somebody else offers, with one of mma's types in its interface.
#pragma once

#include <mma/weight_matrix.hpp>

double mean_nearest_angle(const at::Tensor& weight, const mma::WeightLayout& layout = {});
