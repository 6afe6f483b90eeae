// What a training of faces has of its own: identities from image folders, an embedding network under an ArcFace head.
#pragma once

#include <mma/arcface.hpp>

#include "faces/networks.hpp"
#include "training/run/trainer.hpp"

namespace mma::examples {

/// Embedding network and head as one classifier of identities. Its tensors are embedding.* and head.weight.
class FaceClassifier : public ImageClassifier {
 public:
  FaceClassifier(std::shared_ptr<EmbeddingNetwork> embedding, const ArcFaceOptions& head);

  /// s cos theta [B, identities], without a margin: for evaluation.
  at::Tensor forward(const at::Tensor& images) override;
  /// With the margin on the labels' angles.
  at::Tensor training_logits(const at::Tensor& images, const at::Tensor& labels) override;

 private:
  std::shared_ptr<EmbeddingNetwork> embedding_;
  ArcFace head_;
};

/// The data set of every training of faces, by name.
inline constexpr const char* faces_dataset = "faces";

/// For settings that have `faces`.
const Trainer& face_trainer();

}  // namespace mma::examples
