// What TrafficCounter counts of the patterns that warps ask for memory in.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/ptx/traffic.h"
#include "tests/unit/engine/cuda/ptx_harness.h"

namespace baton::ptx {
namespace {

// Of one warp's load of `bytes` a lane, `stride` bytes apart.
Traffic Counted(Space space, int bytes, int stride) {
  const std::string vector = bytes == 16  ? "v4.u32 {%r1, %r2, %r3, %r4}"
                             : bytes == 8 ? "v2.u32 {%r1, %r2}"
                                          : "u32 %r1";
  const bool shared = space == Space::kShared;
  TrafficCounter counter;
  RunPtx("mov.u32 %r90, %tid.x; mul.lo.s32 %r91, %r90, " + std::to_string(stride) +
             "; cvt.u64.u32 %rd1, %r91; mov.u64 %rd2, " + (shared ? "dynamic" : "%rd0") +
             "; add.s64 %rd1, %rd1, %rd2; ld." + (shared ? "shared." : "global.") + vector +
             ", [%rd1];",
         std::vector<uint32_t>(2048), {.threads = 32, .shared_bytes = 8192});
  return counter.Sum(space);
}

TEST(TrafficCounterTest, SectorsAreThoseThatAWarpTouches) {
  EXPECT_EQ(Counted(Space::kGlobal, 4, 4).units, 4u);
  EXPECT_EQ(Counted(Space::kGlobal, 4, 0).units, 1u);
  EXPECT_EQ(Counted(Space::kGlobal, 16, 16).units, 16u);
  const Traffic apart = Counted(Space::kGlobal, 4, 64);
  EXPECT_EQ(apart.requests, 1u);
  EXPECT_EQ(apart.bytes, 128u);
  EXPECT_EQ(apart.units, 32u);
  EXPECT_EQ(apart.least_units, 4u);
}

TEST(TrafficCounterTest, LanesThatMeetInABankTakeWavefrontsOfTheirOwn) {
  EXPECT_EQ(Counted(Space::kShared, 4, 4).units, 1u);
  EXPECT_EQ(Counted(Space::kShared, 4, 0).units, 1u);     // the same word
  EXPECT_EQ(Counted(Space::kShared, 4, 8).units, 2u);     // two lanes to a bank
  EXPECT_EQ(Counted(Space::kShared, 4, 128).units, 32u);  // all in one
  EXPECT_EQ(Counted(Space::kShared, 4, 132).units, 1u);   // with a word between rows
  EXPECT_EQ(Counted(Space::kShared, 8, 8).units, 2u);     // halves of a warp
  EXPECT_EQ(Counted(Space::kShared, 16, 16).units, 4u);   // quarters
  const Traffic rows = Counted(Space::kShared, 16, 128);
  EXPECT_EQ(rows.units, 32u);
  EXPECT_EQ(rows.least_units, 4u);
}

}  // namespace
}  // namespace baton::ptx
