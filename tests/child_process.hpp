// A program run as a user runs it: its output line by line, signals to it, its exit code.
#pragma once

#include <gtest/gtest.h>
#include <stdio.h>

#include <optional>
#include <string>
#include <vector>

#include "support/process/child.hpp"

namespace mma::tests {

/// What a program that has ended wrote, and its exit code.
struct Outcome {
  int exit_code = -1;
  std::string output;  ///< both streams, in the order in which they were written
};

/// Runs a program to its end: a path, or the name of one in PATH.
inline Outcome outcome_of(const std::vector<std::string>& words) {
  examples::ChildOptions options;
  options.output = examples::ChildStream::pipe();
  options.errors = examples::ChildStream::as_output();
  examples::Child child(words, options);
  Outcome outcome;
  FILE* output = fdopen(child.output.release(), "r");
  for (int c; (c = fgetc(output)) != EOF;) outcome.output += static_cast<char>(c);
  fclose(output);
  const examples::ExitStatus status = child.wait();
  if (status.signal == 0) outcome.exit_code = status.code;
  return outcome;
}

/// How a program ends whose standard output is a full disk, and whose is closed: its exit code and what it says of it.
inline std::vector<Outcome> outcomes_without_output(const std::vector<std::string>& words) {
  std::vector<Outcome> outcomes;
  for (const std::string redirection : {">/dev/full", ">&-"}) {
    std::vector<std::string> shell = {"sh", "-c", "exec \"$0\" \"$@\" 2>&1 " + redirection};
    shell.insert(shell.end(), words.begin(), words.end());
    outcomes.push_back(outcome_of(shell));
  }
  return outcomes;
}

/// One sentence, exit code 2. What the system said is lost where the program has flushed its output on the way.
inline void expect_output_needed(const std::vector<std::string>& words, const std::string& program) {
  for (const Outcome& outcome : outcomes_without_output(words)) {
    EXPECT_EQ(outcome.exit_code, 2) << words.at(1);
    EXPECT_TRUE(outcome.output.starts_with(program + ": cannot write to the standard output")) << outcome.output;
    EXPECT_EQ(outcome.output.find('\n'), outcome.output.size() - 1) << outcome.output;
  }
}

class ChildProcess {
 public:
  /// With a file size limit every write beyond it fails, as on a full disk.
  explicit ChildProcess(const std::vector<std::string>& words, std::optional<rlim_t> file_size_limit = {})
      : child_(words, options(file_size_limit)),
        output_(fdopen(child_.output.release(), "r")),
        errors_(fdopen(child_.errors.release(), "r")) {}
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

  void send(int signal) const { child_.send(signal); }
  pid_t id() const { return child_.id(); }

  /// Reads the rest and returns the exit code, or minus the signal that ended the program.
  int finish() {
    for (std::string line; read_line(line);) {
    }
    for (int c; (c = fgetc(errors_)) != EOF;) errors_text_ += static_cast<char>(c);
    const examples::ExitStatus status = child_.wait();
    return status.signal == 0 ? status.code : -status.signal;
  }

  const std::string& output() const { return output_text_; }
  const std::string& errors() const { return errors_text_; }

 private:
  static examples::ChildOptions options(std::optional<rlim_t> file_size_limit) {
    examples::ChildOptions options;
    options.output = examples::ChildStream::pipe();
    options.errors = examples::ChildStream::pipe();
    options.file_size_limit = file_size_limit;
    return options;
  }

  bool read_line(std::string& line) {
    line.clear();
    int c;
    while ((c = fgetc(output_)) != EOF && c != '\n') line += static_cast<char>(c);
    output_text_ += line;
    if (c == '\n') output_text_ += '\n';
    return c == '\n';
  }

  examples::Child child_;
  FILE* output_;
  FILE* errors_;
  std::string output_text_;
  std::string errors_text_;
};

}  // namespace mma::tests
