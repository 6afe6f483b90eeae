// Several processes of a program, started as a launcher does it: with the environment variables of torchrun.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "child_process.hpp"

namespace mma::tests {

/// One that nobody listens at now, on the loopback interface.
inline int free_port() {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(listener);
  return ntohs(address.sin_port);
}

/// What the process of a rank gets.
inline std::vector<std::string> environment_of(int rank, int processes, int port) {
  return {
      "RANK=" + std::to_string(rank), "LOCAL_RANK=" + std::to_string(rank),  "WORLD_SIZE=" + std::to_string(processes),
      "MASTER_ADDR=127.0.0.1",        "MASTER_PORT=" + std::to_string(port), "OMP_NUM_THREADS=1"};
}

#ifdef MMA_HAS_SEVERAL_PROCESSES
inline constexpr bool has_several_processes = true;
#else
inline constexpr bool has_several_processes = false;  // gloo's headers were not found
#endif

/// Where the programs were built without what connects processes, there is nothing to test.
class SeveralProcessesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_several_processes) GTEST_SKIP() << "built without gloo's headers (Debian: libgloo-dev)";
  }
};

class Launched {
 public:
  /// The processes get the words of their rank, where those differ.
  Launched(int processes, const std::vector<std::string>& words, const std::vector<std::string>& words_of_last = {}) {
    const int port = free_port();
    for (int rank = 0; rank < processes; ++rank) {
      std::vector<std::string> command = {"env"};
      const auto add = [&](const std::vector<std::string>& more) {
        command.insert(command.end(), more.begin(), more.end());
      };
      add(environment_of(rank, processes, port));
      add(rank == processes - 1 && !words_of_last.empty() ? words_of_last : words);
      children_.push_back(std::make_unique<ChildProcess>(command));
    }
  }
  /// Nobody is left over, however a test ends.
  ~Launched() {
    for (const auto& child : children_) child->send(SIGKILL);
  }
  Launched(const Launched&) = delete;
  Launched& operator=(const Launched&) = delete;

  ChildProcess& operator[](size_t rank) { return *children_[rank]; }

  /// The exit codes of all, or minus the signal that ended one.
  std::vector<int> finish() {
    std::vector<int> codes;
    for (const auto& child : children_) codes.push_back(child->finish());
    return codes;
  }

  /// What all have written to their error streams.
  std::string errors() const {
    std::string text;
    for (const auto& child : children_) text += child->errors();
    return text;
  }

 private:
  std::vector<std::unique_ptr<ChildProcess>> children_;
};

}  // namespace mma::tests
