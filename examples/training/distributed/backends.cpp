#include "training/distributed/backends.hpp"

#include "support/process/error.hpp"

#ifdef MMA_TRAIN_HAS_GLOO
#define USE_C10D_GLOO
#include <stdlib.h>

#include <sstream>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif
#ifdef MMA_TRAIN_HAS_NCCL
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace mma::examples {

#ifdef MMA_TRAIN_HAS_GLOO

namespace {

using c10d::ProcessGroup;
using c10d::ProcessGroupGloo;

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// The network interfaces that GLOO_SOCKET_IFNAME names, as for PyTorch; else the one of the host's name.
std::vector<std::shared_ptr<gloo::transport::Device>> devices(const std::string& address) {
  const char* named = ::getenv("GLOO_SOCKET_IFNAME");
  if (named == nullptr || *named == '\0') {
    if (is_loopback(address)) return {ProcessGroupGloo::createDeviceForHostname("127.0.0.1")};
    return {ProcessGroupGloo::createDefaultDevice()};
  }
  std::vector<std::shared_ptr<gloo::transport::Device>> result;
  std::istringstream stream(named);
  for (std::string each; std::getline(stream, each, ',');) {
    result.push_back(ProcessGroupGloo::createDeviceForInterface(each));
  }
  return result;
}

c10::intrusive_ptr<c10d::Store> below(const char* prefix, const c10::intrusive_ptr<c10d::Store>& store) {
  return c10::make_intrusive<c10d::PrefixStore>(prefix, store);
}

}  // namespace

void check_backends([[maybe_unused]] const std::string& device) {
#ifndef MMA_TRAIN_HAS_NCCL
  if (device == "cuda") {
    throw UserError(
        "a launcher has started several processes for --device cuda, but this program was built without NCCL: build it "
        "where CMake finds LibTorch's CUDA half and nccl.h");
  }
#endif
}

c10::intrusive_ptr<ProcessGroup> connected_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                 const GroupOptions& options) {
  auto group = c10::make_intrusive<ProcessGroup>(store, options.rank, options.world_size);
  const auto gloo_options = ProcessGroupGloo::Options::create(options.timeout);
  gloo_options->devices = devices(options.address);
  const auto gloo =
      c10::make_intrusive<ProcessGroupGloo>(below("gloo", store), options.rank, options.world_size, gloo_options);
  group->setBackend(c10::DeviceType::CPU, ProcessGroup::BackendType::GLOO, gloo);
  group->setDefaultBackend(ProcessGroup::BackendType::GLOO);
#ifdef MMA_TRAIN_HAS_NCCL
  if (options.device == "cuda") {
    const auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
    nccl_options->timeout = 2 * options.timeout;  // the watch is to be first: NCCL's own ends a process with a page
    const auto nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(below("nccl", store), options.rank,
                                                                  options.world_size, nccl_options);
    group->setBackend(c10::DeviceType::CUDA, ProcessGroup::BackendType::NCCL, nccl);
    group->setDefaultBackend(ProcessGroup::BackendType::NCCL);
  }
#endif
  return group;
}

#else

void check_backends(const std::string&) {
  throw UserError(
      "a launcher has started several processes, but this program was built without gloo's headers: install them "
      "(Debian: libgloo-dev) and build it again, or start it without the launcher");
}

c10::intrusive_ptr<c10d::ProcessGroup> connected_group(const c10::intrusive_ptr<c10d::Store>&, const GroupOptions&) {
  check_backends("cpu");
  return {};
}

#endif

}  // namespace mma::examples
