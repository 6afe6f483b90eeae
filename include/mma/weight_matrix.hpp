// A layer's weight as rows: [groups, rows, dimension], one row for each filter or neuron.
// Linear, Conv1d/2d/3d, ConvTranspose1d/2d/3d, grouped and depthwise convolutions, and tensors registered by hand.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string>

namespace mma {

/// How the rows lie in a weight.
struct WeightLayout {
  /// false: a row is weight[i] (Linear, Conv). true: a row is weight[:, i], one output channel (ConvTranspose, whose
  /// weight is [in, out / groups, kernel...]).
  bool transposed = false;
  /// Filters of different groups read different inputs and are compared within their group only.
  int64_t groups = 1;
  /// Compares all filters with each other, whatever their group.
  bool across_groups = false;
};

namespace detail {

/// Throws c10::Error, naming the layer, unless the weight is a dense floating-point tensor of at least two dimensions.
inline void check_weight(const at::Tensor& weight, const WeightLayout& layout, const std::string& name) {
  TORCH_CHECK(weight.defined(), "mma: layer '", name, "' has an undefined weight; expected a tensor.");
  TORCH_CHECK(weight.layout() == c10::kStrided && !weight.is_quantized(), "mma: layer '", name,
              "' has a sparse or quantized weight (", weight.toString(), "); expected a dense tensor.");
  const auto type = weight.scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16, "mma: layer '",
              name, "' has a weight of type ", type, "; expected float16, bfloat16, float32 or float64.");
  TORCH_CHECK(weight.dim() >= 2, "mma: layer '", name, "' has a weight of shape ", weight.sizes(),
              "; expected at least two dimensions, one row for each neuron.");
  TORCH_CHECK(layout.groups >= 1 && weight.size(0) % layout.groups == 0, "mma: layer '", name,
              "' has a weight of shape ", weight.sizes(), "; expected a first dimension divisible by its ",
              layout.groups, " groups.");
}

/// float16 and bfloat16 are computed in float32; float32 and float64 stay what they are.
inline at::Tensor in_computing_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? tensor : tensor.to(at::kFloat);
}

}  // namespace detail

/// The weight as rows [groups, rows, dimension], in the weight's dtype; a view where the memory allows it, and
/// differentiable. Throws c10::Error that names the layer for a weight that has no rows (see the README's table):
/// sparse, quantized, complex, integer, undefined, fewer than two dimensions.
inline at::Tensor weight_rows(const at::Tensor& weight, const WeightLayout& layout = {},
                              const std::string& name = "weight") {
  detail::check_weight(weight, layout, name);
  const int64_t inputs = weight.size(0) / layout.groups;  // of a transposed weight; else the outputs
  const int64_t outputs = layout.transposed ? weight.size(1) : inputs;
  const int64_t groups = layout.across_groups ? 1 : layout.groups;
  const int64_t rows = layout.groups * outputs / groups;
  if (weight.numel() == 0) {
    return weight.reshape({groups, rows, 0});
  }
  if (!layout.transposed) {
    return weight.reshape({groups, rows, -1});
  }
  return weight.reshape({layout.groups, inputs, outputs, -1}).transpose(1, 2).reshape({groups, rows, -1});
}

namespace detail {

/// The inverse of weight_rows: a tensor of the rows' shape as a tensor of the weight's shape and memory format.
inline at::Tensor rows_to_weight(const at::Tensor& rows, const at::Tensor& weight, const WeightLayout& layout) {
  at::Tensor result = at::empty_like(weight);
  if (!layout.transposed) {
    return result.copy_(rows.reshape(weight.sizes()));
  }
  const int64_t inputs = weight.size(0) / layout.groups;
  const at::Tensor filters = rows.reshape({layout.groups, weight.size(1), inputs, -1});
  return result.copy_(filters.transpose(1, 2).reshape(weight.sizes()));
}

}  // namespace detail
}  // namespace mma
