// Decoding many images in threads: each once, and what a decoder throws, whatever it is and wherever, is told.
#include "support/images/image_decoding.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>

#include "../test_files.hpp"
#include "support/process/error.hpp"

namespace mma::examples {
namespace {

using mma::tests::message_of;

class ImageDecoding : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(2); }
  void TearDown() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

TEST_F(ImageDecoding, TakesEachImageOnce) {
  std::vector<std::atomic<int>> decoded(100);
  decode_images(100, "a test", [&](int64_t index) { ++decoded[static_cast<size_t>(index)]; });
  for (const auto& times : decoded) EXPECT_EQ(times, 1);
}

TEST_F(ImageDecoding, TellsOfTheEarliestDamagedImage) {
  std::latch both(2);
  const auto damaged = [&](int64_t index) {
    if (index < 2) both.arrive_and_wait();
    throw UserError("image " + std::to_string(index));
  };
  EXPECT_EQ(message_of<UserError>([&] { decode_images(10, "a test", damaged); }), "image 0");
}

TEST_F(ImageDecoding, PassesOnWhateverADecoderThrowsInAHelpersThread) {
  const auto caller = std::this_thread::get_id();
  std::latch both(2);
  const auto decode = [&](int64_t) {
    both.arrive_and_wait();
    if (std::this_thread::get_id() != caller) throw 42;
  };
  EXPECT_THROW(decode_images(2, "a test", decode), int);
}

}  // namespace
}  // namespace mma::examples
