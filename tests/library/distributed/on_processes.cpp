#include "on_processes.hpp"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "temporary_folder.hpp"

namespace distributed {
namespace {

/// A process that takes longer has hung; its partners' calls end before it.
constexpr unsigned longest_seconds = 90;
constexpr std::chrono::seconds longest_call{60};

Group make_group(const std::string& store, int rank, int count) {
  const auto options = c10d::ProcessGroupGloo::Options::create(longest_call);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
  const auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::FileStore>(store, count),
                                                                rank, count, options);
  auto group = c10::make_intrusive<c10d::ProcessGroup>(rank, count);
  group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  group->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
  return group;
}

/// The copy's whole life: what it writes goes to a file, and none of the original's own ends are run.
[[noreturn]] void live(const std::string& output, const std::string& store, int rank, int count,
                       const std::function<void(const Group&)>& body) {
  alarm(longest_seconds);
  if (freopen(output.c_str(), "w", stdout) == nullptr || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) _exit(3);
  int code = 0;
  try {
    const Group group = make_group(store, rank, count);
    body(group);
    group->getBackend(c10::DeviceType::CPU)->barrier()->wait();
    code = testing::Test::HasFailure() ? 1 : 0;
  } catch (const c10::Error& error) {
    std::cout << "ended by an exception: " << error.what_without_backtrace() << std::endl;
    code = 2;
  } catch (const std::exception& error) {
    std::cout << "ended by an exception: " << error.what() << std::endl;
    code = 2;
  }
  std::cout.flush();
  fflush(nullptr);
  _exit(code);
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  const std::string hung = WTERMSIG(status) == SIGALRM ? " (it hung)" : "";
  return "signal " + std::to_string(WTERMSIG(status)) + hung;
}

std::string text_of(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

}  // namespace

void on_processes(int count, const std::function<void(const Group&)>& body) {
  at::set_num_threads(1);  // copies have no threads but the one that makes them
  const mma::tests::TemporaryFolder folder;
  fflush(nullptr);
  std::vector<pid_t> processes;
  const auto output = [&](int rank) { return (folder / ("output-" + std::to_string(rank))).string(); };
  for (int rank = 0; rank < count; ++rank) {
    const pid_t process = fork();
    ASSERT_GE(process, 0) << "cannot start a process";
    if (process == 0) live(output(rank), (folder / "store").string(), rank, count, body);
    processes.push_back(process);
  }
  for (int rank = 0; rank < count; ++rank) {
    int status = 0;
    ASSERT_EQ(waitpid(processes[static_cast<size_t>(rank)], &status, 0), processes[static_cast<size_t>(rank)]);
    EXPECT_EQ(status, 0) << "process " << rank << " of " << count << ": " << how_it_ended(status) << "\n"
                         << text_of(output(rank));
  }
}

void on_all_counts(const std::function<void(const Group&)>& body) {
  for (const int count : {1, 2, 4}) {
    SCOPED_TRACE(std::to_string(count) + " processes");
    on_processes(count, body);
  }
}

}  // namespace distributed
