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
#include <new>
#include <regex>

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

std::optional<std::string> memory_shortage(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return "not enough memory";
  const auto* of_libtorch = dynamic_cast<const c10::Error*>(&error);
  if (of_libtorch == nullptr) return std::nullopt;
  const std::string text = of_libtorch->what_without_backtrace();
  std::smatch bytes;
  const std::regex by_the_cpus_allocator("can't allocate memory: you tried to allocate ([0-9]+) bytes");
  if (!std::regex_search(text, bytes, by_the_cpus_allocator)) return std::nullopt;
  return "not enough memory for " + bytes[1].str() + " more bytes";
}

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
  } catch (const std::exception& error) {
    const auto* of_libtorch = dynamic_cast<const c10::Error*>(&error);
    const char* what = of_libtorch != nullptr ? of_libtorch->what_without_backtrace() : error.what();
    std::fprintf(stderr, "%s: %s\n", program, memory_shortage(error).value_or(what).c_str());
  } catch (...) {
    std::fprintf(stderr, "%s: failed without a word\n", program);
  }
  return 3;
}

}  // namespace mma::examples
