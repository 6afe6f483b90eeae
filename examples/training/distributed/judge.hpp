// Which process of a training is to blame when it does not go on: decided from the signs of life that each of them
// gives, the step at which each stands, and what those say whose collectives have failed. Knows no clock and no
// network.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mma::examples {

/// One process as it is heard of.
struct SignOfLife {
  int64_t beats = 0;  ///< how often it has said that it lives; 0: it has not come yet
  int64_t step = 0;   ///< how far its training is
};

/// What ends all processes.
struct Verdict {
  int64_t rank = 0;      ///< whom it is about
  bool is_gone = false;  ///< it cannot say it itself
  std::string why;       ///< without the rank: "has given no sign of life for 5 s"

  std::string sentence() const;
};

class Judge {
 public:
  /// `timeout`: seconds of silence after which a process is given up. `patience`: the seconds that are enough where a
  /// collective has failed already.
  Judge(int64_t world_size, double timeout, double patience);

  void set_timeout(double timeout, double patience);

  /// Only these are listened to; all, unless it is said.
  void listen_to(std::vector<int64_t> ranks);

  /// The signs of all processes at a time, in seconds. `alarm`: what the first failed collective said, and who said it.
  struct Alarm {
    int64_t rank = 0;
    std::string why;
  };
  std::optional<Verdict> verdict_at(double now, const std::vector<SignOfLife>& signs,
                                    const std::optional<Alarm>& alarm);

 private:
  std::optional<Verdict> silent_one(double now, double longest) const;
  Verdict among_the_living(const std::vector<SignOfLife>& signs, const Alarm& alarm) const;

  double timeout_, patience_;
  std::vector<int64_t> listened_;
  struct Heard {
    int64_t beats = 0;
    double at = -1;  ///< when it was first heard so; -1: not looked at yet
  };
  std::vector<Heard> heard_;
  double alarm_at_ = -1;
};

}  // namespace mma::examples
