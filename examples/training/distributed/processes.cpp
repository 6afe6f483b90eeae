#include "training/distributed/processes.hpp"

#include <ATen/ops/tensor.h>
#include <c10/util/Logging.h>
#include <c10/util/StringUtil.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>

#include "support/process/error.hpp"
#include "training/distributed/backends.hpp"
#include "training/distributed/watch.hpp"

namespace mma::examples {
namespace {

using Clock = std::chrono::steady_clock;
using StorePointer = c10::intrusive_ptr<c10d::Store>;

constexpr int exit_code_of_lost_training = 3;
constexpr size_t broadcast_bytes = 32 << 20;
constexpr std::chrono::hours without_end(24 * 365);  // it is the watch that ends a wait

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(std::llround(1000 * seconds));
}

StorePointer store_at(const Launch& launch, double timeout, bool is_server) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(launch.port);
  options.isServer = is_server;
  options.waitWorkers = false;
  options.timeout = milliseconds(timeout);
  try {
    return c10::make_intrusive<c10d::TCPStore>(launch.address, options);
  } catch (const std::exception& error) {
    const std::string place = c10::str(launch.address, ":", launch.port);
    throw UserError(is_server ? "rank 0 cannot listen at MASTER_ADDR:MASTER_PORT " + place + ": is the port free?"
                              : c10::str("rank ", launch.rank, " has not reached the store at MASTER_ADDR:MASTER_PORT ",
                                         place, " within ", timeout, " s"));
  }
}

/// c10d writes a page with a trace for each connection that fails, which is said here in a sentence;
/// TORCH_CPP_LOG_LEVEL asks for the page.
void keep_c10d_quiet() {
  constexpr int nothing_but_the_end = 3;
  if (::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = nothing_but_the_end;
}

/// The last words of a process that ends because of another one.
[[noreturn]] void end_program(const std::string& program, const std::string& sentence) {
  const char* new_line = ::isatty(STDERR_FILENO) != 0 ? "\r\033[K" : "";
  if (!sentence.empty()) std::fprintf(stderr, "%s%s: %s\n", new_line, program.c_str(), sentence.c_str());
  std::fflush(stdout);
  std::fflush(stderr);
  std::_Exit(exit_code_of_lost_training);
}

}  // namespace

struct Processes::Connection {
  Connection(const Launch& launch, const std::string& program, double timeout)
      : launch(launch),
        program(program),
        timeout(timeout),
        whole(store_at(launch, timeout, launch.rank == 0 && !launch.has_agents_store)),
        store(of_this_start(whole)) {
    whole->setTimeout(without_end);
    if (launch.world_size == 1) return;
    WatchOptions options;
    options.rank = launch.rank;
    options.world_size = launch.world_size;
    options.timeout = timeout;
    options.store_place = c10::str(launch.address, ":", launch.port);
    options.store_is_agents = launch.has_agents_store;
    options.end = [program](const std::string& sentence) { end_program(program, sentence); };
    watch.emplace(of_this_start(store_at(launch, timeout, false)), std::move(options));
  }

  StorePointer of_this_start(const StorePointer& of_all) const {
    return c10::make_intrusive<c10d::PrefixStore>(c10::str("mma/start_", launch.restarts), of_all);
  }

  /// Of a CPU's tensors this waits until they are there; on a GPU the stream does.
  void wait(const c10::intrusive_ptr<c10d::Work>& work, Clock::time_point since) {
    work->wait();
    seconds += std::chrono::duration<double>(Clock::now() - since).count();
  }

  void reduce(at::Tensor& tensor, c10d::ReduceOp::RedOpType operation) {
    const auto since = Clock::now();
    std::vector<at::Tensor> tensors = {tensor};
    c10d::AllreduceOptions options;
    options.reduceOp = operation;
    wait(group->allreduce(tensors, options), since);
  }

  Launch launch;
  std::string program;
  double timeout;
  StorePointer whole, store;
  std::optional<Watch> watch;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  double seconds = 0;
  std::vector<at::Tensor> said;  ///< one number: whether one of them did
  c10::intrusive_ptr<c10d::Work> saying;
};

Processes::Processes() = default;
Processes::Processes(const Launch& launch, const std::string& program, double timeout) {
  if (launch.world_size > 1) check_backends("cpu");
  keep_c10d_quiet();
  connection_ = std::make_unique<Connection>(launch, program, timeout);
}
Processes::~Processes() = default;

Processes& Processes::alone() {
  static Processes processes;
  return processes;
}

