// The numbers of SplitMix64, as its authors' own code gives them.
#include <gtest/gtest.h>
#include <mma/random_draws.hpp>

namespace {

TEST(SplitMix64, GivesItsAuthorsNumbers) {
  EXPECT_EQ(mma::splitmix64(1234567), 6457827717110365317U);
  EXPECT_EQ(mma::splitmix64(1234567, 1), 3203168211198807973U);
  EXPECT_EQ(mma::splitmix64(1234567, 2), 9817491932198370423U);
  EXPECT_EQ(mma::splitmix64(1234567, 3), 4593380528125082431U);
  EXPECT_EQ(mma::splitmix64(1234567, 4), 16408922859458223821U);
  EXPECT_EQ(mma::splitmix64(0), 16294208416658607535U);
}

}  // namespace
