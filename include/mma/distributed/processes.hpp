// mma::Processes: the user's own process group, whatever made it: a c10d::ProcessGroup, or a backend of c10d such as
// Gloo or NCCL. The library makes none and needs none of their headers.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <concepts>
#include <cstdint>
#include <utility>
#include <vector>

namespace mma {

/// The processes that work together, as a c10d process group knows them. Shares ownership of the group. What is called
/// through it is collective: each process calls the same things in the same order, or the group's timeout ends them.
class Processes {
 public:
  /// A process group with a backend for the device on which the tensors lie, as c10d::Reducer takes it. Throws
  /// c10::Error for a null pointer.
  // NOLINTNEXTLINE(google-explicit-constructor): it stands for them
  Processes(c10::intrusive_ptr<c10d::ProcessGroup> group) : group_(std::move(group)) {
    TORCH_CHECK(group_, "mma: Processes got no process group; expected a c10d::ProcessGroup.");
    rank_ = group_->getRank();
    size_ = group_->getSize();
  }

  /// A backend alone: c10d::ProcessGroupGloo, c10d::ProcessGroupNCCL. Throws c10::Error for a null pointer.
  template <std::derived_from<c10d::Backend> Backend>
  // NOLINTNEXTLINE(google-explicit-constructor): it stands for them
  Processes(const c10::intrusive_ptr<Backend>& backend) : backend_(backend) {
    TORCH_CHECK(backend_, "mma: Processes got no backend; expected a c10d::Backend, such as ProcessGroupGloo.");
    rank_ = backend_->getRank();
    size_ = backend_->getSize();
  }

  int64_t rank() const { return rank_; }  ///< this process, from 0
  int64_t size() const { return size_; }  ///< how many there are

  /// What sends tensors of a device. Throws c10::Error where the group has no backend for it.
  c10::intrusive_ptr<c10d::Backend> backend(at::Device device) const {
    return group_ ? group_->getBackend(device.type()) : backend_;
  }

  /// Whose tensors can be sent, at least one; a backend alone is asked for its name.
  std::vector<at::Device> devices() const {
    if (group_) return group_->getDeviceTypes();
    return {backend_->getBackendName() == "nccl" ? at::Device(at::kCUDA) : at::Device(at::kCPU)};
  }

 private:
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  int64_t rank_ = 0, size_ = 1;
};

}  // namespace mma
