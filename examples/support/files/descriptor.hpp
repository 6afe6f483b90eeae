// An open file by its number.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

namespace mma::examples {

/// Closed by a leaving scope; a negative number: none.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { close(); }

  bool is_open() const { return number_ >= 0; }
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }

  /// False when the file system reports, only now, that it could not keep the bytes.
  bool close() { return !is_open() || ::close(release()) == 0; }

 private:
  int number_;
};

/// The system's open(), again where a signal has interrupted it. Where it fails, errno says why.
inline Descriptor opened(const std::filesystem::path& path, int flags) {
  constexpr int for_all_that_the_users_mask_lets = 0666;
  int number = -1;
  do number = ::open(path.c_str(), flags | O_CLOEXEC, for_all_that_the_users_mask_lets);
  while (number < 0 && errno == EINTR);
  return Descriptor(number);
}

}  // namespace mma::examples
