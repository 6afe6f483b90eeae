// MMA regularization for LibTorch: the one header to include.
//
//   mma::Regularizer<> regularizer(*model, mma::Options().coefficient(0.07));
//   auto loss = cross_entropy(model->forward(x), y) + regularizer.loss();
#pragma once

#include "angles.hpp"
#include "arcface.hpp"
#include "layer_selection.hpp"
#include "objective.hpp"
#include "objectives/centred.hpp"
#include "objectives/double_soft_orthogonality.hpp"
#include "objectives/hyperspherical_energy.hpp"
#include "objectives/maximal_cosine.hpp"
#include "objectives/minimal_angle.hpp"
#include "objectives/mutual_coherence.hpp"
#include "objectives/orthogonal.hpp"
#include "objectives/sampled.hpp"
#include "objectives/spectral_isometry.hpp"
#include "regularizer.hpp"
#include "version.hpp"
#include "weight_matrix.hpp"
