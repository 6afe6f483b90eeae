// What LibTorch's threads and the allocator read from the environment, once, before a program begins.
#pragma once

namespace mma::examples {

/// Sets what makes a training faster, unless it is set, and starts the program anew, once. What each is worth stands in
/// benchmarks/results/step-parts.md.
/// OMP_WAIT_POLICY and GOMP_SPINCOUNT: a thread that waits looks a thousand times, some microseconds, then sleeps. One
/// that goes on looking makes a step several times slower where another program wants its core (measured: 26 s instead
/// of 8 s); one that sleeps at once has to be woken for each small operation.
/// GLIBC_TUNABLES: freed memory is kept for the next step, large tensors too, instead of being given back to the
/// system, which hands it out again page by page; in huge pages where the system has them; and without the list of
/// small pieces that each large allocation would merge first.
void restart_for_training(char** argv);

}  // namespace mma::examples
