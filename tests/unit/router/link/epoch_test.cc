#include "router/link/epoch.h"

#include <gtest/gtest.h>

namespace baton::router {
namespace {

TEST(Epoch, GrowsFromLifeToLifeWhateverIsDrawn) {
  absl::Time start = absl::FromUnixSeconds(1'700'000'000);
  for (int life = 0; life < 50; ++life) {
    const uint64_t highest = EpochOf(start, 0xffffffff);
    start += absl::Microseconds(1);
    EXPECT_GT(EpochOf(start, 0), highest);
  }
  EXPECT_GT(EpochOf(absl::FromUnixSeconds(4'000'000'000), 0), EpochOf(start, 0)) << "in 2096";
}

TEST(Epoch, TwoLivesOfOneMomentDifferByTheDraw) {
  const absl::Time start = absl::FromUnixSeconds(1'700'000'000);
  EXPECT_NE(EpochOf(start, 1), EpochOf(start, 2));
}

}  // namespace
}  // namespace baton::router
