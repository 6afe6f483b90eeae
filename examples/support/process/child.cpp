#include "support/process/child.hpp"
#include "support/files/paths.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>

namespace mma::examples {

namespace {

[[noreturn]] void throw_error(int why) { throw std::system_error(why, std::generic_category()); }

Descriptor checked(int number) {
  if (number < 0) throw_error(errno);
  return Descriptor(number);
}

/// Beyond the standard streams, so that putting one of them in its place cannot overwrite another.
Descriptor beyond_standard(Descriptor descriptor) {
  if (descriptor.number() > STDERR_FILENO) return descriptor;
  return checked(::fcntl(descriptor.number(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

struct Pipe {
  Descriptor read, write;
};

Pipe made_pipe() {
  std::array<int, 2> ends = {-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_error(errno);
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  return {beyond_standard(std::move(pipe.read)), beyond_standard(std::move(pipe.write))};
}

/// The file that execvp would take; throws where there is none. Looked for here, because execvp allocates memory, which
/// nothing may between fork and exec.
std::string path_of(const std::string& program) {
  if (program.empty()) throw_error(ENOENT);
  if (program.find('/') != std::string::npos) return program;
  const char* folders = std::getenv("PATH");
  std::istringstream stream(folders != nullptr ? folders : "/bin:/usr/bin");
  int why = ENOENT;
  for (std::string folder; std::getline(stream, folder, ':');) {
    const std::string path = (folder.empty() ? "." : folder) + '/' + program;
    if (!is_file(path)) continue;
    if (::access(path.c_str(), X_OK) == 0) return path;
    why = EACCES;
  }
  throw_error(why);
}

/// The three ends that the child gets, and what this program keeps of them.
class ChildStreams {
 public:
  explicit ChildStreams(const ChildOptions& options) {
    take(options.input, STDIN_FILENO, O_RDONLY);
    take(options.output, STDOUT_FILENO, O_WRONLY);
    take(options.errors, STDERR_FILENO, O_WRONLY);
  }

  std::array<Descriptor, 3> kept;
  std::array<Descriptor, 3> given;            ///< none: inherited
  std::array<int, 3> numbers = {-1, -1, -1};  ///< of the given ones; two may be the same

 private:
  void take(const ChildStream& stream, int standard, int mode) {
    const auto index = static_cast<size_t>(standard);
    using Kind = ChildStream::Kind;
    if (stream.kind == Kind::nothing) given[index] = beyond_standard(checked(::open("/dev/null", mode | O_CLOEXEC)));
    if (stream.kind == Kind::file) given[index] = checked(::fcntl(stream.file, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (stream.kind == Kind::pipe) {
      Pipe pipe = made_pipe();
      given[index] = std::move(mode == O_RDONLY ? pipe.read : pipe.write);
      kept[index] = std::move(mode == O_RDONLY ? pipe.write : pipe.read);
    }
    numbers[index] = stream.kind == Kind::as_output ? numbers[STDOUT_FILENO] : given[index].number();
    // Where the output is inherited too, the errors become a copy of it.
    if (stream.kind == Kind::as_output && numbers[index] < 0) numbers[index] = STDOUT_FILENO;
  }
};

/// What the child needs to know. Made before fork: after it no memory may be allocated, another thread of this program
/// may have been in the middle of that.
struct Preparation {
  const char* path;
  char** argv;
  const std::array<int, 3>& streams;
  const ChildOptions& options;
  pid_t parent;
  int trouble;  ///< the pipe that tells this program why the child could not become the other; exec closes it
};

[[noreturn]] void give_up(const Preparation& preparation) {
  const int why = errno;
  // Should even this fail, the exit code still says so.
  [[maybe_unused]] const ssize_t written = ::write(preparation.trouble, &why, sizeof why);
  ::_exit(127);
}

/// In the child, between fork and exec: calls only what is safe there.
[[noreturn]] void become(const Preparation& preparation) {
  const ChildOptions& options = preparation.options;
  if (options.own_group) ::setpgid(0, 0);
  if (options.signal_with_parent != 0) {
    ::prctl(PR_SET_PDEATHSIG, options.signal_with_parent);
    if (::getppid() != preparation.parent) ::_exit(128 + options.signal_with_parent);  // it died before the line above
  }
  for (int standard = STDIN_FILENO; standard <= STDERR_FILENO; ++standard) {
    const int number = preparation.streams[static_cast<size_t>(standard)];
    if (number >= 0 && ::dup2(number, standard) < 0) give_up(preparation);
  }
  if (options.file_size_limit) {
    const rlimit limit{*options.file_size_limit, *options.file_size_limit};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) give_up(preparation);
  }
  ::execv(preparation.path, preparation.argv);
  give_up(preparation);
}

/// Waits until the child has become the other program; throws when it has not.
void expect_started(const Descriptor& trouble) {
  int why = 0;
  ssize_t count = 0;
  do {
    count = ::read(trouble.number(), &why, sizeof why);
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(sizeof why)) throw_error(why);
}

ExitStatus status_of(int status) {
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

}  // namespace

Child::Child(const std::vector<std::string>& argv, const ChildOptions& options) try {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const std::string path = path_of(argv.at(0));
  ChildStreams streams(options);
  Pipe trouble = made_pipe();
  const Preparation preparation{path.c_str(), words.data(), streams.numbers,
                                options,      ::getpid(),   trouble.write.number()};
  process_ = ::fork();
  if (process_ < 0) throw_error(errno);
  if (process_ == 0) become(preparation);
  trouble.write.close();
  try {
    expect_started(trouble.read);
  } catch (const std::system_error&) {
    wait();
    throw;
  }
  input = std::move(streams.kept[STDIN_FILENO]);
  output = std::move(streams.kept[STDOUT_FILENO]);
  errors = std::move(streams.kept[STDERR_FILENO]);
} catch (const std::system_error& error) {
  throw CannotStart("cannot start " + argv.at(0) + ": " + error.code().message());
}

void Child::send(int signal) const {
  if (!status_) ::kill(process_, signal);  // afterwards its number may be somebody else's
}

std::optional<ExitStatus> Child::reaped(int options) {
  if (status_) return status_;
  int status = 0;
  pid_t ended = 0;
  do {
    ended = ::waitpid(process_, &status, options);
  } while (ended < 0 && errno == EINTR);
  if (ended == process_) status_ = status_of(status);
  if (ended < 0) status_ = ExitStatus{};  // SIGCHLD is ignored: the system tells nobody how a child ended
  return status_;
}

std::optional<ExitStatus> Child::ended() { return reaped(WNOHANG); }

ExitStatus Child::wait() { return *reaped(0); }

namespace {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using AnonymousFile = std::unique_ptr<std::FILE, CloseFile>;

AnonymousFile anonymous_file(const std::string& program, const std::string& contents = "") {
  AnonymousFile file(std::tmpfile());
  if (!file || std::fwrite(contents.data(), 1, contents.size(), file.get()) != contents.size() ||
      std::fflush(file.get()) != 0) {
    throw UserError("cannot make a temporary file for " + program + ": " + std::strerror(errno));
  }
  std::rewind(file.get());
  return file;
}

std::string contents_of(std::FILE* file) {
  std::string contents;
  std::array<char, 1 << 16> buffer;
  std::rewind(file);
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file)) contents.append(buffer.data(), count);
  return contents;
}

}  // namespace

FinishedProgram run_to_end(const std::vector<std::string>& argv, const std::string& input) {
  const AnonymousFile in = anonymous_file(argv.at(0), input);
  const AnonymousFile out = anonymous_file(argv.at(0));
  const AnonymousFile err = anonymous_file(argv.at(0));
  ChildOptions options;
  options.input = ChildStream::to_file(::fileno(in.get()));
  options.output = ChildStream::to_file(::fileno(out.get()));
  options.errors = ChildStream::to_file(::fileno(err.get()));
  const ExitStatus status = Child(argv, options).wait();
  return {status, contents_of(out.get()), contents_of(err.get())};
}

}  // namespace mma::examples
