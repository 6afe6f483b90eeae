// What LibTorch's threads and the allocator read from the environment, once, before a program begins.
#pragma once

namespace mma::examples {

/// Sets what makes a training faster, unless it is set, and starts the program anew, once.
/// OMP_WAIT_POLICY: threads wait for each other without spinning, which makes a step several times slower where another
/// program wants a core too (measured: 26 s instead of 8 s).
/// GLIBC_TUNABLES: freed memory is kept for the next step instead of being given back to the system, which hands it out
/// again page by page (benchmarks/results/step-parts.md).
void restart_for_training(char** argv);

}  // namespace mma::examples
