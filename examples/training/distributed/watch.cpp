#include "training/distributed/watch.hpp"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace mma::examples {
namespace {

constexpr double shortest_patience = 1, longest_patience = 10;
constexpr double shortest_interval = 0.05, longest_interval = 1;

std::string text_of(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

std::string of_rank(const char* what, int64_t rank) { return c10::str("watch/", what, '/', rank); }

constexpr const char *alarm_key = "watch/alarm", *verdict_key = "watch/verdict", *said_key = "watch/said",
                     *heard_key = "watch/heard";

/// What LibTorch and gloo say begins with the place in their sources and goes on with a trace.
std::string first_line(const std::string& text) {
  std::string line = text.substr(0, text.find('\n'));
  if (line.starts_with('[')) line.erase(0, std::min(line.size(), line.find("] ") + 2));
  while (!line.empty() && (line.back() == '.' || line.back() == ' ')) line.pop_back();
  return line;
}

}  // namespace

Watch::Watch(c10::intrusive_ptr<c10d::Store> store, WatchOptions options)
    : options_(std::move(options)),
      store_(std::move(store)),
      judge_(options_.world_size, options_.timeout, options_.timeout),
      timeout_(options_.timeout) {
  if (options_.rank != 0) judge_.listen_to({0, options_.rank});
  listener_ = std::thread([this] { listen(); });
  guard_ = std::thread([this] { guard(); });
}

Watch::~Watch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  listener_.join();
  guard_.join();
}

double Watch::patience() const { return std::clamp(timeout_.load() / 5, shortest_patience, longest_patience); }

std::chrono::duration<double> Watch::interval() const {
  return std::chrono::duration<double>(std::clamp(timeout_.load() / 50, shortest_interval, longest_interval));
}

double Watch::now() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

void Watch::listen() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    try {
      look();
    } catch (const std::exception& error) {
      store_is_lost("is gone");
      lock.lock();
      changed_.wait(lock, [this] { return stopping_; });
      return;
    }
    lock.lock();
    looked_ = Clock::now();
    changed_.notify_all();
    changed_.wait_for(lock, interval(), [this] { return stopping_; });
  }
}

/// The store of a stopped process does not answer, and the listening thread hangs in it.
void Watch::guard() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (Clock::now() - looked_ > std::chrono::duration<double>(timeout_)) {
      lock.unlock();
      store_is_lost(c10::str("has not answered for ", timeout_.load(), " s"));
      lock.lock();
      changed_.wait(lock, [this] { return stopping_; });
      return;
    }
    changed_.wait_for(lock, interval(), [this] { return stopping_; });
  }
}

void Watch::look() {
  std::vector<SignOfLife> signs(static_cast<size_t>(options_.world_size));
  const int64_t step = step_;
  store_->add(of_rank("step", options_.rank), step - told_step_);
  told_step_ = step;
  store_->add(of_rank("beat", options_.rank), 1);
  for (int64_t rank = 0; rank < options_.world_size; ++rank) {
    if (options_.rank != 0 && rank != 0 && rank != options_.rank) continue;
    signs[static_cast<size_t>(rank)] = {store_->add(of_rank("beat", rank), 0), store_->add(of_rank("step", rank), 0)};
  }
  std::optional<std::string> own_failure;
  bool is_leaving = false;
  {
    const std::lock_guard lock(mutex_);
    own_failure = own_failure_;
    is_leaving = leaving_;
  }
  if (own_failure) {
    post({options_.rank, false, "has failed: " + *own_failure});
    if (options_.rank == 0) store_->set(said_key, std::string("yes"));  // it is about to
  }
  std::optional<Verdict> verdict = verdict_in_store();
  if (!verdict && !is_leaving) {
    judge_.set_timeout(timeout_, patience());
    verdict = judge_.verdict_at(now(), signs, alarm());
    if (verdict) post(*verdict);
    verdict = verdict_in_store();
  }
  if (verdict) deliver(*verdict);
}

