// Which pairs are kept apart, and how one comes back.
#include "router/core/pair_ejection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace baton::router {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr WorkerPair kPair{WorkerIndex(0), WorkerIndex(2)};
constexpr WorkerPair kSamePrefill{WorkerIndex(0), WorkerIndex(3)};
constexpr WorkerPair kSameDecode{WorkerIndex(1), WorkerIndex(2)};

class PairEjectionTest : public ::testing::Test {
 protected:
  void Fail(int times, const WorkerPair& pair = kPair) {
    for (int i = 0; i < times; ++i) pairs_.Failed(now_, pair, /*probe=*/false);
  }
  void Advance(absl::Duration by) { now_ += by; }

  PairEjection pairs_{{}};
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(PairEjectionTest, ThreeFailuresInTenSecondsKeepThePairApartAndNoOther) {
  Fail(1);
  Advance(absl::Seconds(5));
  Fail(1);
  EXPECT_FALSE(pairs_.Avoid(now_, kPair));
  Advance(absl::Seconds(5));
  Fail(1);
  EXPECT_TRUE(pairs_.Avoid(now_, kPair));
  EXPECT_EQ(pairs_.standing(kPair), Standing::kOut);
  EXPECT_FALSE(pairs_.Avoid(now_, kSamePrefill));
  EXPECT_FALSE(pairs_.Avoid(now_, kSameDecode));
  EXPECT_EQ(pairs_.num_out(), 1);
  EXPECT_THAT(pairs_.TakeChanges(), ElementsAre(kPair));
}

TEST_F(PairEjectionTest, NotThreeInMoreTime) {
  for (int i = 0; i < 20; ++i) {
    Fail(1);
    Advance(absl::Milliseconds(5001));
  }
  EXPECT_FALSE(pairs_.Avoid(now_, kPair));
  EXPECT_THAT(pairs_.TakeChanges(), IsEmpty());
}

TEST_F(PairEjectionTest, FailuresOfDifferentPairsDoNotAddUp) {
  Fail(2);
  Fail(2, kSamePrefill);
  Fail(2, kSameDecode);
  EXPECT_EQ(pairs_.num_out(), 0);
}

TEST_F(PairEjectionTest, AfterAPauseOneHandoffIsTriedAndItsSealBringsThePairBack) {
  Fail(3);
  Advance(absl::Milliseconds(4999));
  EXPECT_TRUE(pairs_.Avoid(now_, kPair));
  EXPECT_FALSE(pairs_.Place(now_, kPair)) << "a last resort";
  Advance(absl::Milliseconds(1));
  EXPECT_FALSE(pairs_.Avoid(now_, kPair));
  EXPECT_TRUE(pairs_.Place(now_, kPair));
  EXPECT_EQ(pairs_.standing(kPair), Standing::kProbing);
  EXPECT_TRUE(pairs_.Avoid(now_, kPair)) << "one at a time";
  EXPECT_FALSE(pairs_.Place(now_, kPair));
  pairs_.ProbeSealed(kPair);
  EXPECT_FALSE(pairs_.Avoid(now_, kPair));
  EXPECT_EQ(pairs_.num_out(), 0);
  Fail(2);
  EXPECT_FALSE(pairs_.Avoid(now_, kPair)) << "it starts from nothing";
}

TEST_F(PairEjectionTest, PausesGrowWhileProbesFail) {
  Fail(3);
  for (const int seconds : {5, 10, 20, 40, 60, 60}) {
    Advance(absl::Seconds(seconds) - absl::Milliseconds(1));
    EXPECT_TRUE(pairs_.Avoid(now_, kPair)) << seconds;
    Advance(absl::Milliseconds(1));
    ASSERT_TRUE(pairs_.Place(now_, kPair)) << seconds;
    pairs_.Failed(now_, kPair, /*probe=*/true);
    EXPECT_EQ(pairs_.standing(kPair), Standing::kOut);
  }
}

TEST_F(PairEjectionTest, WhatWasUnderWayChangesNothing) {
  Fail(8);
  Advance(absl::Seconds(5));
  ASSERT_TRUE(pairs_.Place(now_, kPair));
  Fail(3);
  EXPECT_EQ(pairs_.standing(kPair), Standing::kProbing);
  pairs_.ProbeSealed(kPair);
  EXPECT_EQ(pairs_.standing(kPair), Standing::kIn);
}

TEST_F(PairEjectionTest, AProbeWithoutAVerdictIsFollowedByTheNextHandoff) {
  Fail(3);
  Advance(absl::Seconds(5));
  ASSERT_TRUE(pairs_.Place(now_, kPair));
  pairs_.ProbeEnded(kPair);
  EXPECT_EQ(pairs_.standing(kPair), Standing::kOut);
  EXPECT_FALSE(pairs_.Avoid(now_, kPair));
  EXPECT_TRUE(pairs_.Place(now_, kPair));
}

TEST_F(PairEjectionTest, ADeathForgetsThePairsOfTheWorker) {
  Fail(3);
  Fail(3, kSamePrefill);
  Fail(2, kSameDecode);
  EXPECT_THAT(pairs_.Out(), ElementsAre(kPair, kSamePrefill));
  pairs_.TakeChanges();
  pairs_.Forget(kPair.decode);
  EXPECT_THAT(pairs_.TakeChanges(), ElementsAre(kPair));
  EXPECT_THAT(pairs_.Out(), ElementsAre(kSamePrefill));
  Fail(1, kSameDecode);
  EXPECT_FALSE(pairs_.Avoid(now_, kSameDecode));
  // A probe that was under way says nothing of what comes after.
  pairs_.ProbeSealed(kPair);
  pairs_.ProbeEnded(kPair);
  EXPECT_EQ(pairs_.num_out(), 1);
}

TEST_F(PairEjectionTest, RemembersSoManyPairsAndForgetsOldFailuresFirst) {
  PairEjection pairs({.failures = 1, .max_pairs = 2});
  PairEjection two({.failures = 2, .max_pairs = 2});
  pairs.Failed(now_, kPair, false);
  pairs.Failed(now_, kSamePrefill, false);
  pairs.Failed(now_, kSameDecode, false);
  EXPECT_EQ(pairs.num_out(), 2) << "there was no room for the third";
  two.Failed(now_, kPair, false);
  two.Failed(now_, kSamePrefill, false);
  Advance(absl::Seconds(11));
  two.Failed(now_, kSameDecode, false);
  two.Failed(now_, kSameDecode, false);
  EXPECT_TRUE(two.Avoid(now_, kSameDecode));
}

}  // namespace
}  // namespace baton::router
