#include "support/process/environment.hpp"

#include <stdlib.h>
#include <unistd.h>

namespace mma::examples {
namespace {

/// The largest threshold that glibc takes, 32 MiB: larger tensors are mapped anew each time.
constexpr const char* keep_freed_memory = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=2000000000";

bool set_unless_set(const char* name, const char* value) {
  return ::getenv(name) == nullptr && ::setenv(name, value, 1) == 0;
}

}  // namespace

void restart_for_training(char** argv) {
  const bool has_set_threads = set_unless_set("OMP_WAIT_POLICY", "passive");
  const bool has_set_memory = set_unless_set("GLIBC_TUNABLES", keep_freed_memory);
  // Returns only when it fails: then this goes on as it is.
  if (has_set_threads || has_set_memory) ::execv("/proc/self/exe", argv);
}

}  // namespace mma::examples
