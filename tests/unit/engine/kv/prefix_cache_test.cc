#include "engine/kv/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "common/hash.h"

namespace baton {
namespace {

using Tokens = std::vector<TokenId>;
constexpr int32_t kBlockSize = 2;

// A sequence as the scheduler would hold it.
struct Holder {
  Tokens tokens;
  std::vector<BlockRef> refs;
  std::vector<BlockId> table;
  PrefixProgress progress;

  ~Holder() { Drop(); }
  void Drop() {  // last first, as BlockTable does
    while (!refs.empty()) refs.pop_back();
    table.clear();
  }
};

// Takes blocks for `tokens`, matching what is there. False: no room.
bool Start(PrefixCache& cache, Tokens tokens, Holder* holder, uint64_t salt = 0,
           bool match = true) {
  const auto blocks = static_cast<int32_t>(tokens.size()) / kBlockSize;
  const auto matched = match ? cache.Match(salt, tokens, blocks) : std::vector<PrefixLink>{};
  for (const PrefixLink& link : matched) holder->refs.push_back(cache.pool().Share(link.block));
  if (!cache.Allocate(blocks - static_cast<int32_t>(matched.size()), BlockId(-1), &holder->refs)) {
    holder->Drop();
    return false;
  }
  for (const BlockRef& ref : holder->refs) {
    holder->table.push_back(ref.id());
    if (cache.pool().State(ref.id()) == BlockState::kReserved) cache.pool().StartUse(ref.id());
  }
  holder->tokens = std::move(tokens);
  cache.Register(salt, holder->tokens, holder->table, &holder->progress);
  cache.CheckInvariants();
  return true;
}

TEST(PrefixCacheTest, AnEndedSequencesBlocksAreFoundAgain) {
  PrefixCache cache(8, kBlockSize);
  Holder first;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4, 5, 6}, &first));
  const std::vector<BlockId> blocks = first.table;
  first.Drop();
  EXPECT_EQ(cache.pool().Count(BlockState::kCached), 3);
  const auto match = cache.Match(0, Tokens{1, 2, 3, 4, 9, 9}, 3);
  ASSERT_EQ(match.size(), 2u);
  EXPECT_EQ(match[0].block, blocks[0]);
  EXPECT_EQ(match[1].block, blocks[1]);
  EXPECT_EQ(cache.Match(0, Tokens{1, 2, 3, 4, 5, 6}, 2).size(), 2u) << "no more than asked for";
  EXPECT_EQ(cache.Match(1, Tokens{1, 2, 3, 4, 5, 6}, 3).size(), 0u) << "another salt";
}

TEST(PrefixCacheTest, EvictsLeavesBeforeThePrefixesTheyBuildOn) {
  PrefixCache cache(4, kBlockSize);
  Holder first;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4, 5, 6, 7, 8}, &first));
  first.Drop();
  for (size_t left = 3;; --left) {
    std::vector<BlockRef> taken;
    ASSERT_TRUE(cache.Allocate(static_cast<int32_t>(4 - left), BlockId(-1), &taken));
    cache.CheckInvariants();
    EXPECT_EQ(cache.Match(0, Tokens{1, 2, 3, 4, 5, 6, 7, 8}, 4).size(), left);
    if (left == 0) break;
  }
}

TEST(PrefixCacheTest, EvictsTheLeastRecentlyUsedChain) {
  PrefixCache cache(4, kBlockSize);
  Holder a, b, hit;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &a));
  ASSERT_TRUE(Start(cache, {5, 6, 7, 8}, &b));
  a.Drop();
  b.Drop();
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &hit));
  hit.Drop();
  std::vector<BlockRef> taken;
  ASSERT_TRUE(cache.Allocate(2, BlockId(-1), &taken));
  EXPECT_EQ(cache.Match(0, Tokens{1, 2, 3, 4}, 2).size(), 2u);
  EXPECT_EQ(cache.Match(0, Tokens{5, 6, 7, 8}, 2).size(), 0u);
}

TEST(PrefixCacheTest, OfTwoThatComputeTheSameOneIsIndexedAndTheOtherStaysPrivate) {
  PrefixCache cache(8, kBlockSize);
  Holder first, second;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &first));
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &second, 0, /*match=*/false));
  EXPECT_EQ(cache.index().size(), 2);
  for (const BlockId block : second.table) EXPECT_FALSE(cache.pool().indexed(block));
  second.Drop();
  EXPECT_EQ(cache.pool().Count(BlockState::kCached), 0);
  first.Drop();
  EXPECT_EQ(cache.pool().Count(BlockState::kCached), 2);
}

// second's own third block hangs below first's blocks. When those are evicted, it is forgotten,
// and second's next block puts second's whole chain in their place.
TEST(PrefixCacheTest, AChainBelowATwinSurvivesItsEviction) {
  PrefixCache cache(8, kBlockSize);
  Holder first, second;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &first));
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4, 5, 6}, &second, 0, /*match=*/false));
  EXPECT_EQ(cache.Match(0, second.tokens, 3).size(), 3u);
  first.Drop();
  std::vector<BlockRef> taken;
  ASSERT_TRUE(cache.Allocate(5, BlockId(-1), &taken));
  cache.CheckInvariants();
  EXPECT_EQ(cache.Match(0, second.tokens, 3).size(), 0u);
  taken.clear();
  ASSERT_TRUE(cache.Allocate(1, BlockId(-1), &second.refs));
  cache.pool().StartUse(second.refs.back().id());
  second.table.push_back(second.refs.back().id());
  second.tokens.insert(second.tokens.end(), {7, 8});
  cache.Register(0, second.tokens, second.table, &second.progress);
  cache.CheckInvariants();
  const auto match = cache.Match(0, second.tokens, 4);
  ASSERT_EQ(match.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(match[i].block, second.table[i]);
}

