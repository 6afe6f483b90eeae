// What mma-train trains: the data sets and networks by name.
#pragma once

#include "training/run/trainer.hpp"

namespace mma::examples {

const Trainer& image_trainer();

}  // namespace mma::examples
