// What a normalisation over several processes is tested on: whole batches, and the slope of a loss in what comes out.
#pragma once

#include <ATen/Functions.h>

#include <vector>

namespace mma::tests {

struct NormalisedCase {
  at::Tensor images, slope, weight, bias;
};

/// Pictures and rows, as many as all processes can share and as few as leave some with nothing; channels far from zero.
inline const std::vector<NormalisedCase>& normalised_cases() {
  static const std::vector<NormalisedCase> cases = [] {
    std::vector<NormalisedCase> all;
    at::manual_seed(7);
    for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{12, 3, 4, 5}, {5, 2, 3, 3}, {9, 6}}) {
      const at::Tensor images = at::randn(shape, at::kDouble) * 2 + 30;
      all.push_back({images, at::randn(shape, at::kDouble), at::randn({shape[1]}, at::kDouble),
                     at::randn({shape[1]}, at::kDouble)});
    }
    return all;
  }();
  return cases;
}

}  // namespace mma::tests
