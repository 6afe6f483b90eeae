// A random share of each matrix's rows, for objectives over a mini-batch of rows.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

#include "../../random_draws.hpp"

namespace mma::detail::rows {

struct RowSample {
  at::Tensor chosen;  ///< [b, k] on the rows' device, ascending; undefined for all rows

  /// Of rows [b, n, d] a share of n, rounded, at least two. Throws c10::Error for a share outside (0, 1].
  static RowSample draw(RandomDraws& random, double share, const at::Tensor& rows) {
    TORCH_CHECK(share > 0 && share <= 1, "mma: an objective's share of the rows is ", share,
                "; expected more than 0, at most 1.");
    if (share == 1) return {};
    const int64_t n = rows.size(1);
    const int64_t count = std::min(n, std::max<int64_t>(2, std::llround(share * static_cast<double>(n))));
    return {random.rows(rows.size(0), n, count).to(rows.device())};
  }

  /// t [b, n] or [b, n, d] at the chosen rows.
  at::Tensor of(const at::Tensor& t) const {
    if (!chosen.defined()) return t;
    return t.dim() == 2 ? t.gather(1, chosen)
                        : t.gather(1, chosen.unsqueeze(-1).expand({chosen.size(0), chosen.size(1), t.size(2)}));
  }

  /// The gradient of the chosen rows as one of all rows [b, n, d]: 0 for the others.
  at::Tensor spread(const at::Tensor& part, const at::Tensor& rows) const {
    return chosen.defined() ? at::zeros_like(rows).scatter_(1, chosen.unsqueeze(-1).expand_as(part), part) : part;
  }
};

}  // namespace mma::detail::rows
