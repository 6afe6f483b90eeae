#include "support/process/error.hpp"

#include <c10/util/Exception.h>

#include <csignal>
#include <cstdio>

namespace mma::examples {

int run_program(const char* program, const std::function<int()>& body) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond the user's limit is an error of write(), not the end
  try {
    return body();
  } catch (const UserError& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 2;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
  }
  return 3;
}

}  // namespace mma::examples
