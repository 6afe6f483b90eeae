// A thread that says through the store that its process lives, listens to whether the others do, and ends the process
// with one sentence where one of them is lost or has failed: nobody waits in a collective for a process that is gone.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "training/distributed/judge.hpp"

namespace c10d {
class Store;
}

namespace mma::examples {

struct WatchOptions {
  int64_t rank = 0, world_size = 1;
  double timeout = 300;                                  ///< seconds of silence after which a process is given up
  std::string store_place;                               ///< "127.0.0.1:29500"
  bool store_is_agents = false;                          ///< not kept by rank 0
  std::function<void(const std::string& sentence)> end;  ///< ends the process; an empty sentence: without a word
};

class Watch {
 public:
  /// `store` is this thread's own connection: its calls may block.
  Watch(c10::intrusive_ptr<c10d::Store> store, WatchOptions options);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// From now on.
  void set_timeout(double seconds) { timeout_ = seconds; }

  /// How far the training is; whoever is behind the others is blamed for what takes too long.
  void set_step(int64_t step) { step_ = step; }

  /// A collective of this process has failed. Returns never: the process ends with the verdict.
  [[noreturn]] void collective_failed(const std::string& why);

  /// This process ends with an error of its own, which the others are told. True where it has to say the sentence
  /// itself, false where rank 0 has.
  bool has_failed(const std::string& sentence);

  /// From now on silence is no failure: everybody is about to leave.
  void leave();

 private:
  using Clock = std::chrono::steady_clock;

  double patience() const;
  std::chrono::duration<double> interval() const;
  void listen();
  void guard();
  /// One look at the store.
  void look();
  std::optional<Judge::Alarm> alarm();
  std::optional<Verdict> verdict_in_store();
  void put_first(const std::string& key, const std::string& text);
  void post(const Verdict& verdict);
  void deliver(const Verdict& verdict);
  void settle(const Verdict& verdict, bool is_said);
  bool have_heard(const Verdict& verdict);
  void wait_until_heard(const Verdict& verdict);
  void store_is_lost(const std::string& how);
  double now() const;

  const WatchOptions options_;
  c10::intrusive_ptr<c10d::Store> store_;
  Judge judge_;
  const Clock::time_point started_ = Clock::now();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int64_t> step_{0};
  std::atomic<double> timeout_;
  int64_t told_step_ = 0;                    ///< of the listening thread
  Clock::time_point looked_ = Clock::now();  ///< when the store last answered
  bool stopping_ = false, leaving_ = false, ended_ = false;
  std::optional<std::string> failed_collective_, own_failure_;
  bool is_settled_ = false;  ///< the others know of the own failure
  bool is_said_ = false;     ///< rank 0 has said it
  std::thread listener_, guard_;
};

}  // namespace mma::examples
