#include "tammes/gradients.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <iostream>
#include <numbers>

#include "support/files/atomic_file.hpp"
#include "support/images/plot.hpp"
#include "support/process/error.hpp"
#include "support/terminal/objectives.hpp"

namespace mma::examples {
namespace {

constexpr int64_t angles_drawn = 720;  // a quarter of a degree apart, never 0 or pi

GradientCurve curve_of(const std::string& name, const std::string& objective) {
  const double half_step = std::numbers::pi / static_cast<double>(2 * angles_drawn);
  const at::Tensor angles = at::linspace(half_step, std::numbers::pi - half_step, angles_drawn, at::kDouble);
  const at::Tensor fixed = at::stack({at::ones_like(angles), at::zeros_like(angles)}, 1);
  const at::Tensor turned = at::stack({angles.cos(), angles.sin()}, 1);
  const at::Tensor rows = at::stack({fixed, turned}, 1).requires_grad_();  // [angles, 2, 2]
  const at::Tensor usable = at::ones({angles_drawn, 2}, at::kBool);
  const at::Tensor loss = objective_named(objective, "objective").make(1)(rows, usable).sum();
  const at::Tensor gradient = torch::autograd::grad({loss}, {rows}).front().select(1, 0);
  const at::Tensor norms = at::linalg_vector_norm(gradient, 2, -1).contiguous();
  const auto values = [](const at::Tensor& t) {
    return std::vector<double>(t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel());
  };
  return {name, values(angles), values(norms)};
}

void write_csv(std::ostream& stream, const std::vector<GradientCurve>& curves) {
  stream.precision(12);
  stream << "angle_radians";
  for (const GradientCurve& curve : curves) stream << ',' << curve.name;
  stream << '\n';
  for (size_t i = 0; i < curves.front().angles.size(); ++i) {
    stream << curves.front().angles[i];
    for (const GradientCurve& curve : curves) stream << ',' << curve.norms[i];
    stream << '\n';
  }
}

void draw(const std::string& path, const std::vector<GradientCurve>& curves) {
  Plot plot;
  plot.title = "Gradient norm of the objectives, by autograd";
  plot.x_label = "pairwise angle";
  plot.y_label = "gradient norm (/ ||w||)";
  for (const GradientCurve& curve : curves) plot.lines.push_back({curve.name, curve.angles, curve.norms});
  plot.x_range = {0, std::numbers::pi};
  plot.y_range = {0, 5};
  const std::vector<std::string> names = {"0", "π/6", "π/3", "π/2", "2π/3", "5π/6", "π"};
  for (size_t k = 0; k < names.size(); ++k) {
    plot.x_ticks.emplace_back(static_cast<double>(k) * std::numbers::pi / 6, names[k]);
  }
  write_png(path, {plot});
}

}  // namespace

std::vector<GradientCurve> gradient_curves() {
  return {curve_of("cosine (Eq 7)", "cosine"), curve_of("MMA (Eq 8)", "mma"),
          curve_of("Riesz-Fisher s=1 (Eq 10)", "mhe-s1"), curve_of("logarithmic (Eq 12)", "mhe-s0")};
}

void show_gradients(const std::string& csv, const std::string& plot) {
  if (csv.empty() && plot.empty()) throw UserError("gradients: --plot or --out is needed");
  const std::vector<GradientCurve> curves = gradient_curves();
  if (!csv.empty()) write_atomically(csv, [&](std::ostream& stream) { write_csv(stream, curves); });
  if (!plot.empty()) draw(plot, curves);
  for (const std::string& path : {plot, csv}) {
    if (!path.empty()) std::cout << "written: " << path << '\n';
  }
}

}  // namespace mma::examples
