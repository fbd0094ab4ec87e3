#include "engine/kv/prefix_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using Tokens = std::vector<TokenId>;

constexpr int32_t kBlockSize = 2;

TEST(PrefixIndexTest, FindsAChainBlockByBlock) {
  PrefixIndex index(4, kBlockSize);
  const PrefixLink root = PrefixIndex::Root(0);
  const auto first = index.Insert(root, Tokens{1, 2}, BlockId(3));
  const auto second = index.Insert(*first, Tokens{3, 4}, BlockId(0));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(index.Find(root, Tokens{1, 2})->block, BlockId(3));
  EXPECT_EQ(index.Find(*first, Tokens{3, 4})->block, BlockId(0));
  EXPECT_FALSE(index.Find(root, Tokens{3, 4})) << "its parent is another";
  EXPECT_FALSE(index.Find(*first, Tokens{3, 5}));
  index.CheckInvariants();
}

TEST(PrefixIndexTest, SaltsSeparateChains) {
  PrefixIndex index(4, kBlockSize);
  ASSERT_TRUE(index.Insert(PrefixIndex::Root(1), Tokens{1, 2}, BlockId(0)));
  EXPECT_FALSE(index.Find(PrefixIndex::Root(2), Tokens{1, 2}));
  EXPECT_FALSE(index.Find(PrefixIndex::Root(0), Tokens{1, 2}));
  EXPECT_TRUE(index.Insert(PrefixIndex::Root(2), Tokens{1, 2}, BlockId(1)));
  EXPECT_EQ(index.Find(PrefixIndex::Root(2), Tokens{1, 2})->block, BlockId(1));
}

// With a mask of 0 every hash is equal: only the comparison of tokens and parents is left.
TEST(PrefixIndexTest, ACollisionGivesNoHitAndIndexesNothing) {
  PrefixIndex index(4, kBlockSize, /*hash_mask=*/0);
  const PrefixLink root = PrefixIndex::Root(0);
  const auto first = index.Insert(root, Tokens{1, 2}, BlockId(0));
  ASSERT_TRUE(first);
  EXPECT_FALSE(index.Find(root, Tokens{5, 6}));
  EXPECT_FALSE(index.Find(*first, Tokens{1, 2})) << "same tokens and hash, another parent";
  EXPECT_FALSE(index.Find(PrefixIndex::Root(9), Tokens{1, 2})) << "same tokens, another salt";
  EXPECT_FALSE(index.Insert(root, Tokens{5, 6}, BlockId(1)));
  EXPECT_FALSE(index.Contains(BlockId(1)));
  EXPECT_EQ(index.Find(root, Tokens{1, 2})->block, BlockId(0));
  index.CheckInvariants();
}

TEST(PrefixIndexTest, ErasingANodeErasesAllBelowIt) {
  PrefixIndex index(6, kBlockSize);
  const PrefixLink root = PrefixIndex::Root(0);
  const auto a = index.Insert(root, Tokens{1, 1}, BlockId(0));
  const auto b = index.Insert(*a, Tokens{2, 2}, BlockId(1));
  const auto c = index.Insert(*a, Tokens{3, 3}, BlockId(2));
  const auto d = index.Insert(*b, Tokens{4, 4}, BlockId(3));
  const auto other = index.Insert(root, Tokens{5, 5}, BlockId(4));
  std::vector<BlockId> erased;
  index.Erase(BlockId(1), &erased);
  EXPECT_THAT(erased, ElementsAre(BlockId(1), BlockId(3)));
  EXPECT_FALSE(index.Alive(*b));
  EXPECT_FALSE(index.Alive(*d));
  EXPECT_TRUE(index.Alive(*c));
  index.CheckInvariants();
  erased.clear();
  index.Erase(BlockId(0), &erased);
  EXPECT_THAT(erased, UnorderedElementsAre(BlockId(0), BlockId(2)));
  EXPECT_TRUE(index.Alive(*other));
  EXPECT_EQ(index.size(), 1);
  index.CheckInvariants();
}

TEST(PrefixIndexTest, ALinkGoesStaleWhenItsBlockGetsANewNode) {
  PrefixIndex index(2, kBlockSize);
  const PrefixLink root = PrefixIndex::Root(0);
  const auto old = index.Insert(root, Tokens{1, 2}, BlockId(0));
  ASSERT_TRUE(index.Insert(*old, Tokens{3, 4}, BlockId(1)));
  std::vector<BlockId> erased;
  index.Erase(BlockId(0), &erased);
  // The same tokens, hash and block again; but whoever holds `old` has missed the gap.
  const auto renewed = index.Insert(root, Tokens{1, 2}, BlockId(0));
  EXPECT_FALSE(index.Alive(*old));
  EXPECT_TRUE(index.Alive(*renewed));
  EXPECT_FALSE(index.Find(*old, Tokens{3, 4}));
  EXPECT_TRUE(index.Alive(root));
}

TEST(PrefixIndexTest, SiblingsLeaveInAnyOrder) {
  for (const int32_t first : {1, 2, 3}) {
    for (const int32_t second : {1, 2, 3}) {
      if (first == second) continue;
      PrefixIndex index(4, kBlockSize);
      const auto parent = index.Insert(PrefixIndex::Root(0), Tokens{0, 0}, BlockId(0));
      for (const int32_t child : {1, 2, 3}) {
        ASSERT_TRUE(index.Insert(*parent, Tokens{child, child}, BlockId(child)));
      }
      std::vector<BlockId> erased;
      index.Erase(BlockId(first), &erased);
      index.CheckInvariants();
      index.Erase(BlockId(second), &erased);
      index.CheckInvariants();
      index.Erase(BlockId(0), &erased);
      EXPECT_EQ(erased.size(), 4u);
      EXPECT_EQ(index.size(), 0);
    }
  }
}

}  // namespace
}  // namespace baton
