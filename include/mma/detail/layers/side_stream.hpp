// A GPU stream beside the current one, with the order of events between the two: what is given to it starts after all
// that the current stream has been given so far, and join() makes the current stream go on after it.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <initializer_list>

namespace mma::detail::layers {

class SideStream {
 public:
  explicit SideStream(c10::Device device)
      : guard_(device.type()),
        device_(device),
        stream_(guard_.getNewStream(device)),
        ready_(device.type()),
        done_(device.type()) {}

  /// Runs `work` with the side stream as the current one.
  template <typename Work>
  void run(const Work& work) {
    ready_.record(guard_.getStream(device_));
    ready_.block(stream_);
    const c10::StreamGuard side(stream_);
    work();
    done_.record(stream_);
  }

  /// The current stream goes on after the work, and may use tensors that were made in it.
  void join(std::initializer_list<at::Tensor> made) {
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

}  // namespace mma::detail::layers
