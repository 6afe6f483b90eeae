// The library's objectives as Python names them: mma/objectives.py's names and numbers -> mma::AnyObjective, and one of
// a tensor as value and gradient.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>
#include <mma/any_objective.hpp>

#include <string>
#include <utility>

namespace mma::python {

/// `name`: "minimal_angle"; "centred/sampled/minimal_angle" for one inside another. `numbers`: those of each in turn.
AnyObjective objective_of(const std::string& name, at::ArrayRef<double> numbers);

/// Matrices [n, d] or [b, n, d] -> one value a matrix, [] or [b]; differentiable where autograd records.
at::Tensor value_of(const AnyObjective& objective, const at::Tensor& matrices);

/// The same and the gradient of the values' sum, both without a graph.
std::pair<at::Tensor, at::Tensor> value_and_gradient(const AnyObjective& objective, const at::Tensor& matrices);

}  // namespace mma::python
