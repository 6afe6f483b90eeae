#include "support/files/file_contents.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse_to_read(const fs::path& path, int error) {
  throw UserError("cannot read " + path.string() + ": " + std::strerror(error));
}

Descriptor opened_to_read(const fs::path& path) {
  Descriptor file = opened(path, O_RDONLY);
  if (!file.is_open()) refuse_to_read(path, errno);
  return file;
}

/// What the system promises of a regular file; 0 of others.
uint64_t promised_size(const Descriptor& file) {
  struct stat status = {};
  return ::fstat(file.number(), &status) == 0 && S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : 0;
}

template <class Bytes>
Bytes read_all(const fs::path& path, uint64_t most) {
  const Descriptor file = opened_to_read(path);
  const uint64_t promised = promised_size(file);
  const auto refuse_if_above = [&](uint64_t size) {
    if (size > most) throw UserError(path.string() + ": it holds more than " + std::to_string(most) + " bytes");
  };
  refuse_if_above(promised);
  Bytes bytes;
  bytes.reserve(promised);
  std::vector<char> chunk(size_t{1} << 16);
  for (ssize_t got = 1; got != 0;) {
    got = ::read(file.number(), chunk.data(), chunk.size());
    if (got < 0 && errno != EINTR) refuse_to_read(path, errno);
    if (got <= 0) continue;
    refuse_if_above(bytes.size() + static_cast<size_t>(got));
    bytes.insert(bytes.end(), chunk.begin(), chunk.begin() + got);
  }
  return bytes;
}

}  // namespace

std::string contents_of(const fs::path& path, uint64_t most) { return read_all<std::string>(path, most); }

std::vector<uint8_t> bytes_of(const fs::path& path, uint64_t most) {
  return read_all<std::vector<uint8_t>>(path, most);
}

SeekableFile::SeekableFile(const fs::path& path)
    : path_(path), file_(opened_to_read(path)), size_(promised_size(file_)) {}

size_t SeekableFile::read(uint64_t position, void* bytes, size_t count) const {
  size_t done = 0;
  for (ssize_t got = 1; done < count && got != 0;) {
    got = ::pread(file_.number(), static_cast<char*>(bytes) + done, count - done, static_cast<off_t>(position + done));
    if (got < 0 && errno != EINTR) refuse_to_read(path_, errno);
    if (got > 0) done += static_cast<size_t>(got);
  }
  return done;
}

std::string SeekableFile::read(uint64_t position, size_t count) const {
  std::string bytes(std::min<uint64_t>(count, position < size_ ? size_ - position : 0), '\0');
  bytes.resize(read(position, bytes.data(), bytes.size()));
  return bytes;
}

}  // namespace mma::examples
