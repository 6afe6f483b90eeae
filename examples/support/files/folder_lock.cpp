#include "support/files/folder_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <sstream>

#include "support/files/atomic_file.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

namespace fs = std::filesystem;

fs::path lock_in(const fs::path& folder) { return folder / ".lock"; }

/// Of the open file, not of the process: a library that opens and closes the same file does not release it.
int lock_by_system(int file) {
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return ::fcntl(file, F_OFD_SETLK, &whole) == 0 ? 0 : errno;
}

bool is_held(int why) { return why == EAGAIN || why == EACCES; }

/// Whether the path still leads to the open file: a holder that ends removes its own.
bool is_at(const fs::path& path, const Descriptor& file) {
  struct stat of_path = {}, of_file = {};
  return ::stat(path.c_str(), &of_path) == 0 && ::fstat(file.number(), &of_file) == 0 &&
         of_path.st_ino == of_file.st_ino && of_path.st_dev == of_file.st_dev;
}

std::string host_name() {
  std::array<char, 256> name = {};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

/// For whoever finds the folder taken. Where it cannot be written the lock holds all the same.
void write_holder(const Descriptor& file) {
  const std::string text = std::to_string(::getpid()) + ' ' + host_name() + '\n';
  if (::ftruncate(file.number(), 0) != 0) return;
  [[maybe_unused]] const ssize_t written = ::pwrite(file.number(), text.data(), text.size(), 0);
}

std::string read_holder(const Descriptor& file) {
  std::array<char, 512> text = {};
  if (::pread(file.number(), text.data(), text.size() - 1, 0) <= 0) return "another process";
  std::istringstream words(text.data());
  pid_t id = 0;
  std::string host;
  if (!(words >> id)) return "another process";
  words >> host;
  return "process " + std::to_string(id) + (host.empty() || host == host_name() ? "" : " on " + host);
}

[[noreturn]] void refuse(const fs::path& folder, const Descriptor& file) {
  throw UserError(folder.string() + " is being written by " + read_holder(file) +
                  ": wait for its end, or choose another folder by --out");
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) : FolderLock(folder, lock_by_system) {}

FolderLock::FolderLock(const fs::path& folder, const LockFile& lock_file) : path_(lock_in(folder)) {
  do {
    file_ = opened(path_, O_RDWR | O_CREAT | O_NOFOLLOW);
    if (!file_.is_open()) throw UserError("cannot write into " + folder.string() + ": " + std::strerror(errno));
    const int why = lock_file(file_.number());
    if (is_held(why)) refuse(folder, file_);
    if (why != 0) {
      std::cerr << "warning: the file system of " << folder.string() << " has no locks (" << std::strerror(why)
                << "): nothing keeps a second program out of it" << std::endl;
    }
  } while (!is_at(path_, file_));
  write_holder(file_);
  remove_unfinished_files(folder);
}

FolderLock::~FolderLock() {
  if (is_at(path_, file_)) ::unlink(path_.c_str());  // before it is released, so that nobody's but this one
}

std::optional<std::string> holder_of(const fs::path& folder) {
  const Descriptor file = opened(lock_in(folder), O_RDWR | O_NOFOLLOW);
  struct flock whole = {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (!file.is_open() || ::fcntl(file.number(), F_OFD_GETLK, &whole) != 0 || whole.l_type == F_UNLCK) {
    return std::nullopt;
  }
  return read_holder(file);
}

}  // namespace mma::examples
