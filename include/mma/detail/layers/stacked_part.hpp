// The part of layers of one shape, device and type under any objective: it goes through them in one batch of matrices.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include <memory>
#include <utility>
#include <vector>

#include "../../objective.hpp"
#include "../rows/norms.hpp"
#include "part.hpp"
#include "weight_memory.hpp"

namespace mma::detail::layers {

/// Stacking copies: worth it for small matrices, where the calls cost more than the numbers.
inline constexpr int64_t largest_stacked_matrix = int64_t{1} << 17;

template <typename Objective>
class StackedPart final : public Part {
 public:
  StackedPart(std::vector<Term> terms, std::shared_ptr<Objective> objective)
      : terms_(std::move(terms)), objective_(std::move(objective)) {
    std::vector<double> coefficients;
    for (const Term& term : terms_) {
      coefficients.push_back(term.coefficient);
    }
    const at::Tensor rows = in_computing_type(terms_.front().layer.rows().detach());
    sizes_ = rows.sizes().vec();
    coefficients_ = at::tensor(coefficients, rows.options()).unsqueeze(1);
  }

  at::Tensor loss(bool /*search*/) override {
    const Batch batch = gather();
    return sum(detail::values_of(*objective_, batch.rows, batch.usable), batch);
  }

  at::Tensor accumulate(double scale, bool /*search*/) override {
    leaves_of(terms_);  // throws
    const Batch batch = gather();
    const auto [values, gradient] =
        detail::value_and_gradient(*objective_, batch.rows, batch.usable, batch.shares * scale);
    scatter(gradient);
    return sum(values, batch);
  }

 private:
  /// Rows [b, n, d] in the computing type, usable [b, n], and what each matrix weighs in the loss [b]: its layer's
  /// coefficient times its share of the layer's usable rows; not_finite [b]: NaN for one with NaN or Inf, else 0.
  struct Batch {
    at::Tensor rows, usable, shares, not_finite;
  };

  Batch gather() const {
    std::vector<at::Tensor> parts;
    for (const Term& term : terms_) {
      parts.push_back(in_computing_type(term.layer.rows()));
    }
    const auto count = static_cast<int64_t>(parts.size());
    const at::Tensor rows = parts.size() == 1 ? parts.front() : at::cat(parts);
    const at::Tensor norms = rows::row_norms(rows.detach()), usable = rows::usable_among(norms);
    const at::Tensor shares = rows::group_shares(usable.reshape({count, sizes_[0], -1})).to(rows.scalar_type());
    const at::Tensor not_finite = rows::nan_where_infinite(norms).to(rows.scalar_type());
    return {rows, usable, (shares * coefficients_).reshape(-1), not_finite};
  }

  /// A matrix that weighs nothing, as one with a single usable row, is still heard where it has NaN or Inf.
  static at::Tensor sum(const at::Tensor& values, const Batch& batch) {
    return at::where(batch.shares != 0, values * batch.shares, batch.not_finite).sum();
  }

  /// Adds the gradient [b, n, d] of the matrices to the .grad of their weights.
  void scatter(const at::Tensor& gradient) const {
    for (size_t k = 0; k < terms_.size(); ++k) {
      const Layer& layer = terms_[k].layer;
      const at::Tensor weight = layer.weight();
      const auto first = static_cast<int64_t>(k) * sizes_[0];
      add_to_grad(weight, rows_to_weight(gradient.narrow(0, first, sizes_[0]), weight, layer.layout));
    }
  }

  std::vector<Term> terms_;
  std::shared_ptr<Objective> objective_;
  std::vector<int64_t> sizes_;  ///< of each layer's rows [groups, n, d]
  at::Tensor coefficients_;     ///< [layers, 1], on the device, in the computing type
};

}  // namespace mma::detail::layers
