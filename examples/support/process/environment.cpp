#include "support/process/environment.hpp"

#include <stdlib.h>
#include <unistd.h>

namespace mma::examples {
namespace {

bool set_unless_set(const char* name, const char* value) {
  return ::getenv(name) == nullptr && ::setenv(name, value, 1) == 0;
}

}  // namespace

void restart_for_training(char** argv) {
  const bool has_set_threads = set_unless_set("OMP_WAIT_POLICY", "passive");
  const bool has_set_pages = set_unless_set("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
  // Returns only when it fails: then this goes on as it is.
  if (has_set_threads || has_set_pages) ::execv("/proc/self/exe", argv);
}

}  // namespace mma::examples
