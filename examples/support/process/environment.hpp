// What LibTorch's threads and the allocator read from the environment, once, before a program begins.
#pragma once

namespace mma::examples {

/// Sets what makes a training faster, unless it is set, and starts the program anew, once:
/// OMP_WAIT_POLICY=passive: threads wait for each other by spinning, which makes a step several times slower where
/// another program wants a core too (measured: 26 s instead of 8 s). GLIBC_TUNABLES=glibc.malloc.hugetlb=1: tensors lie
/// in huge pages, where the system has them for who asks (measured: 3 to 6 % of a step,
/// benchmarks/results/step-parts.md).
void restart_for_training(char** argv);

}  // namespace mma::examples
