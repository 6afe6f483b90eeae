#include "support/files/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <regex>
#include <streambuf>
#include <string>

#include "support/files/descriptor.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

/// A stream buffer over a file descriptor that keeps the reason of the first failed write, which std::filebuf hides.
class DescriptorBuffer : public std::streambuf {
 public:
  explicit DescriptorBuffer(int descriptor) : descriptor_(descriptor) { empty(); }

  int error() const { return error_; }

 protected:
  int_type overflow(int_type character) override {
    if (sync() != 0) return traits_type::eof();
    if (!traits_type::eq_int_type(character, traits_type::eof())) sputc(traits_type::to_char_type(character));
    return traits_type::not_eof(character);
  }

  std::streamsize xsputn(const char* bytes, std::streamsize count) override {
    if (count <= epptr() - pptr()) {
      std::copy_n(bytes, count, pptr());
      pbump(static_cast<int>(count));
      return count;
    }
    return sync() == 0 && write_all(bytes, static_cast<size_t>(count)) ? count : 0;
  }

  int sync() override {
    const bool written = write_all(pbase(), static_cast<size_t>(pptr() - pbase()));
    empty();
    return written ? 0 : -1;
  }

 private:
  void empty() { setp(buffer_.data(), buffer_.data() + buffer_.size()); }

  bool write_all(const char* bytes, size_t count) {
    while (count > 0 && error_ == 0) {
      const ssize_t written = ::write(descriptor_, bytes, count);
      if (written < 0) {
        if (errno != EINTR) error_ = errno;
        continue;
      }
      bytes += written;
      count -= static_cast<size_t>(written);
    }
    return error_ == 0;
  }

  int descriptor_;
  int error_ = 0;
  std::array<char, 1 << 16> buffer_;
};

/// Removes the temporary file when the scope is left, unless it has become the real one.
struct TemporaryFile {
  fs::path path;
  bool kept = false;
  ~TemporaryFile() {
    if (!kept) ::unlink(path.c_str());
  }
};

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// Hidden, in the same folder, so that the rename stays within one file system.
fs::path temporary_path(const fs::path& path) {
  fs::path name(".");
  name += path.filename();
  name += '.';
  name += std::to_string(::getpid());
  name += ".tmp";
  return folder_of(path) / name;
}

[[noreturn]] void fail(const fs::path& path, int error) {
  throw UserError("cannot write " + path.string() + ": " + std::strerror(error));
}

int sync(const Descriptor& file) {
  int result = 0;
  do result = ::fsync(file.number());
  while (result != 0 && errno == EINTR);
  return result;
}

void write_and_sync(const fs::path& path, Descriptor& file, const std::function<void(std::ostream&)>& write) {
  DescriptorBuffer buffer(file.number());
  std::ostream stream(&buffer);
  stream.exceptions(std::ios::badbit);
  try {
    write(stream);
    stream.flush();
  } catch (const std::ios_base::failure&) {
    if (buffer.error() == 0) throw;
  }
  if (buffer.error() != 0) fail(path, buffer.error());
  if (sync(file) != 0 || !file.close()) fail(path, errno);
}

/// Makes the new name last through a power cut. Some file systems cannot sync a folder and say EINVAL: nothing to do.
void sync_folder(const fs::path& path) {
  const Descriptor folder = opened(folder_of(path), O_RDONLY | O_DIRECTORY);
  if (!folder.is_open() || (sync(folder) != 0 && errno != EINVAL)) fail(path, errno);
}

}  // namespace

void write_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
  TemporaryFile temporary{temporary_path(path)};
  Descriptor file = opened(temporary.path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  if (!file.is_open()) {
    temporary.kept = true;
    fail(path, errno);
  }
  write_and_sync(path, file, write);
  if (::rename(temporary.path.c_str(), path.c_str()) != 0) fail(path, errno);
  temporary.kept = true;
  sync_folder(path);
}

void remove_unfinished_files(const fs::path& folder) {
  const std::regex temporary("\\..+\\.([0-9]{1,9})\\.tmp");
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    std::smatch writer;
    if (!std::regex_match(name, writer, temporary) || !entry.is_regular_file(ignored)) continue;
    const bool lives = ::kill(std::stoi(writer[1]), 0) == 0 || errno != ESRCH;
    if (!lives) fs::remove(entry.path(), ignored);
  }
}

void write_atomically(const fs::path& path, const std::string& text) {
  write_atomically(path, [&](std::ostream& stream) { stream << text; });
}

}  // namespace mma::examples
