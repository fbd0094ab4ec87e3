// Where requests go.
#include "router/core/placement.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/router/core/placement_fixture.h"

namespace baton::router {
namespace {

// ------------------------------------------------------------------ without step models

TEST_F(PlacementTest, TakesThePrefillWorkerWithLeastWorkAndTheDecodeWorkerWithMostRoom) {
  Add(0, Role::kPrefill);
  Add(1, Role::kPrefill);
  Add(2, Role::kDecode);
  Add(3, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 10);
  Report(2, {.running = 2, .free_blocks = 30});
  Report(3, {.running = 2, .free_blocks = 60});
  const Placement placement = Choose();
  EXPECT_EQ(placement.prefill, WorkerIndex(1));
  EXPECT_EQ(placement.decode, WorkerIndex(3));
  EXPECT_EQ(placement.path, Path::kHandoff);
  EXPECT_FALSE(placement.known);
  EXPECT_FALSE(Foresee().known) << "so that admission lets everything through";
}

TEST_F(PlacementTest, PrefersThePrefillWorkerThatHoldsThePrefixUntilItIsBusier) {
  Add(0, Role::kPrefill);
  Add(1, Role::kPrefill);
  Add(2, Role::kDecode);
  Holds(1, 8);
  EXPECT_EQ(Choose().prefill, WorkerIndex(1));
  cluster_.TakeCredit(kNow, WorkerIndex(1), 100);
  EXPECT_EQ(Choose().prefill, WorkerIndex(0));
}

TEST_F(PlacementTest, PrefersTheDecodeWorkerThatHoldsThePrefixWhenLinksCostSomething) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  Add(2, Role::kDecode);
  Holds(2, 8);
  links_.Observe({WorkerIndex(0), WorkerIndex(1), false}, 128, 30, 20);
  EXPECT_EQ(Choose().decode, WorkerIndex(2)) << "nothing has to cross the wire";
}

TEST_F(PlacementTest, PrefersTheCheaperLink) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  Add(2, Role::kDecode);
  links_.Observe({WorkerIndex(0), WorkerIndex(1), false}, 128, 30, 20);
  links_.Observe({WorkerIndex(0), WorkerIndex(2), false}, 128, 3, 2);
  EXPECT_EQ(Choose().decode, WorkerIndex(2));
}

TEST_F(PlacementTest, WaitsForACreditAndForRoom) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  cluster_.RefusedForRoom(kNow, WorkerIndex(1));
  EXPECT_FALSE(Ask().placement.has_value());
  Report(1, {.free_blocks = 101});
  EXPECT_TRUE(Ask().placement.has_value());
  cluster_.TakeCredit(kNow, WorkerIndex(0), 10);
  EXPECT_TRUE(Ask().placement.has_value());
  cluster_.TakeCredit(kNow, WorkerIndex(0), 10);
  EXPECT_FALSE(Ask().placement.has_value());
  cluster_.ReturnCredit(kNow, WorkerIndex(0), 10);
  EXPECT_TRUE(Ask().placement.has_value());
}

TEST_F(PlacementTest, AvoidedWorkersComeLastAndNeverIsNever) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  Add(2, Role::kDecode);
  Report(1, {.free_blocks = 1});
  const std::vector<WorkerIndex> list = {WorkerIndex(2)};
  query_.avoid = list;
  EXPECT_EQ(Choose().decode, WorkerIndex(1));
  Report(1, {.free_blocks = 1, .draining = true});
  EXPECT_EQ(Choose().decode, WorkerIndex(2));
  query_.never = list;
  EXPECT_FALSE(Ask().placement.has_value());
  EXPECT_FALSE(CouldEverFit(cluster_, list));
}

TEST_F(PlacementTest, UsesWorkersOfRoleBothOnlyWithoutAPair) {
  Add(0, Role::kBoth);
  EXPECT_EQ(Choose().path, Path::kColocated);
  Add(1, Role::kPrefill);
  EXPECT_EQ(Choose().path, Path::kColocated);
  Add(2, Role::kDecode);
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

// ------------------------------------------------------------------ with step models

TEST_F(PlacementTest, ForeseesStartPrefillAndStep) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  in_place_ = false;
  cluster_.TakeCredit(kNow, WorkerIndex(0), 30);
  Decoding(1, 100, 50);
  const Placement placement = Choose();
  EXPECT_TRUE(placement.known);
  EXPECT_DOUBLE_EQ(placement.prefill_ms, 2 + 12.8);
  EXPECT_DOUBLE_EQ(placement.ttft_ms, 30 + 2 + 12.8);
  EXPECT_DOUBLE_EQ(placement.step_ms, 4 + 2);
  Report(0, {.credits = 2, .prefill_factors = SizeFactors(2)});
  EXPECT_DOUBLE_EQ(Choose().prefill_ms, 2 * (2 + 12.8)) << "corrected by what it measures";
  Holds(0, 4);
  EXPECT_DOUBLE_EQ(Choose().prefill_ms, 2 * (2 + 6.4)) << "less what is cached";
}

TEST_F(PlacementTest, CountsTheBatchAsItWillBeWhenDecodingStarts) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  in_place_ = false;
  for (int i = 0; i < 4; ++i) Decoding(1, 100, 2);  // 8 ms a step: gone in 16 ms
  EXPECT_DOUBLE_EQ(Choose().step_ms, 4 + 5) << "prefill takes 14.8 ms";
  query_.tokens = 512;
  EXPECT_DOUBLE_EQ(Choose().step_ms, 4 + 1) << "prefill takes 53.2 ms";
  // On its way to the same worker, and there before us.
  cluster_.AddRow(WorkerIndex(1), {.samples = 2,
                                   .context = 64,
                                   .expected = 1000,
                                   .most = 1000,
                                   .tpot_ms = 100,
                                   .starts_ms = MsOf(kNow) + 40});
  EXPECT_DOUBLE_EQ(Choose().step_ms, 4 + 3);
}

TEST_F(PlacementTest, SpreadsSoThatNeighboursKeepTheirObjectives) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  AddKnown(2, Role::kDecode);
  in_place_ = false;
  Decoding(1, 5.5, 1000);  // one more row would be 6 ms
  for (int i = 0; i < 3; ++i) Decoding(2, 100, 1000);
  EXPECT_EQ(Choose().decode, WorkerIndex(2)) << "though it is fuller";
  Report(2, {.free_blocks = 100, .draining = true});
  EXPECT_EQ(Choose().decode, WorkerIndex(1));
  query_.hold_until = kNow + absl::Milliseconds(70);
  const PlacementAnswer answer = Ask();
  EXPECT_FALSE(answer.placement.has_value()) << "rather wait while there is slack";
  EXPECT_EQ(answer.try_again, query_.hold_until);
}

TEST_F(PlacementTest, ABusyPrefillWorkerGetsNoMoreThanOneStepAhead) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  in_place_ = false;
  cluster_.TakeCredit(kNow, WorkerIndex(0), 60);  // a full step is 53.2 ms
  const PlacementAnswer answer = Ask();
  EXPECT_FALSE(answer.placement.has_value());
  EXPECT_NEAR(absl::ToDoubleMilliseconds(answer.try_again - kNow), 60 - 53.2, 1e-3);
  query_.now = answer.try_again;
  EXPECT_TRUE(Ask().placement.has_value());
}

}  // namespace
}  // namespace baton::router
