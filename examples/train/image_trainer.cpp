#include "train/image_trainer.hpp"

#include "training/data/datasets.hpp"
#include "training/models/networks.hpp"

namespace mma::examples {

const Trainer& image_trainer() {
  static const Trainer trainer = {
      "mma-train", [](const Settings& settings) { return load_dataset(settings.dataset, settings.data); },
      [](const Settings& settings, ImageShape image, int64_t classes) {
        return make_model(settings.model, image, classes, settings.dropout);
      }};
  return trainer;
}

}  // namespace mma::examples
