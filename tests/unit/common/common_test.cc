#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <limits>
#include <set>
#include <thread>

#include "common/check.h"
#include "common/file_limit.h"
#include "common/hash.h"
#include "common/ids.h"
#include "common/kv_layout.h"
#include "common/mailbox.h"
#include "common/metrics.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

TEST(Check, FailurePrintsConditionAndValuesAndAborts) {
  int blocks = 3;
  EXPECT_DEATH(BATON_CHECK(blocks == 4) << "blocks " << blocks,
               "common_test.cc:[0-9]+: check failed: blocks == 4 blocks 3");
}

TEST(FileLimit, TheLastDescriptorsAreAReserve) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_FALSE(IsFromReserve(1000 - 65));
  EXPECT_TRUE(IsFromReserve(1000 - 64));
  low.rlim_cur = 40;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_FALSE(IsFromReserve(29));
  EXPECT_TRUE(IsFromReserve(30));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(FileLimit, LeavesDescriptorsToTheProcess) {
  EXPECT_EQ(ConnectionsWithin(20000, 16384, 8), 16384u);
  EXPECT_EQ(ConnectionsWithin(4096, 16384, 8), 4096u - 520);
  EXPECT_EQ(ConnectionsWithin(256, 16384, 8), 128u);
  EXPECT_EQ(ConnectionsWithin(std::numeric_limits<uint64_t>::max(), 16384, 8), 16384u);
}

TEST(Mailbox, RefusesWhenFullAndWhenClosed) {
  Mailbox<int> box(2);
  EXPECT_TRUE(box.Push(1));
  EXPECT_TRUE(box.Push(2));
  EXPECT_FALSE(box.Push(3));
  EXPECT_EQ(box.TakeAll(), (std::vector<int>{1, 2}));
  EXPECT_TRUE(box.Push(4));
  box.Close();
  EXPECT_FALSE(box.Push(5));
  EXPECT_EQ(box.WaitAndTakeAll(absl::InfiniteDuration()), (std::vector<int>{4}));
  EXPECT_TRUE(box.WaitAndTakeAll(absl::InfiniteDuration()).empty());
}

TEST(Mailbox, WakesOnlyWhenItWasEmpty) {
  int wakes = 0;
  Mailbox<int> box(8, [&] { ++wakes; });
  EXPECT_TRUE(box.Push(1));
  EXPECT_TRUE(box.Push(2));
  EXPECT_EQ(wakes, 1);
  box.TakeAll();
  EXPECT_TRUE(box.Push(3));
  EXPECT_EQ(wakes, 2);
}

TEST(Mailbox, DeliversEverythingFromManyThreadsInEachThreadsOrder) {
  constexpr int kThreads = 4;
  constexpr int kItems = 2000;
  Mailbox<std::pair<int, int>> box(kThreads * kItems);
  std::vector<std::thread> producers;
  for (int t = 0; t < kThreads; ++t) {
    producers.emplace_back([&box, t] {
      for (int i = 0; i < kItems; ++i) ASSERT_TRUE(box.Push({t, i}));
    });
  }
  std::vector<int> next(kThreads, 0);
  int taken = 0;
  while (taken < kThreads * kItems) {
    for (const auto& [thread, item] : box.WaitAndTakeAll(absl::Seconds(10))) {
      EXPECT_EQ(item, next[thread]++);
      ++taken;
    }
  }
  for (std::thread& producer : producers) producer.join();
}

TEST(Hash, IsTheSameInEveryVersion) {
  EXPECT_EQ(HashString(""), 0x2d06800538d394c2u);  // XXH3-64's published value for no input
  EXPECT_NE(HashCombine(1, 2), HashCombine(2, 1));
}

TEST(KvLayout, FingerprintChangesWithEveryField) {
  const KvLayout base{.num_layers = 2, .num_kv_heads = 3, .head_dim = 32, .block_size = 16};
  std::set<uint64_t> seen{base.Fingerprint(7), base.Fingerprint(8)};
  KvLayout other = base;
  other.num_layers = 3;
  seen.insert(other.Fingerprint(7));
  other = base;
  other.num_kv_heads = 2;
  seen.insert(other.Fingerprint(7));
  other = base;
  other.head_dim = 64;
  seen.insert(other.Fingerprint(7));
  other = base;
  other.block_size = 32;
  seen.insert(other.Fingerprint(7));
  other = base;
  other.dtype = KvDtype::kF32;
  seen.insert(other.Fingerprint(7));
  other.dtype = KvDtype::kInt8;
  seen.insert(other.Fingerprint(7));
  EXPECT_EQ(seen.size(), 8u);
  EXPECT_EQ(other.BlockBytes(), 2 * 3 * 16 * (32 + 2));
  EXPECT_EQ(base.BlockBytes(), 2 * 3 * 16 * 32 * 2);
  EXPECT_EQ(base.BytesPerToken(), 2 * 3 * 32 * 2 * 2);
}

TEST(KvLayout, BlocksForTokensRoundsUp) {
  EXPECT_EQ(BlocksForTokens(0, 16), 0);
  EXPECT_EQ(BlocksForTokens(1, 16), 1);
  EXPECT_EQ(BlocksForTokens(16, 16), 1);
  EXPECT_EQ(BlocksForTokens(17, 16), 2);
}

TEST(Metrics, SeriesExistAtZeroWithPrefixAndConstantLabels) {
  MetricRegistry registry(MetricLabels{{"worker", "prefill-0"}});
  Counter* total = registry.AddCounter("requests_total", "Requests.", {{"result", "good"}});
  EXPECT_THAT(registry.Render(),
              HasSubstr("baton_requests_total{worker=\"prefill-0\",result=\"good\"} 0"));
  total->Increment(3);
  EXPECT_EQ(registry.AddCounter("requests_total", "Requests.", {{"result", "good"}}), total);
  EXPECT_THAT(registry.Render(),
              HasSubstr("baton_requests_total{worker=\"prefill-0\",result=\"good\"} 3"));
}

TEST(Metrics, SloThresholdsBecomeBucketBounds) {
  EXPECT_EQ(WithBounds({.1, .5, 1}, {.3, .5}), (std::vector<double>{.1, .3, .5, 1}));
}

}  // namespace
}  // namespace baton
