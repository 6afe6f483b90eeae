// Tasks in threads: each once, in their order, and an exception of any type comes out on the caller's thread.
#include <gtest/gtest.h>
#include <mma/in_threads.hpp>

#include <atomic>
#include <latch>
#include <set>
#include <stdexcept>
#include <string>

namespace {

TEST(InThreads, DoesEachTaskOnce) {
  for (const int64_t threads : {-1, 0, 1, 2, 7, 100}) {
    std::vector<std::atomic<int>> done(50);
    mma::in_threads(50, threads, [&](int64_t k) { ++done[static_cast<size_t>(k)]; });
    for (const auto& times : done) EXPECT_EQ(times, 1) << threads;
  }
  mma::in_threads(0, 4, [](int64_t) { FAIL() << "there is no task"; });
}

TEST(InThreads, UsesTheCallersThreadAmongSoMany) {
  std::latch all(3);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  mma::in_threads(3, 3, [&](int64_t) {
    all.arrive_and_wait();  // so that none does two
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(threads.size(), 3U);
  EXPECT_TRUE(threads.contains(std::this_thread::get_id()));
}

/// Two tasks on two threads; the one that is not the caller's throws.
template <typename Thrown>
void throw_in_helper(const Thrown& thrown) {
  const auto caller = std::this_thread::get_id();
  std::latch both(2);
  mma::in_threads(2, 2, [&](int64_t) {
    both.arrive_and_wait();
    if (std::this_thread::get_id() != caller) throw thrown;
  });
}

TEST(InThreads, AnExceptionOfAHelperReachesTheCaller) {
  try {
    throw_in_helper(42);
    FAIL() << "nothing came";
  } catch (int number) {
    EXPECT_EQ(number, 42);
  }
  try {
    throw_in_helper(std::runtime_error("why"));
    FAIL() << "nothing came";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "why");
  }
}

TEST(InThreads, TheFirstFailureByNumberCounts) {
  std::latch both(2);
  const auto both_fail = [&](int64_t k) {
    both.arrive_and_wait();
    throw k;
  };
  try {
    mma::in_threads(2, 2, both_fail);
    FAIL() << "nothing came";
  } catch (int64_t number) {
    EXPECT_EQ(number, 0);
  }
}

TEST(InThreads, NothingIsBegunAfterAFailure) {
  std::atomic<int> begun = 0;
  const auto fails_at_once = [&](int64_t) {
    ++begun;
    throw std::string("stop");
  };
  EXPECT_THROW(mma::in_threads(1000000, 1, fails_at_once), std::string);
  EXPECT_EQ(begun, 1);
}

}  // namespace
