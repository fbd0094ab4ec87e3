#include "engine/kv/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

namespace baton {
namespace {

constexpr BlockId kBlock{0};
constexpr BlockState kAllStates[] = {
    BlockState::kFree,  BlockState::kReserved, BlockState::kLanding,   BlockState::kSealed,
    BlockState::kInUse, BlockState::kCached,   BlockState::kQuarantine};

// A pool whose block 0 was led to a state by legal moves.
struct Case {
  BlockPool pool{2};
  std::vector<BlockRef> refs;

  explicit Case(BlockState state) {
    if (state == BlockState::kFree) return;
    pool.Allocate(1, kBlock, &refs);
    if (state == BlockState::kReserved) return;
    if (state == BlockState::kInUse || state == BlockState::kCached) {
      pool.StartUse(kBlock);
      if (state == BlockState::kInUse) return;
      pool.SetIndexed(kBlock, true);
      refs.clear();
      return;
    }
    pool.StartLanding(kBlock);
    if (state == BlockState::kSealed) pool.Seal(kBlock);
    if (state == BlockState::kQuarantine) refs.clear();
  }
};

struct Operation {
  const char* name;
  std::function<void(Case&)> apply;
  std::function<std::optional<BlockState>(BlockState)> expected;  // nullopt: a bug, aborts
};

// nullopt for all states but those listed.
auto Only(std::vector<std::pair<BlockState, BlockState>> moves) {
  return [moves](BlockState from) -> std::optional<BlockState> {
    for (const auto& [a, b] : moves) {
      if (a == from) return b;
    }
    return std::nullopt;
  };
}

std::vector<Operation> AllOperations() {
  using S = BlockState;
  return {
      {"StartLanding", [](Case& c) { c.pool.StartLanding(kBlock); },
       Only({{S::kReserved, S::kLanding}})},
      {"Seal", [](Case& c) { c.pool.Seal(kBlock); }, Only({{S::kLanding, S::kSealed}})},
      {"StartUse", [](Case& c) { c.pool.StartUse(kBlock); },
       Only({{S::kReserved, S::kInUse}, {S::kSealed, S::kInUse}})},
      {"EndQuarantine", [](Case& c) { c.pool.EndQuarantine(kBlock); },
       Only({{S::kQuarantine, S::kFree}})},
      {"Evict", [](Case& c) { c.pool.Evict(kBlock); }, Only({{S::kCached, S::kFree}})},
      {"Share", [](Case& c) { c.refs.push_back(c.pool.Share(kBlock)); },
       Only({{S::kCached, S::kInUse}, {S::kInUse, S::kInUse}, {S::kSealed, S::kSealed}})},
      {"SetIndexed", [](Case& c) { c.pool.SetIndexed(kBlock, true); },
       Only({{S::kInUse, S::kInUse}, {S::kSealed, S::kSealed}})},
      {"drop the last reference", [](Case& c) { c.refs.clear(); },
       [](S from) -> std::optional<S> {
         switch (from) {
           case S::kReserved:
           case S::kInUse:  // not indexed
           case S::kSealed:
             return S::kFree;
           case S::kLanding:
             return S::kQuarantine;
           default:
             return from;  // nobody holds one
         }
       }},
  };
}

TEST(BlockPoolDeathTest, EveryOperationInEveryState) {
  for (const BlockState from : kAllStates) {
    for (const Operation& operation : AllOperations()) {
      SCOPED_TRACE(std::string(operation.name) + " in " + std::string(BlockStateName(from)));
      Case test(from);
      ASSERT_EQ(test.pool.State(kBlock), from);
      test.pool.CheckInvariants();
      const std::optional<BlockState> expected = operation.expected(from);
      if (!expected) {
        EXPECT_DEATH(operation.apply(test), "block 0");
        continue;
      }
      operation.apply(test);
      EXPECT_EQ(test.pool.State(kBlock), *expected);
      test.pool.CheckInvariants();
    }
  }
}

TEST(BlockPoolTest, TheTransitionTableIsThatOfH1) {
  using S = BlockState;
  const std::vector<std::pair<S, S>> legal = {
      {S::kFree, S::kReserved},   {S::kReserved, S::kLanding}, {S::kReserved, S::kInUse},
      {S::kReserved, S::kFree},   {S::kLanding, S::kSealed},   {S::kLanding, S::kQuarantine},
      {S::kQuarantine, S::kFree}, {S::kSealed, S::kInUse},     {S::kInUse, S::kCached},
      {S::kInUse, S::kFree},      {S::kCached, S::kInUse},     {S::kCached, S::kFree}};
  for (const S from : kAllStates) {
    for (const S to : kAllStates) {
      const bool listed = std::ranges::find(legal, std::pair(from, to)) != legal.end();
      EXPECT_EQ(IsLegalTransition(from, to), listed)
          << BlockStateName(from) << " to " << BlockStateName(to);
    }
  }
}

TEST(BlockPoolTest, ASharedBlockStaysUntilItsLastReferenceGoes) {
  Case test(BlockState::kInUse);
  BlockRef second = test.pool.Share(kBlock);
  EXPECT_EQ(test.pool.References(kBlock), 2);
  test.refs.clear();
  EXPECT_EQ(test.pool.State(kBlock), BlockState::kInUse);
  BlockRef moved = std::move(second);
  second.Reset();
  EXPECT_EQ(test.pool.State(kBlock), BlockState::kInUse) << "a moved-from handle holds nothing";
  moved = BlockRef();
  EXPECT_EQ(test.pool.State(kBlock), BlockState::kFree);
}

TEST(BlockPoolTest, AnIndexedSealedBlockIsCachedWhenDropped) {
  Case test(BlockState::kSealed);
  test.pool.SetIndexed(kBlock, true);
  test.refs.clear();
  EXPECT_EQ(test.pool.State(kBlock), BlockState::kCached);
  test.pool.CheckInvariants();
}

TEST(BlockPoolTest, DroppingAHandleNeverFreesALandingBlock) {
  Case test(BlockState::kLanding);
  test.refs.clear();
  EXPECT_EQ(test.pool.State(kBlock), BlockState::kQuarantine);
  EXPECT_EQ(test.pool.Count(BlockState::kFree), 1);
  EXPECT_EQ(test.pool.free_runs().Contains(0), false);
}

TEST(BlockPoolTest, TheOldestCachedBlockIsThatDroppedFirstAndHitsRenewIt) {
  BlockPool pool(3);
  std::vector<BlockRef> refs;
  pool.Allocate(3, BlockId(-1), &refs);
  for (const BlockRef& ref : refs) {
    pool.StartUse(ref.id());
    pool.SetIndexed(ref.id(), true);
  }
  refs[1].Reset();
  refs[2].Reset();
  refs[0].Reset();
  EXPECT_EQ(pool.OldestCached(), BlockId(1));
  pool.Share(BlockId(1)).Reset();
  EXPECT_EQ(pool.OldestCached(), BlockId(2));
  pool.Evict(BlockId(2));
  pool.Evict(BlockId(0));
  pool.Evict(BlockId(1));
  EXPECT_EQ(pool.OldestCached(), BlockId(-1));
  pool.CheckInvariants();
}

TEST(BlockPoolDeathTest, AHandleMustNotOutliveItsPool) {
  EXPECT_DEATH(
      {
        std::vector<BlockRef> refs;
        BlockPool pool(1);
        pool.Allocate(1, kBlock, &refs);
      },
      "outlives its pool");
}

}  // namespace
}  // namespace baton
