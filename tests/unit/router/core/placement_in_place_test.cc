// Which prompts are prefilled on their decode worker, and which are not.
#include <gtest/gtest.h>

#include <cstdint>

#include "router/core/placement.h"
#include "tests/unit/router/core/placement_fixture.h"

namespace baton::router {
namespace {

TEST_F(PlacementTest, AShortPromptIsPrefilledInPlaceWhereNobodyMisses) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  query_.tokens = 20;  // 4 ms
  EXPECT_EQ(Choose().path, Path::kHandoff) << "a handoff costs nothing yet";
  Decoding(1, 20, 100);
  links_.ObserveReserve(3);
  links_.Observe({WorkerIndex(0), WorkerIndex(1), false}, 20, 5, 3);
  const Placement placement = Choose();
  EXPECT_EQ(placement.path, Path::kInPlace);
  EXPECT_EQ(placement.decode, WorkerIndex(1));
  in_place_ = false;
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, ALongOneIsPrefilledInPlaceInWhatTheBatchLeaves) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  query_.tokens = 480;  // 50 ms alone
  const int32_t slot = Decoding(1, 10, 1000);
  const Placement placement = Choose();
  EXPECT_EQ(placement.path, Path::kHandoff) << "a step of 5 ms leaves 4.5 ms: that takes 105 ms";
  EXPECT_DOUBLE_EQ(placement.ttft_ms, 40 + 50);
  cluster_.RemoveRow(WorkerIndex(1), slot);
  Decoding(1, 20, 1000);
  EXPECT_EQ(Choose().path, Path::kInPlace) << "14 ms of each 19";
  EXPECT_NEAR(Choose().ttft_ms, 50 * 19.0 / 14, 1e-6);
}

TEST_F(PlacementTest, NotWhereTheBatchLeavesNothing) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  Decoding(1, 5.2, 1000);
  EXPECT_EQ(Choose().path, Path::kHandoff);
  Holds(1, 7);
  EXPECT_EQ(Choose().path, Path::kHandoff) << "nor a short one";
}

TEST_F(PlacementTest, NotWhereTheBatchMissesAlreadyWhatItCouldMeetAlone) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  query_.objective.tpot_ms = 1000;
  for (int i = 0; i < 4; ++i) Decoding(1, 7, 1000);  // 8 ms a step: its scheduler gives prompts 0
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NotWhereOthersRowsMayBeInTheWay) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  Report(1, {.free_blocks = 100, .credits = 2, .decode_rows = 2, .decode_context = 100});
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NotWithoutACreditThere) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  EXPECT_EQ(Choose().path, Path::kInPlace);
  Report(1, {.free_blocks = 100, .credits = 0});
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NotWithoutTimeInHand) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  query_.objective.ttft_left_ms = 20;  // 14.8 ms alone, and rows will come
  EXPECT_EQ(Choose().path, Path::kInPlace);
  query_.objective.ttft_left_ms = 18;
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NotWhereItsWorkerDoesNotPacePrompts) {
  paced_ = false;
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NotBehindAFullStepOfOthersInPlace) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 100);
  cluster_.TakeCredit(kNow, WorkerIndex(1), 60);
  const PlacementAnswer answer = Ask();
  EXPECT_FALSE(answer.placement.has_value());
  EXPECT_NEAR(absl::ToDoubleMilliseconds(answer.try_again - kNow), 60 - 53.2, 1e-3);
}

TEST_F(PlacementTest, NotWhenOneThatIsAboutToBeginCannotWait) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 40);
  query_.tokens = 20;  // 4 ms
  const auto path_beside = [&](double begins_ms, int32_t emitted, double due_ms) {
    const int32_t slot = cluster_.AddRow(WorkerIndex(1), {.samples = 1,
                                                          .context = 64,
                                                          .emitted = emitted,
                                                          .expected = 2,
                                                          .most = 2,
                                                          .tpot_ms = 8,
                                                          .starts_ms = MsOf(kNow) + begins_ms,
                                                          .due_ms = MsOf(kNow) + due_ms});
    const Path path = Choose().path;
    cluster_.RemoveRow(WorkerIndex(1), slot);
    return path;
  };
  EXPECT_EQ(path_beside(400, 1, 0), Path::kInPlace) << "it begins long after";
  EXPECT_EQ(path_beside(5, 1, 0), Path::kHandoff)
      << "its first token is out, and 5 ms predicted can be 3.8 ms";
  EXPECT_EQ(path_beside(5, 0, 10), Path::kInPlace) << "its first token can be held back";
  EXPECT_EQ(path_beside(5, 0, 8), Path::kHandoff) << "not for that long";
}

TEST_F(PlacementTest, AHandoffGoesWhereNoPromptIsInTheWay) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  AddKnown(2, Role::kDecode);
  in_place_ = false;
  Decoding(2, 100, 1000);
  EXPECT_EQ(Choose().decode, WorkerIndex(1));
  cluster_.TakeCredit(kNow, WorkerIndex(1), 200);
  const Placement placement = Choose();
  EXPECT_EQ(placement.decode, WorkerIndex(2));
  EXPECT_DOUBLE_EQ(placement.ttft_ms, 14.8);
}

TEST_F(PlacementTest, NotWhenTheHandoffIsSooner) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  Report(1, {.free_blocks = 100, .credits = 2, .prefill_factors = SizeFactors(3)});
  query_.tokens = 20;
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

TEST_F(PlacementTest, NeverOnAWorkerWithoutAStepModel) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  query_.tokens = 4;
  EXPECT_EQ(Choose().path, Path::kHandoff);
}

}  // namespace
}  // namespace baton::router
