// What a training program has of its own: where its data come from and what network it makes of its settings. The rest
// of a run (steps, metrics, checkpoints, resumption) is the same for all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "training/data/dataset.hpp"
#include "training/models/network.hpp"
#include "training/settings/settings.hpp"

namespace mma::examples {

struct Trainer {
  std::string program;  ///< the words that start it, for sentences and records
  std::function<Dataset(const Settings&)> load;
  std::function<std::shared_ptr<ImageClassifier>(const Settings&, ImageShape, int64_t classes)> make_network;
  /// Of its own settings, those of a checkpoint too; throws UserError for values that no run can have.
  std::function<void(const Settings&)> check = [](const Settings&) {};
};

}  // namespace mma::examples
