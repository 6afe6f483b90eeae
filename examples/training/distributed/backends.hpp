// The engines that carry the collectives: gloo between CPUs, NCCL between GPUs. Each is compiled where LibTorch and its
// headers are found at configure time; without it a program says so when a launcher starts it.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace mma::examples {

/// Throws UserError where this program was built without what processes on such a device need.
void check_backends(const std::string& device);

struct GroupOptions {
  int rank = 0, world_size = 1;
  std::chrono::milliseconds timeout{0};
  std::string address;  ///< of the store: on a loopback address the processes stay there too
  std::string device;   ///< cpu, cuda
};

/// Connects all processes; gloo carries what lies on the CPU in any case.
c10::intrusive_ptr<c10d::ProcessGroup> connected_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                       const GroupOptions& options);

}  // namespace mma::examples
