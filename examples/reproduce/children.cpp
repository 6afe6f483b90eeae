#include "reproduce/children.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

namespace mma::examples {
namespace {

constexpr int milliseconds_to_wait = 100;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

void Children::start(size_t id, const std::vector<std::string>& argv, bool own_output) {
  ChildOptions options;
  options.input = ChildStream::nothing();
  if (!own_output) {
    options.output = ChildStream::pipe();
    options.errors = ChildStream::as_output();
  }
  options.own_group = true;
  options.signal_with_parent = SIGTERM;
  children_.push_back({id, Child(argv, options), "", now()});
}

void Children::read_lines(Running& running) {
  std::array<char, 4096> buffer;
  const ssize_t count = read(running.child.output.number(), buffer.data(), buffer.size());
  if (count <= 0) {
    if (count < 0 && errno == EINTR) return;
    running.child.output.close();
    if (!running.line.empty()) say_(running.id, running.line);
    running.line.clear();
    return;
  }
  for (const char character : std::string(buffer.data(), static_cast<size_t>(count))) {
    if (character != '\n') {
      running.line += character;
      continue;
    }
    say_(running.id, running.line);
    running.line.clear();
  }
}

std::optional<ChildEnd> Children::wait_a_little() {
  std::vector<pollfd> outputs;
  for (const Running& running : children_) outputs.push_back({running.child.output.number(), POLLIN, 0});
  poll(outputs.data(), outputs.size(), milliseconds_to_wait);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].revents != 0) read_lines(children_[i]);
  }
  for (size_t i = 0; i < children_.size(); ++i) {
    Running& running = children_[i];
    if (running.child.output.is_open()) continue;  // what it has still to say comes first
    const std::optional<ExitStatus> status = running.child.ended();
    if (!status) continue;
    const ChildEnd end = {running.id, status->as_shell_says(), now() - running.started};
    children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(i));
    return end;
  }
  return std::nullopt;
}

void Children::tell(int signal) const {
  for (const Running& running : children_) running.child.send(signal);
}

}  // namespace mma::examples