int64_t Processes::rank() const { return connection_ ? connection_->launch.rank : 0; }
int64_t Processes::count() const { return connection_ ? connection_->launch.world_size : 1; }
int64_t Processes::restarts() const { return connection_ ? connection_->launch.restarts : 0; }
const Launch& Processes::launch() const { return connection_->launch; }
double Processes::seconds() const { return connection_ ? connection_->seconds : 0; }
const c10::intrusive_ptr<c10d::ProcessGroup>& Processes::group() const { return connection_->group; }

void Processes::set_step(int64_t step) {
  if (are_several()) connection_->watch->set_step(step);
}

/// The store of rank 0 has to answer the others to the last.
void Processes::part() {
  connection_->watch->leave();
  meet("the end");
  if (is_first()) return connection_->store->wait({"parted"}, without_end);
  try {
    if (connection_->store->add("parting", 1) + 1 == count()) connection_->store->set("parted", std::string("yes"));
  } catch (const std::exception&) {  // rank 0 has seen it and left
  }
}

int Processes::run(const std::function<int()>& body) {
  if (!are_several()) return body();
  Watch& watch = *connection_->watch;
  try {
    const int code = body();
    part();
    return code;
  } catch (const UserError& error) {
    if (!watch.has_failed(error.what())) std::_Exit(2);  // rank 0 has said it
    if (is_first()) throw;
    throw UserError(c10::str("rank ", rank(), ": ", error.what()));
  } catch (const c10::Error& error) {
    watch.collective_failed(error.what_without_backtrace());
  } catch (const std::exception& error) {
    watch.collective_failed(error.what());
  }
}

std::string Processes::shared(const std::function<std::string()>& make) {
  if (!are_several()) return make();
  if (!is_first()) {
    const std::vector<uint8_t> bytes = connection_->store->get("shared");
    return {bytes.begin(), bytes.end()};
  }
  std::string text = make();
  connection_->store->set("shared", text);
  return text;
}

void Processes::meet(const std::string& where) {
  if (!are_several()) return;
  const std::string place = "meet/" + where;
  if (connection_->store->add(place, 1) == count()) connection_->store->set(place + "/all", std::string("here"));
  connection_->store->wait({place + "/all"}, without_end);
}

void Processes::set_timeout(double seconds) {
  if (!are_several()) return;
  connection_->timeout = seconds;
  connection_->watch->set_timeout(seconds);
}

void Processes::connect(const std::string& device) {
  if (!are_several()) return;
  check_backends(device);
  GroupOptions options;
  options.rank = static_cast<int>(rank());
  options.world_size = static_cast<int>(count());
  options.timeout = milliseconds(connection_->timeout);
  options.address = connection_->launch.address;
  options.device = device;
  connection_->group = connected_group(connection_->store, options);
}

bool Processes::has_begun() const { return connection_ && connection_->whole->check({"mma/begun"}); }

void Processes::begin() {
  if (connection_ && is_first()) connection_->whole->set("mma/begun", std::string("yes"));
}

void Processes::broadcast(const std::vector<at::Tensor>& tensors) {
  if (!are_several() || tensors.empty()) return;
  const auto since = Clock::now();
  c10d::broadcast_coalesced(connection_->group, tensors, broadcast_bytes);
  connection_->seconds += std::chrono::duration<double>(Clock::now() - since).count();
}

void Processes::add_up(at::Tensor& tensor) {
  if (are_several()) connection_->reduce(tensor, c10d::ReduceOp::SUM);
}

void Processes::take_largest(at::Tensor& tensor) {
  if (are_several()) connection_->reduce(tensor, c10d::ReduceOp::MAX);
}

bool Processes::now_anyone(bool own) {
  at::Tensor said = at::tensor({own ? int64_t{1} : int64_t{0}});
  take_largest(said);
  return said.item<int64_t>() > 0;
}

bool Processes::any_said(bool own) {
  if (!are_several()) return own;
  if (connection_->saying) {
    const auto since = Clock::now();
    connection_->wait(connection_->saying, since);
    connection_->saying.reset();
    if (connection_->said[0].item<int64_t>() > 0) return true;
  }
  connection_->said = {at::tensor({own ? int64_t{1} : int64_t{0}})};
  c10d::AllreduceOptions options;
  options.reduceOp = c10d::ReduceOp::MAX;
  connection_->saying = connection_->group->allreduce(connection_->said, options);
  return false;
}

}  // namespace mma::examples
