// Which of a regularizer's layers count in its loss, which of those a process takes, and when that has to be asked
// again: tied weights count once, frozen ones not, and processes share the layers by their cost.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "../../layer.hpp"
#include "../../options.hpp"
#include "part.hpp"

namespace mma::detail::layers {

/// A weight by what it holds: the same tensor twice, or two that share their memory in the same way.
using WeightKey = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>>;

inline WeightKey key_of(const at::Tensor& weight) {
  const void* data = weight.numel() > 0 ? weight.const_data_ptr() : weight.unsafeGetTensorImpl();
  return {data, weight.sizes().vec(), weight.strides().vec()};
}

/// Why a layer is not in the loss; empty when it is.
inline std::string skip_reason(const at::Tensor& weight, const at::Tensor& rows, const Options& options) {
  if (!weight.requires_grad()) {
    return "frozen";
  }
  if (rows.size(1) < 2 || rows.size(2) == 0) {
    return "fewer than 2 rows";
  }
  if (rows.size(1) < options.minimum_rows()) {
    return "fewer than " + std::to_string(options.minimum_rows()) + " rows";
  }
  return "";
}

/// Those of the layers that this process takes: the costliest first, each to the process with the least to do.
inline std::vector<Layer> share_of(const std::vector<Layer>& layers, const Options& options) {
  std::vector<double> cost;
  std::vector<size_t> order, own;
  for (const Layer& layer : layers) {
    const at::Tensor rows = layer.rows().detach();
    const auto n = static_cast<double>(rows.size(1));
    order.push_back(cost.size());
    cost.push_back(static_cast<double>(rows.numel()) * (n / 2 + 8));  // half the cosines; reading, angles, gradient
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return cost[a] > cost[b]; });
  std::vector<double> load(static_cast<size_t>(options.world_size()));
  for (const size_t k : order) {
    const auto least = std::min_element(load.begin(), load.end());
    if (least - load.begin() == options.rank()) {
      own.push_back(k);
    }
    *least += cost[k];
  }
  std::sort(own.begin(), own.end());
  std::vector<Layer> result;
  result.reserve(own.size());
  for (const size_t k : own) {
    result.push_back(layers[k]);
  }
  return result;
}

/// The layers that count in this process's loss, with their coefficients times the number of processes.
inline std::vector<Term> terms_of(const std::vector<Layer>& layers, const Options& options) {
  std::vector<Layer> counting;
  std::map<WeightKey, bool> seen;
  for (const Layer& layer : layers) {
    const at::Tensor weight = layer.weight();
    if (skip_reason(weight, layer.rows().detach(), options).empty() && seen.emplace(key_of(weight), true).second) {
      counting.push_back(layer);
    }
  }
  std::vector<Term> terms;
  for (Layer& layer : share_of(counting, options)) {
    const double coefficient = layer.coefficient * static_cast<double>(options.world_size());
    terms.push_back({std::move(layer), coefficient});
  }
  return terms;
}

/// What decides how a layer is taken: while none of it changes, the parts stay as they are.
class Signature {
 public:
  explicit Signature(const at::Tensor& weight)
      : tensor_(identity(weight)),
        data_(memory(weight)),
        sizes_(weight.sizes().vec()),
        strides_(weight.strides().vec()),
        type_(weight.scalar_type()),
        device_(weight.device()),
        trained_(weight.requires_grad()) {}

  bool is_of(const at::Tensor& weight) const {
    return tensor_ == identity(weight) && data_ == memory(weight) && weight.sizes() == sizes_ &&
           weight.strides() == strides_ && type_ == weight.scalar_type() && device_ == weight.device() &&
           trained_ == weight.requires_grad();
  }

 private:
  // A weight that is computed from others is another tensor at each step.
  static const void* identity(const at::Tensor& weight) {
    return weight.is_leaf() ? weight.unsafeGetTensorImpl() : nullptr;
  }
  static const void* memory(const at::Tensor& weight) {
    return weight.is_leaf() && weight.numel() > 0 ? weight.const_data_ptr() : nullptr;
  }

  const void *tensor_, *data_;
  std::vector<int64_t> sizes_, strides_;
  at::ScalarType type_;
  at::Device device_;
  bool trained_;
};

}  // namespace mma::detail::layers
