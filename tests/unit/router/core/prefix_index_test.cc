#include "router/core/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <map>
#include <random>
#include <set>

namespace baton::router {
namespace {

using ::testing::ElementsAre;

KvCacheEvent Batch(int32_t worker, uint64_t sequence, std::vector<uint64_t> stored,
                   std::vector<uint64_t> removed = {}) {
  return {.from = {WorkerIndex(worker), SessionId(1)},
          .sequence = sequence,
          .removed = std::move(removed),
          .stored = std::move(stored)};
}

KvCacheEvent Snapshot(int32_t worker, uint64_t sequence, std::vector<uint64_t> stored) {
  KvCacheEvent event = Batch(worker, sequence, std::move(stored));
  event.snapshot = true;
  return event;
}

TEST(HashPrefix, NamesEveryWholeBlockByAllBeforeIt) {
  std::vector<TokenId> prompt(100 * 16 + 3, 1);
  const PrefixHashes hashes = HashPrefix(prompt, 16, 0);
  ASSERT_EQ(hashes.size(), 100u) << "whole prompts, not a few blocks";
  prompt[50 * 16] = 2;
  const PrefixHashes other = HashPrefix(prompt, 16, 0);
  EXPECT_EQ(other[49], hashes[49]);
  EXPECT_NE(other[50], hashes[50]);
  EXPECT_NE(other[99], hashes[99]);
  EXPECT_NE(HashPrefix(prompt, 16, 9)[0], hashes[0]) << "another salt";
  EXPECT_TRUE(HashPrefix(prompt, 0, 0).empty());
}

TEST(PrefixIndex, FindsTheLongestPrefixAndWhoHoldsIt) {
  PrefixIndex index(1000);
  ASSERT_TRUE(index.Apply(Snapshot(0, 7, {1, 2, 3})));
  ASSERT_TRUE(index.Apply(Snapshot(1, 1, {1})));
  ASSERT_TRUE(index.Apply(Snapshot(2, 1, {1, 2, 3})));
  const PrefixHashes prompt = {1, 2, 3, 4};
  EXPECT_EQ(index.Longest(prompt).blocks, 3);
  EXPECT_THAT(index.Longest(prompt).workers, ElementsAre(WorkerIndex(0), WorkerIndex(2)));
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(1), prompt), 1);
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(5), prompt), 0);
  ASSERT_TRUE(index.Apply(Batch(1, 2, {2, 3, 4})));
  EXPECT_THAT(index.Longest(prompt).workers, ElementsAre(WorkerIndex(1)));
  ASSERT_TRUE(index.Apply(Batch(1, 3, {9}, {4, 3, 2, 1})));
  EXPECT_EQ(index.Longest(prompt).blocks, 3);
  index.Forget(WorkerIndex(0));
  index.Forget(WorkerIndex(2));
  EXPECT_EQ(index.Longest(prompt).blocks, 0);
  EXPECT_EQ(index.entries(), 1u);
}

TEST(PrefixIndex, AGapVoidsTheWorkerUntilItsSnapshotAndIsToldOnce) {
  PrefixIndex index(1000);
  ASSERT_TRUE(index.Apply(Snapshot(0, 1, {1, 2})));
  ASSERT_TRUE(index.Apply(Snapshot(1, 1, {1})));
  ASSERT_TRUE(index.Apply(Batch(0, 2, {3})));
  EXPECT_FALSE(index.Apply(Batch(0, 4, {5}))) << "3 was lost";
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(0), {1, 2, 3}), 0);
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(1), {1}), 1) << "others are not touched";
  EXPECT_TRUE(index.Apply(Batch(0, 5, {6}))) << "the resync is on its way";
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(0), {6}), 0);
  ASSERT_TRUE(index.Apply(Snapshot(0, 6, {1})));
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(0), {1, 2}), 1);
  EXPECT_TRUE(index.Apply(Batch(0, 7, {2})));
  EXPECT_EQ(index.HeldBlocks(WorkerIndex(0), {1, 2}), 2);
  EXPECT_FALSE(index.Apply(Batch(2, 1, {1}))) << "a first batch must be a snapshot";
}

TEST(PrefixIndex, IsBoundedAndAgreesWithSetsUnderRandomEvents) {
  constexpr uint64_t kSeed = 11;
  std::cout << "seed " << kSeed << "\n";
  std::mt19937_64 random(kSeed);
  PrefixIndex index(200);
  std::map<int32_t, std::set<uint64_t>> naive;
  std::map<int32_t, uint64_t> sequence;
  for (int32_t worker = 0; worker < 5; ++worker) ASSERT_TRUE(index.Apply(Snapshot(worker, 0, {})));
  for (int round = 0; round < 5000; ++round) {
    const auto worker = static_cast<int32_t>(random() % 5);
    std::vector<uint64_t> stored, removed;
    for (uint64_t i = random() % 4; i > 0; --i) removed.push_back(random() % 100);
    for (uint64_t i = random() % 4; i > 0; --i) stored.push_back(random() % 100);
    for (const uint64_t hash : removed) naive[worker].erase(hash);
    size_t room = 200;
    for (const auto& [each, held] : naive) room -= held.size();
    for (const uint64_t hash : stored) {
      if (room == 0) break;
      room -= naive[worker].insert(hash).second ? 1 : 0;
    }
    ASSERT_TRUE(index.Apply(Batch(worker, ++sequence[worker], stored, removed)));
    ASSERT_LE(index.entries(), 200u);
    const uint64_t probe = random() % 100;
    for (const auto& [each, held] : naive) {
      ASSERT_EQ(index.HeldBlocks(WorkerIndex(each), {probe}), held.contains(probe) ? 1 : 0);
    }
  }
  EXPECT_GT(index.dropped(), 0u);
}

}  // namespace
}  // namespace baton::router
