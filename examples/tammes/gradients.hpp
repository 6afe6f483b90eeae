// mma-tammes gradients: the paper's Figure 2, from autograd.
#pragma once

#include <string>
#include <vector>

namespace mma::examples {

/// The gradient norm of one objective of two unit vectors by the first, over the angle between them.
struct GradientCurve {
  std::string name;
  std::vector<double> angles;  ///< radians, between 0 and pi
  std::vector<double> norms;
};

/// Cosine (Eq 7), MMA (Eq 8), Riesz-Fisher with s = 1 (Eq 10) and logarithmic (Eq 12).
std::vector<GradientCurve> gradient_curves();

/// Writes the curves as CSV and draws them; an empty path leaves one out.
void show_gradients(const std::string& csv, const std::string& plot);

}  // namespace mma::examples
