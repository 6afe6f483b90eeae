// Who is to blame, from what is heard of all processes.
#include "training/distributed/judge.hpp"

#include <gtest/gtest.h>

namespace mma::examples {
namespace {

using Signs = std::vector<SignOfLife>;
using Alarm = Judge::Alarm;

constexpr double timeout = 60, patience = 2;

TEST(Judge, SaysNothingWhileAllGiveSignsOfLife) {
  Judge judge(3, timeout, patience);
  for (int64_t beat = 1; beat < 100; ++beat) {
    const SignOfLife sign{beat, beat / 10};
    EXPECT_FALSE(judge.verdict_at(static_cast<double>(10 * beat), {sign, sign, sign}, {}));
  }
}

TEST(Judge, NamesTheOneThatIsSilentForTooLong) {
  Judge judge(3, timeout, patience);
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 0}, {1, 0}, {1, 0}}, {}));
  EXPECT_FALSE(judge.verdict_at(59, Signs{{50, 0}, {1, 0}, {50, 0}}, {}));
  const auto verdict = judge.verdict_at(60, Signs{{51, 0}, {1, 0}, {51, 0}}, {});
  ASSERT_TRUE(verdict);
  EXPECT_TRUE(verdict->is_gone);
  EXPECT_EQ(verdict->sentence(),
            "rank 1 has given no sign of life for 60 s: it is stopped, or its machine cannot be reached");
}

TEST(Judge, NamesTheOneThatNeverCame) {
  Judge judge(2, timeout, patience);
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 0}, {0, 0}}, {}));
  const auto verdict = judge.verdict_at(61, Signs{{9, 0}, {0, 0}}, {});
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->sentence(), "rank 1 has not come within 61 s");
}

/// A connection that breaks says at once that somebody is lost, but not who.
TEST(Judge, AfterAnAlarmWaitsOnlyForTheNextSigns) {
  Judge judge(4, timeout, patience);
  const Alarm alarm{3, "Connection closed by peer"};
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 0}, {1, 0}, {1, 0}, {1, 0}}, {}));
  EXPECT_FALSE(judge.verdict_at(1, Signs{{2, 0}, {2, 0}, {2, 0}, {2, 0}}, alarm));
  EXPECT_FALSE(judge.verdict_at(2, Signs{{3, 0}, {3, 0}, {2, 0}, {3, 0}}, alarm));
  const auto verdict = judge.verdict_at(3, Signs{{4, 0}, {4, 0}, {2, 0}, {4, 0}}, alarm);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->rank, 2);
  EXPECT_EQ(verdict->sentence(), "rank 2 has ended or is out of reach: rank 3 lost it (Connection closed by peer)");
}

TEST(Judge, WhereAllLiveNamesTheOneBehind) {
  Judge judge(3, timeout, patience);
  const Alarm alarm{0, "Timed out"};
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 7}, {1, 7}, {1, 6}}, alarm));
  const auto verdict = judge.verdict_at(2, Signs{{3, 7}, {3, 7}, {3, 6}}, alarm);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->sentence(), "rank 2 does not go on: it is at step 6 of this start, rank 0 waits at step 7");
}

TEST(Judge, WhereAllLiveAndNobodyIsBehindNamesTheOneWhoseCollectiveFailed) {
  Judge judge(2, timeout, patience);
  const Alarm alarm{1, "out of memory"};
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 7}, {1, 7}}, alarm));
  const auto verdict = judge.verdict_at(2, Signs{{3, 7}, {3, 7}}, alarm);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->sentence(), "rank 1 cannot go on: out of memory");
}

/// All listen to rank 0 and rank 0 to all: what is decided of the living is decided there.
TEST(Judge, ThatListensToSomeAloneBlamesNobodyElse) {
  Judge judge(3, timeout, patience);
  judge.listen_to({0, 1});
  const Alarm alarm{1, "Connection closed by peer"};
  EXPECT_FALSE(judge.verdict_at(0, Signs{{1, 5}, {1, 5}, {0, 0}}, alarm));
  EXPECT_FALSE(judge.verdict_at(100, Signs{{9, 5}, {9, 5}, {0, 0}}, alarm));
  const auto verdict = judge.verdict_at(102, Signs{{9, 5}, {11, 5}, {0, 0}}, alarm);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->rank, 0);
}

}  // namespace
}  // namespace mma::examples
