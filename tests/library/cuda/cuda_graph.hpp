// Captures work on a GPU in a CUDA graph through the runtime that LibTorch has loaded, without CUDA headers.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

/// A function of the CUDA runtime.
template <typename... Arguments>
void call_cuda(const char* name, Arguments... arguments) {
  auto* function = reinterpret_cast<int (*)(Arguments...)>(dlsym(RTLD_DEFAULT, name));
  TORCH_CHECK(function != nullptr, "the CUDA runtime has no ", name);
  const int error = function(arguments...);
  TORCH_CHECK(error == 0, name, " gave error ", error);
}

class CudaGraph {
 public:
  CudaGraph(void* executable, void* stream) : executable_(executable), stream_(stream) {}

  /// On the stream of the capture; waits for it.
  void replay() const {
    call_cuda("cudaGraphLaunch", executable_, stream_);
    call_cuda("cudaStreamSynchronize", stream_);
  }

 private:
  void *executable_, *stream_;  // never destroyed: a test's process is short
};

/// While it lives, a stream of its own is the current one: the default stream cannot be captured.
class CapturingStream {
 public:
  explicit CapturingStream(c10::Device device)
      : guard_(device.type()),
        stream_(guard_.getStreamFromGlobalPool(device)),
        before_(guard_.exchangeStream(stream_)) {}
  ~CapturingStream() { guard_.exchangeStream(before_); }
  CapturingStream(const CapturingStream&) = delete;

  /// What function launches, once run before: LibTorch's memory is then there.
  template <typename Function>
  CudaGraph capture(const Function& function) const {
    constexpr int relaxed = 2;  // memory may be allocated
    void *stream = stream_.native_handle(), *graph = nullptr, *executable = nullptr;
    call_cuda("cudaStreamSynchronize", stream);
    call_cuda("cudaStreamBeginCapture", stream, relaxed);
    function();
    call_cuda("cudaStreamEndCapture", stream, &graph);
    call_cuda("cudaGraphInstantiate", &executable, graph, 0ull);
    return {executable, stream};
  }

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Stream stream_, before_;
};
