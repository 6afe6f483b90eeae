// The networks by name. A new one is a file beside this one and a line in networks.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "training/models/network.hpp"

namespace mma::examples {

struct Network {
  const char* name;
  const char* recipe;  ///< the name of the recipe that it is trained with
  int64_t smallest_image;
  bool has_dropout;
  std::shared_ptr<ImageClassifier> (*make)(int64_t channels, int64_t classes, double dropout);
};

/// In the order in which help shows them.
const std::vector<Network>& networks();
std::vector<std::string> model_names();

/// Throws UserError for an unknown name; the sentence lists the known ones.
const Network& network_named(const std::string& name);

/// Makes and initialises a network (random numbers: LibTorch's default generator).
/// `dropout`: the share of zeroed activations between the two convolutions of a WRN's blocks.
/// Throws UserError for an unknown name, an image too small for the network, or dropout for a network that has none.
std::shared_ptr<ImageClassifier> make_model(const std::string& name, ImageShape image, int64_t classes,
                                            double dropout = 0);

}  // namespace mma::examples
