#include "support/process/threads.hpp"

#include <stdlib.h>
#include <unistd.h>

namespace mma::examples {

void wait_without_spinning(char** argv) {
  if (::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  ::execv("/proc/self/exe", argv);  // returns only when it fails: then this goes on as it is
}

}  // namespace mma::examples
