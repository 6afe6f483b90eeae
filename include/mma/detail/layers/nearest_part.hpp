// The part of all layers of one device and type under an objective over nearest rows: one pass of the engine.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <memory>
#include <utility>
#include <vector>

#include "../nearest/function.hpp"
#include "part.hpp"

namespace mma::detail::layers {

class NearestPart final : public Part {
 public:
  /// keeps: the rows of a search are kept for later steps.
  NearestPart(std::vector<Term> terms, const nearest::Objective& objective, bool keeps)
      : terms_(std::move(terms)), keeps_(keeps) {
    std::vector<Member> members;
    std::vector<double> coefficients;
    for (const Term& term : terms_) {
      members.push_back({term.layer.name, term.layer.weight(), term.layer.layout});
      coefficients.push_back(term.coefficient);
    }
    pass_ = std::make_shared<nearest::Pass>(members, objective);
    coefficients_ = at::tensor(coefficients, pass_->options().dtype(at::kDouble));
  }

  at::Tensor loss(bool search) override {
    const std::vector<at::Tensor> weights = weights_of(terms_);
    nearest::Found found;
    found.nearest = kept(search);
    at::Tensor total = sum(nearest::Function::apply(pass_, &found, at::TensorList(weights)));
    keep(search, found);
    return total;
  }

  at::Tensor accumulate(double scale, bool search) override {
    const std::vector<at::Tensor> weights = leaves_of(terms_);
    const nearest::Found found = pass_->accumulate(weights, coefficients_, scale, kept(search));
    keep(search, found);
    return sum(found.values);
  }

  void start(bool search) override { pass_->start(weights_of(terms_), kept(search)); }

  at::Tensor nearest() const override { return nearest_; }
  void set_nearest(const at::Tensor& nearest) override {
    nearest_ = nearest.defined() ? pass_->checked_nearest(nearest) : at::Tensor();
  }

 private:
  at::Tensor sum(const at::Tensor& values) const {
    return (values * coefficients_).sum().to(pass_->options().dtype() == at::kDouble ? at::kDouble : at::kFloat);
  }

  at::Tensor kept(bool search) const { return search ? at::Tensor() : nearest_; }

  /// What a step without a search gives is not kept: in a CUDA graph that memory is the graph's.
  void keep(bool search, const nearest::Found& found) {
    if (keeps_ && (search || !nearest_.defined())) {
      nearest_ = found.nearest;
    }
  }

  std::vector<Term> terms_;
  bool keeps_;
  std::shared_ptr<nearest::Pass> pass_;
  at::Tensor coefficients_;  ///< [layers] float64
  at::Tensor nearest_;       ///< what the last search found
};

}  // namespace mma::detail::layers
