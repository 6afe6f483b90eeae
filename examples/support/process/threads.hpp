// How LibTorch's threads wait for each other.
#pragma once

namespace mma::examples {

/// They wait by spinning. Where another program wants a core too, that makes a step several times slower (measured: 26
/// s instead of 8 s). OpenMP reads the choice only when it is loaded: so this starts the program anew, once.
void wait_without_spinning(char** argv);

}  // namespace mma::examples
