// Decoding the many images of a data set: on all of LibTorch's threads, with a bar, until one is damaged.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace mma::examples {

/// Calls decode(index) for each image, begun in order. Shows a bar on a terminal, one line elsewhere, on standard
/// error; `what` are they the images of. Throws the UserError of the earliest image that threw one, whichever thread
/// had it, and one after an interruption (see interruption.hpp).
void decode_images(int64_t images, const std::string& what, const std::function<void(int64_t index)>& decode);

}  // namespace mma::examples
