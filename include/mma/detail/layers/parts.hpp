// The parts of a regularizer's loss: under an objective over nearest rows one for each device and type, under any other
// one for each shape too, so that layers go through it in batches.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../../objective.hpp"
#include "nearest_part.hpp"
#include "part.hpp"
#include "plan.hpp"
#include "stacked_part.hpp"

namespace mma::detail::layers {

/// Layers with equal keys go together: device, type; where they are stacked, sizes, and a number for one that is too
/// large for that.
using PartKey = std::tuple<std::string, at::ScalarType, std::vector<int64_t>, size_t>;

inline PartKey part_key(const Layer& layer, bool over_nearest_rows, size_t number) {
  const at::Tensor weight = layer.weight(), rows = layer.rows().detach();
  if (over_nearest_rows) {
    return {weight.device().str(), row_type(weight), {}, 0};
  }
  const bool alone = rows.size(1) * rows.size(2) > largest_stacked_matrix;
  return {weight.device().str(), in_computing_type(rows).scalar_type(), rows.sizes().vec(), alone ? number + 1 : 0};
}

/// In the order of their first layers. keeps: the rows of a search are kept for later steps.
template <typename Objective>
std::vector<std::unique_ptr<Part>> make_parts(std::vector<Term> terms, const std::shared_ptr<Objective>& objective,
                                              bool keeps) {
  const std::optional<nearest::Objective> over = nearest_objective_of(*objective);
  std::map<PartKey, size_t> place;
  std::vector<std::vector<Term>> grouped;
  for (Term& term : terms) {
    const auto [found, is_new] =
        place.try_emplace(part_key(term.layer, over.has_value(), grouped.size()), grouped.size());
    if (is_new) grouped.emplace_back();
    grouped[found->second].push_back(std::move(term));
  }
  std::vector<std::unique_ptr<Part>> parts;
  for (std::vector<Term>& group : grouped) {
    if (over) {
      parts.push_back(std::make_unique<NearestPart>(std::move(group), *over, keeps));
    } else {
      parts.push_back(std::make_unique<StackedPart<Objective>>(std::move(group), objective));
    }
  }
  return parts;
}

/// The objective of one layer without a graph, 0 for one that does not count.
template <typename Objective>
at::Tensor loss_of(Objective& objective, const Layer& layer, const Options& options) {
  const at::Tensor rows = in_computing_type(layer.rows());
  if (!skip_reason(layer.weight(), rows, options).empty()) {
    return at::scalar_tensor(0.0, rows.options());
  }
  const at::Tensor usable = rows::usable_rows(rows);
  const at::Tensor shares = rows::group_shares(usable.unsqueeze(0)).squeeze(0).to(rows.scalar_type());
  return at::where(shares > 0, detail::values_of(objective, rows, usable) * shares, 0.0).sum();
}

}  // namespace mma::detail::layers
