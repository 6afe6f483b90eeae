// Norms of rows in float64, and which rows count: a zero row (a pruned filter) has no direction.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/where.h>

#include "cpu_pairs.hpp"

namespace mma::detail {

/// Norms [..., n] in float64 of rows [..., n, d]; differentiable.
inline at::Tensor row_norms(const at::Tensor& rows) {
  if (takes_cpu_loops(rows) && rows.numel() > 0) {
    return cpu_row_norms(rows);
  }
  if (rows.scalar_type() != at::kDouble) {
    return at::linalg_vector_norm(rows, 2, -1, false, at::kDouble);
  }
  // Squares of float64 overflow at 1e154: scale by the largest entry, which is a constant to the derivative.
  const at::Tensor largest = rows.detach().abs().amax(-1, true);
  const at::Tensor scale = at::where((largest > 0).logical_and(largest.isfinite()), largest, 1.0);
  return (at::linalg_vector_norm(rows / scale, 2, -1, true) * scale).squeeze(-1);
}

/// Which rows count [..., n]. A row with NaN or Inf does: it must make the loss NaN, as everywhere in LibTorch.
inline at::Tensor usable_rows(const at::Tensor& rows) { return (row_norms(rows.detach()) < zero_norm).logical_not(); }

}  // namespace mma::detail
