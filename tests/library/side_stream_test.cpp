// The order of events between a side stream and the current one, on a device that only writes down what it is told.
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gtest/gtest.h>
#include <mma/side_stream.hpp>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using Log = std::vector<std::string>;

Log& log() {
  static Log lines;
  return lines;
}

constexpr c10::DeviceType type_of_device = c10::DeviceType::PrivateUse1;
const c10::Device device(type_of_device, 0);

c10::Stream stream_of(c10::StreamId number) { return c10::Stream(c10::Stream::UNSAFE, device, number); }

/// Stream 0 is the default one, 7 the one it gives as new. Events are named by the order of their first recording.
struct LoggingDevice final : c10::impl::DeviceGuardImplInterface {
  static inline c10::StreamId current = 0;
  static inline intptr_t events = 0;

  c10::DeviceType type() const override { return type_of_device; }
  c10::Device exchangeDevice(c10::Device) const override { return device; }
  c10::Device getDevice() const override { return device; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return stream_of(current); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream_of(7); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return stream_of(std::exchange(current, stream.id()));
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    if (*event == nullptr) *event = reinterpret_cast<void*>(++events);
    tell(stream, "records", *event);
  }
  void block(void* event, const c10::Stream& stream) const override { tell(stream, "waits for", event); }

 private:
  static void tell(const c10::Stream& stream, const std::string& verb, void* event) {
    log().push_back(std::to_string(stream.id()) + ' ' + verb + ' ' + std::to_string(reinterpret_cast<intptr_t>(event)));
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, LoggingDevice);

void work() { log().push_back("work on " + std::to_string(LoggingDevice::current)); }

class SideStream : public testing::Test {
 protected:
  void SetUp() override {
    log().clear();
    LoggingDevice::events = 0;
  }
};

const Log ran_beside = {"0 records 1", "7 waits for 1", "work on 7", "7 records 2"};

TEST_F(SideStream, RunsAfterWhatCameAndIsWaitedForByWhatComes) {
  mma::SideStream side(device);
  side.join();  // nothing was begun
  EXPECT_EQ(log(), Log());
  side.run(work);
  EXPECT_EQ(log(), ran_beside);
  EXPECT_EQ(LoggingDevice::current, 0);
  side.join();
  EXPECT_EQ(log().back(), "0 waits for 2");
}

TEST_F(SideStream, IsTheCurrentOneUnderItsGuard) {
  mma::SideStream side(device);
  {
    const mma::SideStream::Guard guard(side);
    work();
  }
  EXPECT_EQ(log(), ran_beside);
  EXPECT_EQ(LoggingDevice::current, 0);
}

TEST_F(SideStream, IsLeftWhenTheWorkThrows) {
  mma::SideStream side(device);
  const auto fail = [] {
    work();
    throw std::runtime_error("the work failed");
  };
  EXPECT_THROW(side.run(fail), std::runtime_error);
  EXPECT_EQ(log(), ran_beside);
  EXPECT_EQ(LoggingDevice::current, 0);
}

}  // namespace
