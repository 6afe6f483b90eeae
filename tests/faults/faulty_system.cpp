// A system that fails, for a program that is started with LD_PRELOAD=libmma_faulty_system.so: its calls on files come
// here first. MMA_FAULT says how they fail, MMA_FAULT_FILES which files: those whose path has this in it.
//
//   short            no call transfers more than 777 bytes
//   interrupted      every second call fails with EINTR first
//   full:N           from the Nth write on there is no space left on the device
//   lost:N           from the Nth fsync of a file (not of a folder) on the device reports an error of input and output,
//   as for bytes it could not keep unreadable:N     from the Nth read on it reports an error of input and output clock
//   each time that it is asked for the date, the clock has gone back by an hour
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

/// The system's own function behind the one of that name here.
template <class Function>
Function* next(const char* name, Function* /*like*/) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool fault_is(const char* name) {
  const char* fault = std::getenv("MMA_FAULT");
  return fault != nullptr && std::strncmp(fault, name, std::strlen(name)) == 0;
}

/// N of "full:N".
long number_of_fault() {
  const char* fault = std::getenv("MMA_FAULT");
  const char* number = fault == nullptr ? nullptr : std::strchr(fault, ':');
  return number == nullptr ? 1 : std::atol(number + 1);
}

bool is_meant(const char* path) {
  const char* part = std::getenv("MMA_FAULT_FILES");
  return part != nullptr && std::strstr(path, part) != nullptr;
}

bool is_folder(int file) {
  struct stat status = {};
  return fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_meant(int file) {
  struct stat status = {};
  if (fstat(file, &status) != 0 || !(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) return false;
  std::array<char, 64> link = {};
  std::array<char, 4096> path = {};
  std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", file);
  return readlink(link.data(), path.data(), path.size() - 1) > 0 && is_meant(path.data());
}

/// Whether a call of this kind fails, which sets errno.
bool fails_as(const char* fault, int error, std::atomic<long>& count) {
  if (!fault_is(fault) || ++count < number_of_fault()) return false;
  errno = error;
  return true;
}

bool is_interrupted() {
  static std::atomic<long> count{0};
  if (!fault_is("interrupted") || ++count % 2 == 0) return false;
  errno = EINTR;
  return true;
}

bool write_fails() {
  static std::atomic<long> count{0};
  return is_interrupted() || fails_as("full", ENOSPC, count);
}

bool read_fails() {
  static std::atomic<long> count{0};
  return is_interrupted() || fails_as("unreadable", EIO, count);
}

bool sync_fails(int file) {
  static std::atomic<long> count{0};
  return is_interrupted() || (!is_folder(file) && fails_as("lost", EIO, count));
}

size_t transferred(size_t count) {
  constexpr size_t most = 777;
  return fault_is("short") ? std::min(count, most) : count;
}

/// Only the first piece, where not all of them are to be transferred.
int pieces(const iovec* vectors, int count, iovec& first) {
  first = vectors[0];
  if (!fault_is("short") || count == 0) return count;
  first.iov_len = transferred(first.iov_len);
  return first.iov_len == 0 ? count : 1;
}

void turn_back(timespec* time) {
  static std::atomic<long> hours{0};
  if (fault_is("clock")) time->tv_sec -= 3600 * ++hours;
}

}  // namespace

extern "C" {

ssize_t write(int file, const void* bytes, size_t count) {
  static auto* const real = next("write", &write);
  if (!is_meant(file)) return real(file, bytes, count);
  return write_fails() ? -1 : real(file, bytes, transferred(count));
}

ssize_t pwrite(int file, const void* bytes, size_t count, off_t position) {
  static auto* const real = next("pwrite", &pwrite);
  if (!is_meant(file)) return real(file, bytes, count, position);
  return write_fails() ? -1 : real(file, bytes, transferred(count), position);
}

ssize_t writev(int file, const iovec* vectors, int count) {
  static auto* const real = next("writev", &writev);
  if (!is_meant(file)) return real(file, vectors, count);
  iovec first = {};
  const int taken = pieces(vectors, count, first);
  return write_fails() ? -1 : real(file, taken == count ? vectors : &first, taken);
}

ssize_t read(int file, void* bytes, size_t count) {
  static auto* const real = next("read", &read);
  if (!is_meant(file)) return real(file, bytes, count);
  return read_fails() ? -1 : real(file, bytes, transferred(count));
}

ssize_t pread(int file, void* bytes, size_t count, off_t position) {
  static auto* const real = next("pread", &pread);
  if (!is_meant(file)) return real(file, bytes, count, position);
  return read_fails() ? -1 : real(file, bytes, transferred(count), position);
}

int fsync(int file) {
  static auto* const real = next("fsync", &fsync);
  if (!is_meant(file)) return real(file);
  return sync_fails(file) ? -1 : real(file);
}

int open(const char* path, int flags, ...) {
  static auto* const real = next("open", &open);
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return is_meant(path) && is_interrupted() ? -1 : real(path, flags, mode);
}

int clock_gettime(clockid_t clock, timespec* time) {
  static auto* const real = next("clock_gettime", &clock_gettime);
  const int result = real(clock, time);
  if (clock == CLOCK_REALTIME) turn_back(time);
  return result;
}

time_t time(time_t* result) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != nullptr) *result = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(timeval* result, void* /*zone*/) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  result->tv_sec = now.tv_sec;
  result->tv_usec = now.tv_nsec / 1000;
  return 0;
}

}  // extern "C"
