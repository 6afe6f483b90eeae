// What the processes say to each other: small tensors of all for all, sums over all, and transfers from one to another
// that go on while something else is computed. With one process nothing is sent.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/Types.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../../distributed/processes.hpp"

namespace mma::detail::distributed {

/// A device whose tensors the processes can send: the CPU where that is one.
inline at::Device device_of(const Processes& processes) {
  const std::vector<at::Device> devices = processes.devices();
  return std::find(devices.begin(), devices.end(), at::Device(at::kCPU)) != devices.end() ? at::kCPU : devices.front();
}

/// Each process's tensor, of the same sizes everywhere, in the order of their ranks.
inline std::vector<at::Tensor> gather(const Processes& processes, const at::Tensor& own) {
  std::vector<at::Tensor> input{own.contiguous()};
  if (processes.size() == 1) return input;
  std::vector<std::vector<at::Tensor>> all(1);
  for (int64_t p = 0; p < processes.size(); ++p) all[0].push_back(at::empty_like(input[0]));
  processes.backend(own.device())->allgather(all, input)->wait();
  return all[0];
}

/// The same of small tensors [...], [processes, ...] on the CPU.
inline at::Tensor gather_small(const Processes& processes, const at::Tensor& own, at::Device device) {
  return at::stack(gather(processes, own.to(device))).to(at::kCPU);
}

/// Reduces a contiguous tensor over the processes, in place; each gets the same bits.
inline void reduce(const Processes& processes, at::Tensor tensor, c10d::ReduceOp::RedOpType operation) {
  if (processes.size() == 1 || tensor.numel() == 0) return;
  std::vector<at::Tensor> tensors{std::move(tensor)};
  c10d::AllreduceOptions options;
  options.reduceOp = operation;
  processes.backend(tensors[0].device())->allreduce(tensors, options)->wait();
}

/// A tensor that is sent or filled, contiguous; none where it is empty.
struct Parcel {
  at::Tensor tensor;
  int64_t process = 0;  ///< that gets it, or that sends it

  bool any() const { return tensor.defined() && tensor.numel() > 0; }
};

/// One tensor on its way to another process and one on its way from another. Both stay as they are until wait().
class Transfer {
 public:
  Transfer() = default;

  /// tag: tells apart what is on its way between two processes at the same time.
  Transfer(const Processes& processes, const Parcel& sent, const Parcel& received, int tag = 0) {
    if (!sent.any() && !received.any()) return;
    const auto backend = processes.backend((sent.any() ? sent : received).tensor.device());
    // NCCL runs one after the other what is not begun as a group: two processes that both send first would wait for
    // ever.
    const bool together = backend->supportsCoalescing();
    if (together) backend->startCoalescing();
    if (sent.any()) begin(sent, [&](auto& tensors, int to) { return backend->send(tensors, to, tag); });
    if (received.any()) begin(received, [&](auto& tensors, int from) { return backend->recv(tensors, from, tag); });
    if (together) work_ = {backend->endCoalescing()};
  }

  void wait() {
    for (const auto& work : work_) {
      if (work) work->wait();
    }
    work_.clear();
    tensors_.clear();
  }

 private:
  template <typename Operation>
  void begin(const Parcel& parcel, const Operation& operation) {
    std::vector<at::Tensor> tensors{parcel.tensor};
    work_.push_back(operation(tensors, static_cast<int>(parcel.process)));
    tensors_.push_back(parcel.tensor);
  }

  std::vector<c10::intrusive_ptr<c10d::Work>> work_;
  std::vector<at::Tensor> tensors_;  ///< kept until they have arrived
};

}  // namespace mma::detail::distributed
