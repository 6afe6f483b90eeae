#include "support/process/error.hpp"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>

namespace mma::examples {

namespace {

/// The next file that is opened would get the number of a stream that is closed, and what is printed would end in it.
/// A file of the wrong mode is in its place as good as closed.
void hold_places_of_closed_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (::fcntl(stream, F_GETFD) < 0) ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

/// What a program prints is what it was called for: on a full disk, say, it has failed.
void expect_output_written() {
  errno = 0;
  std::cout.flush();
  const bool flushed = std::fflush(stdout) == 0;
  const std::string why = errno != 0 ? std::string(": ") + std::strerror(errno) : "";
  require(flushed && std::cout.good() && std::ferror(stdout) == 0, "cannot write to the standard output" + why);
}

}  // namespace

int run_program(const char* program, const std::function<int()>& body) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows beyond the user's limit is an error of write(), not the end
  hold_places_of_closed_streams();
  try {
    const int code = body();
    if (code == 0) expect_output_written();
    return code;
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "%s: cannot use %s: %s\n", program, error.path1().c_str(), error.code().message().c_str());
    return 2;
  } catch (const UserError& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 2;
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what_without_backtrace());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
  } catch (...) {
    std::fprintf(stderr, "%s: failed without a word\n", program);
  }
  return 3;
}

}  // namespace mma::examples
