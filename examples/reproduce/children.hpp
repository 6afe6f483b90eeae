// Programs run beside this one, several at once: what they print, how they end, and that none outlives this program.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/process/child.hpp"

namespace mma::examples {

/// How a child ended.
struct ChildEnd {
  size_t id;       ///< as given to start
  int exit_code;   ///< 128 + signal where a signal ended it
  double seconds;  ///< by the clock
};

class Children {
 public:
  /// `say` gets each line of children that do not have the terminal for themselves, with their id.
  explicit Children(std::function<void(size_t id, const std::string& line)> say) : say_(std::move(say)) {}
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  /// Starts a program by its path, argv[0]. With `own_output` it writes to this program's output itself, a progress bar
  /// too; otherwise line by line through `say`. Signals of the terminal do not reach it, only those that `tell` passes
  /// on; when this program dies, it gets SIGTERM. Throws CannotStart.
  void start(size_t id, const std::vector<std::string>& argv, bool own_output);

  /// Waits up to a tenth of a second for lines and for an end.
  std::optional<ChildEnd> wait_a_little();

  void tell(int signal) const;
  size_t count() const { return children_.size(); }

 private:
  struct Running {
    size_t id;
    Child child;
    std::string line;  ///< of its output, as far as it has come
    double started;
  };

  void read_lines(Running& running);

  std::vector<Running> children_;
  std::function<void(size_t, const std::string&)> say_;
};

}  // namespace mma::examples
