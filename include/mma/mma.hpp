// MMA regularization for LibTorch: the one header to include.
//
//   mma::Regularizer<> regularizer(*model, mma::Options().coefficient(0.07));
//   auto loss = cross_entropy(model->forward(x), y);  // first: a weight that forward() computes must exist
//   loss = loss + regularizer.loss();                 // before it is read
#pragma once

#include "angles.hpp"
#include "any_objective.hpp"
#include "arcface.hpp"
#include "in_threads.hpp"
#include "layer.hpp"
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
#include "options.hpp"
#include "random_draws.hpp"
#include "regularizer.hpp"
#include "report.hpp"
#include "side_stream.hpp"
#include "simplex.hpp"
#include "version.hpp"
#include "weight_matrix.hpp"
