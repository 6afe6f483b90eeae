#include "support/process/environment.hpp"

#include <stdlib.h>
#include <unistd.h>

namespace mma::examples {
namespace {

constexpr const char* keep_freed_memory =
    "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=2000000000:glibc.malloc.hugetlb=1:glibc.malloc.mxfast=0";

bool set_unless_set(const char* name, const char* value) {
  return ::getenv(name) == nullptr && ::setenv(name, value, 1) == 0;
}

}  // namespace

void restart_for_training(char** argv) {
  const bool has_set_threads = set_unless_set("OMP_WAIT_POLICY", "passive");
  if (has_set_threads) set_unless_set("GOMP_SPINCOUNT", "1000");
  const bool has_set_memory = set_unless_set("GLIBC_TUNABLES", keep_freed_memory);
  // Returns only when it fails: then this goes on as it is.
  if (has_set_threads || has_set_memory) ::execv("/proc/self/exe", argv);
}

}  // namespace mma::examples
