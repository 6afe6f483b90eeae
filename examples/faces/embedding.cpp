#include "faces/embedding.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace mma::examples {

at::Tensor normalised_pixels(const at::Tensor& images) { return (images.to(at::kFloat) / 255 - 0.5) / 0.5; }

at::Tensor embed(const FeatureNetwork& network, const ImageSource& source, const std::vector<int64_t>& images,
                 const EmbeddingOptions& options, const std::function<void(int64_t)>& done) {
  const c10::InferenceMode no_gradients;
  const int64_t count = std::ssize(images);
  at::Tensor features;
  for (int64_t begin = 0; begin < count; begin += options.batch) {
    const int64_t end = std::min(begin + options.batch, count);
    std::vector<at::Tensor> decoded;
    for (int64_t i = begin; i < end; ++i) decoded.push_back(source(images[static_cast<size_t>(i)]));
    const at::Tensor batch = normalised_pixels(at::stack(decoded).to(c10::Device(options.device)));
    at::Tensor sum = network(batch);
    if (options.flip) sum = sum + network(batch.flip(-1));
    if (!features.defined()) features = at::empty({count, sum.size(1)}, at::kFloat);
    features.slice(0, begin, end).copy_(sum);
    done(end);
  }
  return features;
}

Fold distances(const at::Tensor& features, const std::vector<ImagePair>& pairs) {
  const at::Tensor rows = features.to(at::kDouble);
  const at::Tensor norms = rows.norm(2, -1, true);
  const at::Tensor unit = (rows / norms.masked_fill(norms == 0, 1)).contiguous();
  const int64_t dimension = unit.size(1);
  const double* const first = unit.const_data_ptr<double>();
  Fold result;
  for (const ImagePair& pair : pairs) {
    const double* const a = first + pair.first * dimension;
    const double* const b = first + pair.second * dimension;
    double squares = 0;
    for (int64_t k = 0; k < dimension; ++k) squares += (a[k] - b[k]) * (a[k] - b[k]);
    result.push_back({squares, pair.same});
  }
  return result;
}

}  // namespace mma::examples
