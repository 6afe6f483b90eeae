// DoubleSoftOrthogonality (DSO), and its functional form. The two norms differ by the constant n - d, so the smaller
// Gram matrix is computed.
#pragma once

#include <ATen/ops/bmm.h>
#include <ATen/ops/diag_embed.h>
#include <ATen/ops/where.h>

#include "../detail/rows/norms.hpp"
#include "../objective.hpp"

namespace mma {

/// DSO: both Gram matrices towards the identity, of the rows as they are, not normalised.
///
///     l = |W W^T - I_n|_F^2 + |W^T W - I_d|_F^2
///
/// Bansal, Chen, Wang: Can We Gain More from Orthogonality Regularizations in Training Deep CNNs?, NeurIPS 2018.
struct DoubleSoftOrthogonality {
  /// rows [b, n, d], usable [b, n] -> [b]; n counts the usable rows; 0 for fewer than two. Twice differentiable.
  at::Tensor operator()(const at::Tensor& rows, const at::Tensor& usable) const {
    const detail::rows::FullPrecisionGuard guard;
    const int64_t dimension = rows.size(2);
    const bool by_rows = rows.size(1) <= dimension;
    const at::Tensor used = at::where(usable.unsqueeze(-1), rows, 0.0);
    const at::Tensor left = by_rows ? used : used.transpose(1, 2);
    const at::Tensor ones = by_rows ? usable.to(rows.scalar_type()) : at::ones_like(left.select(2, 0));
    const at::Tensor excess = at::bmm(left, left.transpose(1, 2)) - at::diag_embed(ones);
    const at::Tensor n = detail::rows::usable_count(usable);
    const at::Tensor larger = by_rows ? dimension - n : n - dimension;
    const at::Tensor value = 2 * excess.square().sum({1, 2}, false, at::kDouble) + larger;
    return (at::where(n >= 2, value, 0.0) + detail::rows::nan_where_not_finite(rows)).to(rows.scalar_type());
  }
};

/// DSO of a matrix [n, d] or a batch [b, n, d]; shapes, dtypes and errors as minimal_angle_loss().
inline at::Tensor double_soft_orthogonality_loss(const at::Tensor& weight) {
  return detail::loss_of(DoubleSoftOrthogonality{}, weight, "double_soft_orthogonality_loss");
}

}  // namespace mma
