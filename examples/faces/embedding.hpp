// Images through a network to features, in batches; and the distances between them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "faces/pairs_file.hpp"
#include "faces/protocol.hpp"

namespace mma::examples {

/// From images [B, channels, height, width], pixels from -1 to 1, to features [B, dimension].
using FeatureNetwork = std::function<at::Tensor(const at::Tensor& images)>;

/// From an image's place in its list to its pixels: uint8 [channels, height, width], all of one size.
using ImageSource = std::function<at::Tensor(int64_t image)>;

struct EmbeddingOptions {
  int64_t batch = 64;
  bool flip = true;  ///< adds the feature of the mirrored image
  std::string device = "cpu";
};

/// The features of these images (places in the source), float32 [images, dimension] on the CPU: sums of both features
/// where flip is on. Calls done(images so far) after each batch.
at::Tensor embed(const FeatureNetwork& network, const ImageSource& source, const std::vector<int64_t>& images,
                 const EmbeddingOptions& options, const std::function<void(int64_t)>& done);

/// Pixels 0 to 255 to -1 to 1: (x / 255 - 0.5) / 0.5.
at::Tensor normalised_pixels(const at::Tensor& images);

/// For each pair of rows of `features` (any floating type), the squared distance of the two unit vectors, in double.
/// A row of zeros stays zero, as in scikit-learn's normalize.
Fold distances(const at::Tensor& features, const std::vector<ImagePair>& pairs);

}  // namespace mma::examples
