#include "support/terminal/objectives.hpp"

#include <mma/mma.hpp>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr std::nullopt_t recipes_own = std::nullopt;

template <typename Objective>
NamedObjective entry(const char* name, std::optional<double> coefficient, const char* about,
                     const Objective& objective = {}) {
  const auto make = [objective](uint64_t seed) {
    Objective own = objective;
    if constexpr (requires { own.random.seed; }) own.random.seed = seed;
    return AnyObjective(own);
  };
  return {name, about, coefficient, make};
}

}  // namespace

// The paper's coefficients: MMA by recipe, MHE 1.0, orthogonal 1e-4. Where it names none: the recipe's for what is
// bounded as MMA is, and for SRIP and DSO small ones, as they also draw every row to length 1.
const std::vector<NamedObjective>& objectives() {
  static const std::vector<NamedObjective> entries = {
      entry<MinimalAngle>("mma", recipes_own, "minus the mean angle to the nearest row (Eq 6)"),
      entry<MinimalAngle>("mma-half-space", recipes_own, "Eq 6 for lines: w and -w are one", {.half_space = true}),
      entry<Centred<MinimalAngle>>("mma-centred", recipes_own, "Eq 6 for the rows minus their mean"),
      entry<Sampled<MinimalAngle>>("mma-sampled", recipes_own, "Eq 6 over a random 30 % of the rows", {.share = 0.3}),
      entry<MaximalCosine>("cosine", recipes_own, "mean cosine to the nearest row (Eq 5)"),
      entry<MaximalCosine>("cosine-global", recipes_own, "cosine of the closest pair (Eq 2)", {.closest_only = true}),
      entry<RieszFisher>("mhe-s2", 1.0, "MHE, Riesz-Fisher energy with s = 2 (Eq 9)", {.s = 2}),
      entry<RieszFisher>("mhe-s1", 1.0, "MHE, Riesz-Fisher energy with s = 1 (Eq 9)", {.s = 1}),
      entry<Logarithmic>("mhe-s0", 1.0, "MHE, logarithmic energy (Eq 11)"),
      entry<RieszFisher>("mhe-s2-batch", 1.0, "s = 2 over a random 30 % of the rows", {.s = 2, .share = 0.3}),
      entry<Logarithmic>("mhe-s0-batch", 1.0, "s = 0 over a random 30 % of the rows", {.share = 0.3}),
      entry<RieszFisher>("mhe-s2-half-space", 1.0, "s = 2 over the rows and their negatives",
                         {.s = 2, .half_space = true}),
      entry<Logarithmic>("mhe-s0-half-space", 1.0, "s = 0 over the rows and their negatives", {.half_space = true}),
      entry<Orthogonal>("orthogonal", 1e-4, "half the sum of squared cosines (Eq 14)"),
      entry<SimplexTarget>("simplex", 1e-4, "squared distance of the cosines from -1/(n-1) (Eq 4)"),
      entry<SpectralIsometry>("srip", 1e-3, "spectral norm of W W^T - I (SRIP)"),
      entry<DoubleSoftOrthogonality>("dso", 1e-5, "both Gram matrices towards the identity (DSO)"),
      entry<MutualCoherence>("coherence", recipes_own, "largest |cosine| (mutual coherence)"),
  };
  return entries;
}

const NamedObjective& objective_named(const std::string& name, const std::string& flag) {
  for (const NamedObjective& entry : objectives()) {
    if (entry.name == name) return entry;
  }
  throw UserError(flag + " " + name + ": one of " + objective_names() + " is needed");
}

std::string objective_names() {
  std::string names;
  for (const NamedObjective& entry : objectives()) names += (names.empty() ? "" : ", ") + entry.name;
  return names;
}

}  // namespace mma::examples
