#include "engine/kv/free_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace baton {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Take(FreeRuns& runs, int32_t count, int32_t preferred = -1) {
  std::vector<int32_t> taken;
  runs.Take(count, preferred, &taken);
  return taken;
}

TEST(FreeRunsTest, TakesTheSmallestRunThatFits) {
  FreeRuns runs(20);
  Take(runs, 20);
  for (const int32_t block : {0, 1, 2, 3, 4, 8, 9, 10, 14, 15}) runs.Put(block);
  EXPECT_EQ(runs.num_runs(), 3);
  EXPECT_THAT(Take(runs, 2), ElementsAre(14, 15));
  EXPECT_THAT(Take(runs, 3), ElementsAre(8, 9, 10));
  EXPECT_THAT(Take(runs, 3), ElementsAre(0, 1, 2));
}

TEST(FreeRunsTest, SplitsARequestOverTheLargestRuns) {
  FreeRuns runs(20);
  Take(runs, 20);
  for (const int32_t block : {0, 1, 4, 5, 6, 9, 12, 13}) runs.Put(block);
  EXPECT_THAT(Take(runs, 5), ElementsAre(4, 5, 6, 0, 1));
}

TEST(FreeRunsTest, ContinuesAtThePreferredBlock) {
  FreeRuns runs(10);
  EXPECT_THAT(Take(runs, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(Take(runs, 3), ElementsAre(3, 4, 5));
  runs.Put(0);
  runs.Put(1);
  runs.Put(2);
  EXPECT_THAT(Take(runs, 1, 6), ElementsAre(6));
  EXPECT_THAT(Take(runs, 1, 3), ElementsAre(0)) << "3 is taken: any other run does";
  EXPECT_THAT(Take(runs, 4, 7), ElementsAre(7, 8, 9, 1));
}

TEST(FreeRunsTest, NeighboursJoinInEveryOrder) {
  std::vector<int32_t> order = {0, 1, 2, 3, 4};
  do {
    FreeRuns runs(5);
    Take(runs, 5);
    for (const int32_t block : order) {
      runs.Put(block);
      runs.CheckInvariants();
    }
    EXPECT_EQ(runs.num_runs(), 1);
  } while (std::ranges::next_permutation(order).found);
}

TEST(FreeRunsTest, AgreesWithASetUnderRandomUse) {
  constexpr uint64_t kSeed = 17;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937_64 random(kSeed);
  constexpr int32_t kBlocks = 64;
  FreeRuns runs(kBlocks);
  std::set<int32_t> free;
  for (int32_t i = 0; i < kBlocks; ++i) free.insert(i);
  for (int step = 0; step < 5000; ++step) {
    if (random() % 2 == 0 && !free.empty()) {
      const auto count = static_cast<int32_t>(random() % std::min<size_t>(free.size(), 9) + 1);
      for (const int32_t block : Take(runs, count, static_cast<int32_t>(random() % kBlocks))) {
        ASSERT_EQ(free.erase(block), 1u) << "block " << block << " was given twice";
      }
    } else if (free.size() < kBlocks) {
      auto block = static_cast<int32_t>(random() % kBlocks);
      while (free.contains(block)) block = (block + 1) % kBlocks;
      runs.Put(block);
      free.insert(block);
    }
    runs.CheckInvariants();
    ASSERT_EQ(runs.size(), static_cast<int32_t>(free.size()));
    for (int32_t i = 0; i < kBlocks; ++i) ASSERT_EQ(runs.Contains(i), free.contains(i));
  }
}

TEST(FreeRunsDeathTest, RefusesToFreeTwice) {
  FreeRuns runs(4);
  EXPECT_DEATH(runs.Put(2), "block 2 is free");
  Take(runs, 4);
  runs.Put(2);
  EXPECT_DEATH(runs.Put(2), "block 2 is free");
  std::vector<int32_t> taken;
  EXPECT_DEATH(runs.Take(2, -1, &taken), "asked for 2 of 1 free blocks");
}

}  // namespace
}  // namespace baton
