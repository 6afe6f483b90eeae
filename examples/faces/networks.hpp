// Embedding networks for faces: IR-18, IR-50 and IR-100, the residual networks of ArcFace's authors with the parameter
// names of insightface, so that its state dicts load by name; and ir-small, which two CPU cores train.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <string>
#include <vector>

#include "training/models/network.hpp"

namespace mma::examples {

/// A network from faces [B, channels, size, size] to embeddings [B, embedding].
class EmbeddingNetwork : public torch::nn::Module {
 public:
  explicit EmbeddingNetwork(int64_t embedding) : embedding_(embedding) {}
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  int64_t embedding() const { return embedding_; }

 private:
  int64_t embedding_;
};

/// The size of aligned faces.
inline constexpr int64_t face_size = 112;

/// The names that make_embedding_network takes, in the order in which help shows them.
const std::vector<std::string>& embedding_network_names();

/// Makes and initialises a network (random numbers: LibTorch's default generator).
/// `embedding`: 0 for the network's own, 512 (128 for ir-small). `dropout`: before the last layer, as a share.
/// Throws UserError for an unknown name (the sentence lists the known ones) or an image too small for the network.
std::shared_ptr<EmbeddingNetwork> make_embedding_network(const std::string& name, ImageShape image,
                                                         int64_t embedding = 0, double dropout = 0);

}  // namespace mma::examples
