// A program run as a user runs it: its output line by line, signals to it, its exit code.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace mma::tests {

class ChildProcess {
 public:
  /// With a file size limit every write beyond it fails, as on a full disk.
  explicit ChildProcess(const std::vector<std::string>& words, std::optional<rlim_t> file_size_limit = {}) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    std::array<int, 2> output = {};
    std::array<int, 2> errors = {};
    EXPECT_EQ(pipe(output.data()) + pipe(errors.data()), 0);
    process_ = fork();
    if (process_ == 0) {
      dup2(output[1], STDOUT_FILENO);
      dup2(errors[1], STDERR_FILENO);
      for (int end : {output[0], output[1], errors[0], errors[1]}) close(end);
      if (file_size_limit) {
        const rlimit limit{*file_size_limit, *file_size_limit};
        setrlimit(RLIMIT_FSIZE, &limit);
      }
      execv(argv.front(), argv.data());
      _exit(127);
    }
    close(output[1]);
    close(errors[1]);
    output_ = fdopen(output[0], "r");
    errors_ = fdopen(errors[0], "r");
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() {
    finish();
    fclose(output_);
    fclose(errors_);
  }

  /// Reads standard output up to and with the first line that begins so; false when the program ends before.
  bool wait_for_line(const std::string& beginning) {
    for (std::string line; read_line(line);) {
      if (line.starts_with(beginning)) return true;
    }
    return false;
  }

  void send(int signal) const { kill(process_, signal); }
  pid_t id() const { return process_; }

  /// Reads the rest and returns the exit code, or minus the signal that ended the program.
  int finish() {
    if (finished_) return exit_code_;
    for (std::string line; read_line(line);) {
    }
    for (int c; (c = fgetc(errors_)) != EOF;) errors_text_ += static_cast<char>(c);
    int status = 0;
    EXPECT_EQ(waitpid(process_, &status, 0), process_);
    finished_ = true;
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return exit_code_;
  }

  const std::string& output() const { return output_text_; }
  const std::string& errors() const { return errors_text_; }

 private:
  bool read_line(std::string& line) {
    line.clear();
    int c;
    while ((c = fgetc(output_)) != EOF && c != '\n') line += static_cast<char>(c);
    output_text_ += line;
    if (c == '\n') output_text_ += '\n';
    return c == '\n';
  }

  pid_t process_ = -1;
  FILE* output_ = nullptr;
  FILE* errors_ = nullptr;
  bool finished_ = false;
  int exit_code_ = 0;
  std::string output_text_;
  std::string errors_text_;
};

}  // namespace mma::tests
