#include "reproduce/children.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

constexpr int milliseconds_to_wait = 100;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// In the child, between fork and exec: calls only what is safe there.
[[noreturn]] void become(char** argv, int output, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(128 + SIGTERM);  // it died before the line above
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  if (output >= 0) {
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
  }
  execv(argv[0], argv);
  _exit(127);
}

UserError cannot_start(const std::string& program) {
  return UserError("cannot start " + program + ": " + std::strerror(errno));
}

}  // namespace

void Children::start(size_t id, const std::vector<std::string>& argv, bool own_output) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  std::array<int, 2> ends = {-1, -1};
  if (!own_output && pipe2(ends.data(), O_CLOEXEC) != 0) throw cannot_start(argv[0]);
  const pid_t parent = getpid();
  const pid_t process = fork();
  if (process == 0) become(words.data(), ends[1], parent);
  if (!own_output) close(ends[1]);
  if (process < 0) {
    if (!own_output) close(ends[0]);
    throw cannot_start(argv[0]);
  }
  children_.push_back({id, process, ends[0], "", now()});
}

void Children::read_lines(Child& child) {
  std::array<char, 4096> buffer;
  const ssize_t count = read(child.output, buffer.data(), buffer.size());
  if (count <= 0) {
    if (count < 0 && errno == EINTR) return;
    close(child.output);
    child.output = -1;
    if (!child.line.empty()) say_(child.id, child.line);
    child.line.clear();
    return;
  }
  for (const char character : std::string(buffer.data(), static_cast<size_t>(count))) {
    if (character != '\n') {
      child.line += character;
      continue;
    }
    say_(child.id, child.line);
    child.line.clear();
  }
}

std::optional<ChildEnd> Children::wait_a_little() {
  std::vector<pollfd> outputs;
  for (const Child& child : children_) outputs.push_back({child.output, POLLIN, 0});
  poll(outputs.data(), outputs.size(), milliseconds_to_wait);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].revents != 0) read_lines(children_[i]);
  }
  for (size_t i = 0; i < children_.size(); ++i) {
    Child& child = children_[i];
    if (child.output >= 0) continue;  // what it has still to say comes first
    int status = 0;
    if (waitpid(child.process, &status, WNOHANG) != child.process) continue;
    const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    const ChildEnd end = {child.id, exit_code, now() - child.started};
    children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
    return end;
  }
  return std::nullopt;
}

void Children::tell(int signal) const {
  for (const Child& child : children_) kill(child.process, signal);
}

}  // namespace mma::examples
