// The processes that train together, of which this program is one: what rank it has, and the collectives beside the
// averaging of gradients. Started by itself a program is alone, and nothing here does anything.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "training/distributed/launch.hpp"

namespace c10d {
class ProcessGroup;
}

namespace mma::examples {

class Processes {
 public:
  /// This program alone.
  Processes();
  /// Meets the others at the store, and is watched from then on. `program`: the words that its last sentence begins
  /// with. Throws UserError where the store cannot be reached within `timeout` seconds.
  Processes(const Launch& launch, const std::string& program, double timeout);
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  static Processes& alone();

  int64_t rank() const;
  int64_t count() const;
  bool are_several() const { return count() > 1; }
  /// Rank 0: it alone shows what goes on and writes files.
  bool is_first() const { return rank() == 0; }

  /// Runs what the processes do together. What one of them throws is told to the others, and where one is lost the
  /// program ends here, with a sentence of one of them and exit code 3.
  int run(const std::function<int()>& body);

  /// A text that rank 0 has made, for all.
  std::string shared(const std::function<std::string()>& make);
  /// Returns once all are here; however long that takes, while all live.
  void meet(const std::string& where);
  /// Seconds of silence after which a process is given up, from now on. Before connect().
  void set_timeout(double seconds);
  /// Connects the engines for tensors on a device.
  void connect(const std::string& device);
  /// Once for all of a launch: true from the second call on, also after the launcher has started the processes anew.
  bool has_begun() const;
  void begin();
  int64_t restarts() const;
  const Launch& launch() const;

  /// Rank 0's numbers, for all; in place.
  void broadcast(const std::vector<at::Tensor>& tensors);
  /// The sum over all, the largest of all; in place.
  void add_up(at::Tensor& tensor);
  void take_largest(at::Tensor& tensor);

  /// Whether one of them says so now; the same for all of them.
  bool now_anyone(bool own);

  /// What all have said at the step before this one, so that nobody waits: true where one of them did. The same for
  /// all of them.
  bool any_said(bool own);

  /// How far the training is, for the sentence about one that does not go on.
  void set_step(int64_t step);

  /// Seconds that this process has spent in the collectives above, on a CPU.
  double seconds() const;

  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const;

 private:
  void part();

  struct Connection;
  std::unique_ptr<Connection> connection_;
};

}  // namespace mma::examples
