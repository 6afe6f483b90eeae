#include "objectives.hpp"

#include <ATen/ops/ones.h>
#include <mma/objectives/centred.hpp>
#include <mma/objectives/double_soft_orthogonality.hpp>
#include <mma/objectives/hyperspherical_energy.hpp>
#include <mma/objectives/maximal_cosine.hpp>
#include <mma/objectives/minimal_angle.hpp>
#include <mma/objectives/mutual_coherence.hpp>
#include <mma/objectives/orthogonal.hpp>
#include <mma/objectives/sampled.hpp>
#include <mma/objectives/spectral_isometry.hpp>

namespace mma::python {
namespace {

/// The numbers, one after another.
class Numbers {
 public:
  explicit Numbers(at::ArrayRef<double> left) : left_(left) {}

  double next() {
    TORCH_CHECK(!left_.empty(), "mma: an objective lacks a number; expected those of mma/objectives.py.");
    const double first = left_.front();
    left_ = left_.slice(1);
    return first;
  }
  bool flag() { return next() != 0; }
  RandomDraws draws() { return {.seed = static_cast<uint64_t>(next())}; }

 private:
  at::ArrayRef<double> left_;
};

AnyObjective make(const std::string& name, Numbers& numbers) {
  if (name.starts_with("centred/")) {
    return Centred<AnyObjective>{.objective = make(name.substr(8), numbers)};
  }
  if (name.starts_with("sampled/")) {
    const double share = numbers.next();
    const RandomDraws random = numbers.draws();
    return Sampled<AnyObjective>{.share = share, .objective = make(name.substr(8), numbers), .random = random};
  }
  // Braces evaluate from left to right.
  if (name == "minimal_angle") return MinimalAngle{numbers.flag()};
  if (name == "maximal_cosine") return MaximalCosine{numbers.flag()};
  if (name == "energy") {
    return HypersphericalEnergy{numbers.next(), numbers.flag(), numbers.next(), numbers.next(), numbers.draws()};
  }
  if (name == "orthogonal") return Orthogonal{};
  if (name == "simplex_target") return SimplexTarget{};
  if (name == "spectral_isometry") {
    return SpectralIsometry{static_cast<int64_t>(numbers.next()), numbers.draws()};
  }
  if (name == "double_soft_orthogonality") return DoubleSoftOrthogonality{};
  if (name == "mutual_coherence") return MutualCoherence{};
  TORCH_CHECK(false, "mma: no objective is called '", name, "'; expected one of mma/objectives.py.");
}

void check_matrices(const at::Tensor& matrices) {
  detail::check_weight(matrices, {}, "weight");
  TORCH_CHECK(matrices.dim() <= 3, "mma: the weight has the shape ", matrices.sizes(),
              "; expected [rows, dimension] or [batch, rows, dimension], see mma.functional.weight_rows for "
              "convolutions.");
}

}  // namespace

AnyObjective objective_of(const std::string& name, at::ArrayRef<double> numbers) {
  Numbers left(numbers);
  return make(name, left);
}

at::Tensor value_of(const AnyObjective& objective, const at::Tensor& matrices) {
  check_matrices(matrices);
  return detail::loss_of(objective, matrices, "the objective");
}

std::pair<at::Tensor, at::Tensor> value_and_gradient(const AnyObjective& objective, const at::Tensor& matrices) {
  check_matrices(matrices);
  const detail::rows::FullPrecisionGuard guard;
  const at::Tensor computed = detail::in_computing_type(matrices.detach());
  const at::Tensor rows = computed.dim() == 2 ? computed.unsqueeze(0) : computed;
  const at::Tensor ones = at::ones({rows.size(0)}, rows.options());
  const auto [values, gradient] = objective.value_and_gradient(rows, detail::rows::usable_rows(rows), ones);
  return {matrices.dim() == 2 ? values.squeeze(0) : values, gradient.reshape(matrices.sizes()).contiguous()};
}

}  // namespace mma::python
