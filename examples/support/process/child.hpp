// A program run beside this one: how it is started, what its streams are, signals to it, how it ends.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "support/files/descriptor.hpp"
#include "support/process/error.hpp"

namespace mma::examples {

/// What one of a child's standard streams is.
struct ChildStream {
  enum class Kind {
    inherited,
    nothing,    ///< /dev/null
    pipe,       ///< whose other end is the Child's
    file,       ///< one that is open here
    as_output,  ///< for errors: wherever the output goes
  };
  Kind kind = Kind::inherited;
  int file = -1;

  static ChildStream nothing() { return {Kind::nothing}; }
  static ChildStream pipe() { return {Kind::pipe}; }
  static ChildStream to_file(int number) { return {Kind::file, number}; }
  static ChildStream as_output() { return {Kind::as_output}; }
};

struct ChildOptions {
  ChildStream input = {}, output = {}, errors = {};
  bool own_group = false;                      ///< signals of the terminal do not reach it
  int signal_with_parent = 0;                  ///< which it gets when the thread that started it ends; 0: none
  std::optional<rlim_t> file_size_limit = {};  ///< every write beyond it fails, as on a full disk
};

/// How a program ended.
struct ExitStatus {
  int code = 0;    ///< what it returned
  int signal = 0;  ///< that ended it; 0: none

  bool succeeded() const { return code == 0 && signal == 0; }
  int as_shell_says() const { return signal != 0 ? 128 + signal : code; }
};

/// There is no such program, or the system cannot start it.
struct CannotStart : UserError {
  using UserError::UserError;
};

class Child {
 public:
  /// Starts argv[0], a path or the name of a program in PATH. Throws CannotStart, "cannot start PROGRAM: why".
  explicit Child(const std::vector<std::string>& argv, const ChildOptions& options = {});

  // This program's ends of the pipes; no child gets them.
  Descriptor input, output, errors;

  pid_t id() const { return process_; }
  void send(int signal) const;

  /// How it ended; std::nullopt while it runs.
  std::optional<ExitStatus> ended();
  /// Waits for its end. A child for which nobody waits goes on.
  ExitStatus wait();

 private:
  std::optional<ExitStatus> reaped(int options);

  pid_t process_ = -1;
  std::optional<ExitStatus> status_;
};

/// A program that has ended, and what it wrote.
struct FinishedProgram {
  ExitStatus status;
  std::string output, errors;
};

/// Runs a program to its end, with a text to read. Its streams are files and not pipes, so that neither side can block
/// or be killed by the other's end. Throws CannotStart, and UserError when there is no place for the files.
FinishedProgram run_to_end(const std::vector<std::string>& argv, const std::string& input = "");

}  // namespace mma::examples
