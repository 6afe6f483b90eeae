// Fashion-MNIST as its publisher and Debian have it: four IDX files, plain or .gz.
#pragma once

#include "training/data/data_files.hpp"
#include "training/data/dataset.hpp"

namespace mma::examples {

/// Fills in images of 1 x 28 x 28 and labels. Throws UserError that names the file that is missing, damaged or of
/// another shape.
void read_fashion_mnist(const Place& place, Dataset& dataset);

}  // namespace mma::examples