TEST(PrefixCacheTest, ARefusedAllocationChangesNothing) {
  PrefixCache cache(3, kBlockSize);
  Holder cached, held;
  ASSERT_TRUE(Start(cache, {1, 2}, &cached));
  ASSERT_TRUE(Start(cache, {3, 4}, &held));
  cached.Drop();
  std::vector<BlockRef> taken;
  EXPECT_FALSE(cache.Allocate(3, BlockId(-1), &taken));
  EXPECT_TRUE(taken.empty());
  EXPECT_EQ(cache.Match(0, Tokens{1, 2}, 1).size(), 1u) << "nothing was evicted in vain";
}

// Random use with few hash bits, so that collisions are common: every match must give blocks whose
// tokens are those asked for.
TEST(PrefixCacheTest, AMatchIsNeverWrongEvenWhenHashesCollide) {
  for (const uint64_t mask : {uint64_t{0}, uint64_t{7}, ~uint64_t{0}}) {
    constexpr uint64_t kSeed = 99;
    SCOPED_TRACE(testing::Message() << "seed " << kSeed << ", mask " << mask);
    std::mt19937_64 random(kSeed);
    constexpr int32_t kBlocks = 16;
    PrefixCache cache(kBlocks, kBlockSize, mask);
    std::map<int32_t, Tokens> content;  // block → all tokens up to its end, salt first
    std::vector<std::unique_ptr<Holder>> holders;
    int hits = 0;
    for (int step = 0; step < 3000; ++step) {
      if (!holders.empty() && random() % 2 == 0) {
        holders.erase(holders.begin() + static_cast<ptrdiff_t>(random() % holders.size()));
        cache.CheckInvariants();
        continue;
      }
      const uint64_t salt = random() % 2;
      Tokens tokens;
      for (size_t i = 0, n = 2 * (random() % 5 + 1); i < n; ++i) {
        tokens.push_back(static_cast<TokenId>(random() % 2));
      }
      const auto blocks = static_cast<int32_t>(tokens.size()) / kBlockSize;
      const auto upto = [&](size_t block) {
        Tokens key(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(2 * (block + 1)));
        key.insert(key.begin(), static_cast<TokenId>(salt));
        return key;
      };
      const auto match = cache.Match(salt, tokens, blocks);
      hits += static_cast<int>(match.size());
      for (size_t i = 0; i < match.size(); ++i) {
        ASSERT_EQ(content.at(match[i].block.value()), upto(i)) << "step " << step;
      }
      auto holder = std::make_unique<Holder>();
      if (!Start(cache, tokens, holder.get(), salt)) continue;
      for (size_t i = match.size(); i < holder->table.size(); ++i) {
        content[holder->table[i].value()] = upto(i);
      }
      holders.push_back(std::move(holder));
    }
    EXPECT_GT(hits, mask == 0 ? 10 : 500);
    holders.clear();
    EXPECT_EQ(cache.available(), kBlocks);
  }
}

TEST(PrefixCacheTest, NamesItsBlocksByTheHashOfTheWholeChain) {
  PrefixCache cache(8, kBlockSize);
  EXPECT_TRUE(cache.TakeChanges().empty());
  Holder holder;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4, 5}, &holder, /*salt=*/9));
  const uint64_t first = PrefixBlockHash(9, Tokens{1, 2});
  const uint64_t second = PrefixBlockHash(first, Tokens{3, 4});
  PrefixChanges changes = cache.TakeChanges();
  std::ranges::sort(changes.stored);
  EXPECT_EQ(changes.stored,
            (std::vector<uint64_t>{std::min(first, second), std::max(first, second)}));
  EXPECT_TRUE(changes.removed.empty());
}

TEST(PrefixCacheTest, WhatItTellsAddsUpToWhatItHolds) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    PrefixCache cache(12, kBlockSize);
    std::set<uint64_t> told;
    size_t removed = 0;
    for (int i = 0; i < 200; ++i) {
      Holder holder;
      Tokens tokens;
      for (uint64_t t = 0; t < 2 + random() % 12; ++t) {
        tokens.push_back(static_cast<TokenId>(random() % 3));
      }
      Start(cache, tokens, &holder);
      if (random() % 3 != 0) continue;  // several changes in one batch
      const PrefixChanges changes = cache.TakeChanges();
      removed += changes.removed.size();
      for (const uint64_t hash : changes.removed) told.erase(hash);
      told.insert(changes.stored.begin(), changes.stored.end());
      const std::vector<uint64_t> held = cache.index().Hashes();
      EXPECT_EQ(told, std::set<uint64_t>(held.begin(), held.end()));
    }
    EXPECT_GT(removed, 0u);
    EXPECT_FALSE(told.empty());
  }
}

TEST(PrefixCacheTest, TheFirstCallTellsEverythingThatIsThere) {
  PrefixCache cache(8, kBlockSize);
  Holder holder;
  ASSERT_TRUE(Start(cache, {1, 2, 3, 4}, &holder));
  EXPECT_EQ(cache.TakeChanges().stored.size(), 2u);
  EXPECT_TRUE(cache.TakeChanges().empty());
}

}  // namespace
}  // namespace baton
