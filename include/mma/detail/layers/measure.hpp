// The angles of a regularizer's layers for its report, with the reason where one is not in the loss.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "../../angles.hpp"
#include "../../layer.hpp"
#include "../../options.hpp"
#include "plan.hpp"

namespace mma::detail::layers {

inline std::vector<LayerAngles> measure(const std::vector<Layer>& layers, const Options& options,
                                        const AngleOptions& angle_options) {
  const at::AutoGradMode as_in_training(true);  // a computed weight is not frozen because the caller needs no graph
  std::vector<LayerAngles> result;
  std::map<WeightKey, std::string> seen;
  for (const Layer& layer : layers) {
    const at::Tensor weight = layer.weight(), rows = layer.rows();
    LayerAngles angles = measure_angles(layer.name, rows, angle_options);
    const auto [first, is_first] = seen.emplace(key_of(weight), layer.name);
    std::string reason = is_first ? skip_reason(weight, rows, options) : "tied to " + first->second;
    if (angles.note.empty()) {
      angles.note = std::move(reason);
    } else if (!reason.empty() && reason != angles.note) {
      angles.note += ", " + reason;
    }
    angles.coefficient = layer.coefficient;
    result.push_back(std::move(angles));
  }
  return result;
}

}  // namespace mma::detail::layers
