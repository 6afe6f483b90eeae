#include "faces/face_trainer.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <iostream>
#include <set>

#include "faces/face_settings.hpp"
#include "faces/identities.hpp"
#include "faces/pairs_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

bool is_of_folds(int64_t fold, const std::vector<int64_t>& folds) {
  return folds.empty() || std::ranges::find(folds, fold) != folds.end();
}

/// Everybody whom the pairs of these folds (from 1; empty: all) name.
std::vector<std::string> identities_in(const std::string& path, const std::vector<int64_t>& folds) {
  const PairsFile file = read_pairs_file(path);
  for (const int64_t fold : folds) {
    if (fold < 1 || fold > file.folds) {
      throw UserError(c10::str("--exclude-folds ", fold, ": ", path, " has the folds 1 to ", file.folds));
    }
  }
  const int64_t pairs_of_fold = std::ssize(file.pairs) / file.folds;
  std::set<std::string> names;
  for (int64_t k = 0; k < std::ssize(file.pairs); ++k) {
    if (!is_of_folds(k / pairs_of_fold + 1, folds)) continue;
    const ImagePair& pair = file.pairs[static_cast<size_t>(k)];
    for (const int64_t image : {pair.first, pair.second}) {
      names.insert(file.images[static_cast<size_t>(image)].identity);
    }
  }
  return {names.begin(), names.end()};
}

Dataset load_identities(const Settings& settings) {
  const FaceSettings faces = face_settings(settings);
  IdentityOptions options;
  options.image.channels = faces.channels;
  options.minimum_images = faces.minimum_images;
  options.hold_out_last = faces.hold_out;
  options.skip_bad = faces.skip_bad;
  if (!faces.exclude_pairs.empty()) options.exclude = identities_in(faces.exclude_pairs, faces.exclude_folds);
  Identities identities = read_identities(settings.data, options);
  std::cerr << identities.names.size() << " identities from " << settings.data << "; left out: " << identities.excluded
            << " of the pairs, " << identities.too_few << " with fewer than " << faces.minimum_images << " images, "
            << identities.skipped.size() << " images that cannot be read" << std::endl;
  identities.dataset.name = faces_dataset;
  return std::move(identities.dataset);
}

std::shared_ptr<ImageClassifier> make_face_classifier(const Settings& settings, ImageShape image, int64_t identities) {
  const FaceSettings faces = face_settings(settings);
  auto embedding = make_embedding_network(settings.model, image, faces.embedding, settings.dropout);
  const ArcFaceOptions head = ArcFaceOptions(embedding->embedding(), identities)
                                  .scale(faces.scale)
                                  .margins(faces.angle_factor, faces.angular_margin, faces.cosine_margin);
  return std::make_shared<FaceClassifier>(std::move(embedding), head);
}

}  // namespace

FaceClassifier::FaceClassifier(std::shared_ptr<EmbeddingNetwork> embedding, const ArcFaceOptions& head)
    : embedding_(register_module("embedding", std::move(embedding))), head_(register_module("head", ArcFace(head))) {}

at::Tensor FaceClassifier::forward(const at::Tensor& images) { return head_->forward(embedding_->forward(images)); }

at::Tensor FaceClassifier::training_logits(const at::Tensor& images, const at::Tensor& labels) {
  return head_->forward(embedding_->forward(images), labels);
}

const Trainer& face_trainer() {
  static const Trainer trainer = {"mma-faces train", load_identities, make_face_classifier,
                                  [](const Settings& settings) { check(face_settings(settings)); }};
  return trainer;
}

}  // namespace mma::examples
