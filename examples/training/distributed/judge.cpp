#include "training/distributed/judge.hpp"

#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mma::examples {

std::string Verdict::sentence() const { return c10::str("rank ", rank, " ", why); }

Judge::Judge(int64_t world_size, double timeout, double patience)
    : timeout_(timeout), patience_(patience), listened_(static_cast<size_t>(world_size)), heard_(listened_.size()) {
  std::iota(listened_.begin(), listened_.end(), 0);
}

void Judge::set_timeout(double timeout, double patience) {
  timeout_ = timeout;
  patience_ = patience;
}

void Judge::listen_to(std::vector<int64_t> ranks) { listened_ = std::move(ranks); }

/// The one that has been silent for longer than all the others, if that is too long.
std::optional<Verdict> Judge::silent_one(double now, double longest) const {
  const auto silence = [&](int64_t rank) { return now - heard_[static_cast<size_t>(rank)].at; };
  const auto most = std::ranges::max_element(listened_, {}, silence);
  if (most == listened_.end() || silence(*most) < longest) return std::nullopt;
  const bool has_come = heard_[static_cast<size_t>(*most)].beats > 0;
  const double seconds = std::round(silence(*most));
  return Verdict{*most, true,
                 has_come ? c10::str("has given no sign of life for ", seconds,
                                     " s: it is stopped, or its machine "
                                     "cannot be reached")
                          : c10::str("has not come within ", seconds, " s")};
}

/// Everybody lives: then it is the one that is behind the others, or the one that could not go on.
Verdict Judge::among_the_living(const std::vector<SignOfLife>& signs, const Alarm& alarm) const {
  const auto step = [&](int64_t rank) { return signs[static_cast<size_t>(rank)].step; };
  const auto behind = std::ranges::min_element(listened_, {}, step);
  const auto ahead = std::ranges::max_element(listened_, {}, step);
  if (behind != listened_.end() && step(*behind) < step(*ahead)) {
    return {*behind, true,
            c10::str("does not go on: it is at step ", step(*behind), " of this start, rank ", *ahead,
                     " waits at step ", step(*ahead))};
  }
  return {alarm.rank, true, "cannot go on: " + alarm.why};
}

std::optional<Verdict> Judge::verdict_at(double now, const std::vector<SignOfLife>& signs,
                                         const std::optional<Alarm>& alarm) {
  for (size_t rank = 0; rank < heard_.size(); ++rank) {
    Heard& heard = heard_[rank];
    if (heard.at < 0 || signs[rank].beats != heard.beats) heard = {signs[rank].beats, now};
  }
  if (alarm && alarm_at_ < 0) alarm_at_ = now;
  if (!alarm) return silent_one(now, timeout_);
  // Whoever had just said that it lives when the others lost it has to say so again.
  if (now - alarm_at_ < patience_) return std::nullopt;
  if (std::optional<Verdict> silent = silent_one(now, patience_ / 2)) {
    if (now - heard_[static_cast<size_t>(silent->rank)].at < timeout_) {
      silent->why =
          "has ended or is out of reach: rank " + std::to_string(alarm->rank) + " lost it (" + alarm->why + ")";
    }
    return silent;
  }
  // Who listens to some alone cannot tell who is behind.
  return listened_.size() == heard_.size() ? std::optional(among_the_living(signs, *alarm)) : std::nullopt;
}

}  // namespace mma::examples