std::optional<Judge::Alarm> Watch::alarm() {
  std::optional<std::string> own;
  {
    const std::lock_guard lock(mutex_);
    own = failed_collective_;
  }
  if (own) {
    const std::string text = c10::str(options_.rank, ' ', first_line(*own));
    put_first(alarm_key, text);
  } else if (!store_->check({alarm_key})) {
    return std::nullopt;
  }
  std::istringstream stream(text_of(store_->get(alarm_key)));
  Judge::Alarm alarm;
  stream >> alarm.rank >> std::ws;
  std::getline(stream, alarm.why);
  return alarm;
}

std::optional<Verdict> Watch::verdict_in_store() {
  if (!store_->check({verdict_key})) return std::nullopt;
  std::istringstream stream(text_of(store_->get(verdict_key)));
  Verdict verdict;
  stream >> verdict.rank >> verdict.is_gone >> std::ws;
  std::getline(stream, verdict.why);
  return verdict;
}

/// The first one counts.
void Watch::put_first(const std::string& key, const std::string& text) {
  store_->compareSet(key, std::vector<uint8_t>(), std::vector<uint8_t>(text.begin(), text.end()));
}

void Watch::post(const Verdict& verdict) {
  const std::string text = c10::str(verdict.rank, ' ', verdict.is_gone ? 1 : 0, ' ', verdict.why);
  put_first(verdict_key, text);
}

void Watch::deliver(const Verdict& verdict) {
  const int64_t speaker = verdict.is_gone && verdict.rank == 0 ? 1 : 0;
  const bool is_said = verdict.rank != options_.rank || store_->check({said_key});
  std::unique_lock lock(mutex_);
  if (ended_ || leaving_) return;
  if (own_failure_) return settle(verdict, is_said);
  ended_ = true;
  lock.unlock();
  const bool speaks = options_.rank == speaker;
  if (speaks) store_->set(said_key, std::string("yes"));
  store_->add(heard_key, 1);
  wait_until_heard(verdict);
  options_.end(speaks ? verdict.sentence() : std::string());
}

/// A process that ends by an error of its own does so by itself: rank 0 once all others know, they once rank 0 has said
/// why.
void Watch::settle(const Verdict& verdict, bool is_said) {
  if (is_settled_) return;
  is_said_ = is_said;
  if (options_.rank == 0) {
    is_settled_ = have_heard(verdict);
  } else if (is_said_) {
    is_settled_ = true;
    store_->add(heard_key, 1);
  }
  changed_.notify_all();
}

/// All but rank 0 and who is gone.
bool Watch::have_heard(const Verdict& verdict) {
  const int64_t own = ended_ ? 1 : 0, gone = verdict.is_gone ? 1 : 0;
  return store_->add(heard_key, 0) - own >= options_.world_size - 1 - gone;
}

/// Rank 0's store goes with it: then the others would only see that.
void Watch::wait_until_heard(const Verdict& verdict) {
  const double last = now() + patience();
  std::unique_lock lock(mutex_);
  while (options_.rank == 0 && now() < last && !have_heard(verdict)) changed_.wait_for(lock, interval() / 2);
}

void Watch::store_is_lost(const std::string& how) {
  {
    const std::lock_guard lock(mutex_);
    if (leaving_ || ended_) return;
    is_settled_ = true;
    changed_.notify_all();
    if (own_failure_) return;
    ended_ = true;
  }
  const int64_t speaker = options_.store_is_agents ? 0 : 1;
  const std::string whose = options_.store_is_agents ? "the launcher" : "rank 0";
  options_.end(options_.rank != speaker
                   ? std::string()
                   : whose + " has ended or is stopped: its store at " + options_.store_place + ' ' + how);
}

void Watch::collective_failed(const std::string& why) {
  std::unique_lock lock(mutex_);
  failed_collective_ = why;
  changed_.wait(lock, [] { return false; });  // the other threads end the process
  throw std::logic_error(why);
}

bool Watch::has_failed(const std::string& sentence) {
  std::unique_lock lock(mutex_);
  own_failure_ = sentence;
  const std::chrono::duration<double> longest(patience());
  changed_.wait_for(lock, longest, [this] { return is_settled_; });
  return options_.rank == 0 || !is_said_;
}

void Watch::leave() {
  const std::lock_guard lock(mutex_);
  leaving_ = true;
}

}  // namespace mma::examples
