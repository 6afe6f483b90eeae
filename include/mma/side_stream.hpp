// A GPU stream beside the current one, with the order of events between the two. Through c10's device-independent
// interface: no header of CUDA is needed, and any accelerator that LibTorch has streams for will do.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <exception>
#include <initializer_list>

namespace mma {

/// A stream of the device's own pool, never the default one, and no CPU's. What it is given starts after all that the
/// current stream has been given so far; join() makes the current stream go on after it. The CPU waits for neither.
///
///   mma::SideStream side(weight.device());
///   at::Tensor made;
///   side.run([&] { made = slow(weight); });  // beside what comes now
///   other_work();
///   side.join({made});                       // from here on `made` may be used
class SideStream {
 public:
  /// A stream of this device, of a GPU.
  explicit SideStream(c10::Device device)
      : guard_(device.type()),
        device_(device),
        stream_(guard_.getNewStream(device)),
        ready_(device.type()),
        done_(device.type()) {}
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;
  ~SideStream() = default;

  /// While it lives, the side stream is the current one of this thread.
  class Guard {
   public:
    /// Enters the side stream, after all that the current one has been given.
    explicit Guard(SideStream& side) : side_(side), guard_(after_current(side)) {}
    ~Guard() {
      try {
        side_.done_.record(side_.stream_);
      } catch (const std::exception&) {  // the GPU has failed, which whoever waits for it is told
      }
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    static c10::Stream after_current(SideStream& side) {
      side.ready_.record(side.guard_.getStream(side.device_));
      side.ready_.block(side.stream_);
      return side.stream_;
    }

    SideStream& side_;
    c10::StreamGuard guard_;
  };

  /// Runs `work` with the side stream as the current one.
  template <typename Work>
  void run(const Work& work) {
    const Guard guard(*this);
    work();
  }

  /// The current stream goes on after all that the side stream was given, and may use the tensors that were made there.
  void join(std::initializer_list<at::Tensor> made = {}) {
    const c10::Stream current = guard_.getStream(device_);
    done_.block(current);
    for (const at::Tensor& tensor : made) {
      tensor.record_stream(current);  // its memory is not given to the side stream again before `current` is there
    }
  }

 private:
  c10::impl::VirtualGuardImpl guard_;
  c10::Device device_;
  c10::Stream stream_;
  c10::Event ready_, done_;
};

}  // namespace mma
