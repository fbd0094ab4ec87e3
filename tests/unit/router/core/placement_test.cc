// Where requests go, and what is foreseen for them.
#include "router/core/placement.h"
#include "router/core/predictor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::router {
namespace {

constexpr absl::Time kNow = absl::UnixEpoch();

// Prefill 2 ms + 0.1 ms a token; decode 4 ms + 1 ms a row.
constexpr StepModel kModel{.prefill_base_ms = 2,
                           .prefill_token_ms = 0.1,
                           .decode_base_ms = 4,
                           .decode_row_ms = 1,
                           .profiled_prefill_tokens = 4096,
                           .profiled_decode_rows = 64};

class PlacementTest : public ::testing::Test {
 protected:
  PlacementTest() : cluster_({.num_workers = 6}) {}

  void Add(int32_t index, Role role, const StepModel& model = {}) {
    WorkerUpEvent event{.from = From(index)};
    event.info = {.id = "w" + std::to_string(index),
                  .boot = BootId(static_cast<uint64_t>(index) + 1),
                  .role = role,
                  .protocol_version = 1,
                  .model_fingerprint = 7,
                  .block_size = 16,
                  .total_blocks = 100,
                  .max_batch_sequences = 10,
                  .max_batch_tokens = 512,
                  .prefill_credits = 2,
                  .step_model = model,
                  .paced_prefill = paced_};
    ASSERT_TRUE(cluster_.Up(kNow, event).ok());
  }
  void AddKnown(int32_t index, Role role) { Add(index, role, kModel); }
  static WorkerOrigin From(int32_t index) {
    return {WorkerIndex(index), SessionId(static_cast<uint64_t>(index) + 1)};
  }
  void Report(int32_t index, const WorkerReport& report) {
    ASSERT_TRUE(cluster_.Report(kNow, {From(index), report}));
  }
  void Holds(int32_t index, size_t blocks) {
    const Role role = cluster_.worker(WorkerIndex(index)).info.role;
    ASSERT_TRUE(prefixes_[static_cast<size_t>(role)].Apply(
        {.from = From(index),
         .snapshot = true,
         .stored = {prefix_.begin(), prefix_.begin() + static_cast<std::ptrdiff_t>(blocks)}}));
  }
  // A request that decodes there, with `left` tokens to go.
  int32_t Decoding(int32_t index, double tpot_ms, int32_t left, int32_t samples = 1) {
    const int32_t slot = cluster_.AddRow(
        WorkerIndex(index),
        {.samples = samples, .context = 64, .expected = left, .most = left, .tpot_ms = tpot_ms});
    cluster_.StartRow(kNow, WorkerIndex(index), slot);
    return slot;
  }
  PlacementAnswer Ask() {
    return ChoosePlacement({cluster_, prefixes_, links_, pairs_, in_place_}, query_);
  }
  Placement Choose() {
    const PlacementAnswer answer = Ask();
    EXPECT_TRUE(answer.placement.has_value());
    return answer.placement.value_or(Placement{});
  }
  Forecast Foresee(const QueuedWork& ahead = {}) {
    return MakeForecast({cluster_, prefixes_, links_, pairs_, in_place_, in_place_share_}, query_,
                        ahead);
  }

  ClusterView cluster_;
  std::array<PrefixIndex, 3> prefixes_{PrefixIndex(1000), PrefixIndex(1000), PrefixIndex(1000)};
  LinkCosts links_;
  PairEjection pairs_{{}};
  bool in_place_ = true;
  bool paced_ = true;  // workers that come up
  double in_place_share_ = 0;
  PrefixHashes prefix_ = {1, 2, 3, 4, 5, 6, 7, 8};
  PlacementQuery query_{.now = kNow,
                        .tokens = 128,
                        .expected_output = 16,
                        .objective = {.ttft_left_ms = 1000, .tpot_ms = 100},
                        .prefix = &prefix_};
};

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

// ------------------------------------------------------------------ in place

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

// ------------------------------------------------------------------ forecast

TEST_F(PlacementTest, ForecastsWhatIsQueuedAheadAndTheFloor) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kPrefill);
  AddKnown(2, Role::kDecode);
  in_place_ = false;
  cluster_.TakeCredit(kNow, WorkerIndex(0), 500);
  cluster_.TakeCredit(kNow, WorkerIndex(1), 40);
  const Forecast forecast = Foresee({.prefill_us = 60'000, .rows = 3, .context = 300});
  ASSERT_TRUE(forecast.known);
  EXPECT_DOUBLE_EQ(forecast.floor_ttft_ms, 14.8);
  EXPECT_DOUBLE_EQ(forecast.floor_tpot_ms, 5);
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, 40 + 30 + 14.8) << "two workers share the 60 ms";
}

TEST_F(PlacementTest, ForecastsAlsoWhileDecodeWorkersHaveNoRoom) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  const double ttft_ms = Foresee({.prefill_us = 60'000}).ttft_ms;
  cluster_.RefusedForRoom(kNow, WorkerIndex(1));
  const Forecast forecast = Foresee({.prefill_us = 60'000});
  ASSERT_TRUE(forecast.known) << "or admission lets everybody in";
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, ttft_ms);
}

TEST(WaitError, CoversNearlyAllOfWhatTheQueueTakesLonger) {
  WaitError error;
  error.Observe(1, 100);
  EXPECT_EQ(error.factor(), 1) << "nothing was forecast to wait";
  // Evenly between 0.8 and 1.4 times the forecast.
  double missed = 0;
  for (int i = 0; i < 4000; ++i) {
    const double actual_ms = 800 + 600 * ((i * 37) % 100) / 99.0;
    if (i >= 2000) missed += actual_ms > 1000 * error.factor();
    error.Observe(1000, actual_ms);
  }
  EXPECT_NEAR(missed / 2000, 0.02, 0.015);
  EXPECT_NEAR(error.factor(), 1.38, 0.05);
}

TEST(WaitError, MovesLittleForOneOutlierAndForgets) {
  WaitError error;
  error.Observe(100, 1e9);
  EXPECT_LT(error.factor(), 1.05) << "one outlier";
  for (int i = 0; i < 200; ++i) error.Observe(1000, 2000);
  EXPECT_NEAR(error.factor(), 2, 0.06);
  for (int i = 0; i < 2000; ++i) error.Observe(1000, 900);
  EXPECT_EQ(error.factor(), 1);
}

TEST_F(PlacementTest, ForecastsThatDecodeWorkersTakeTheirShareOfWhatIsQueued) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  cluster_.TakeCredit(kNow, WorkerIndex(0), 500);
  cluster_.TakeCredit(kNow, WorkerIndex(1), 20);
  EXPECT_DOUBLE_EQ(Foresee().ttft_ms, 20 + 14.8);
  const double handoff_ms = 500 + 14.8 + 20;  // it joins when the prompt in place is done
  EXPECT_DOUBLE_EQ(Foresee({.prefill_us = 60'000}).ttft_ms, handoff_ms + 60);
  in_place_share_ = 0.5;
  const Forecast forecast = Foresee({.prefill_us = 60'000});
  EXPECT_DOUBLE_EQ(forecast.ttft_ms, (20 + 14.8 + handoff_ms) / 2 + 30);
  EXPECT_DOUBLE_EQ(forecast.ms_per_ms, 0.5);
  EXPECT_DOUBLE_EQ(forecast.start_ms, forecast.ttft_ms - 30 - 14.8);
}

TEST_F(PlacementTest, ForecastsTheStepWithWhatIsStillOnItsWay) {
  AddKnown(0, Role::kPrefill);
  AddKnown(1, Role::kDecode);
  in_place_ = false;
  query_.expected_output = 1000;
  EXPECT_DOUBLE_EQ(Foresee().tpot_ms, 5);
  EXPECT_DOUBLE_EQ(Foresee({.prefill_us = 1000, .rows = 6}).tpot_ms, 11)
      << "queued now, decoding by then";
  for (int i = 0; i < 5; ++i) {
    cluster_.AddRow(WorkerIndex(1),
                    {.samples = 1, .expected = 1000, .most = 1000, .starts_ms = MsOf(kNow)});
  }
  EXPECT_DOUBLE_EQ(Foresee().tpot_ms, 10) << "in prefill now, decoding by then";
  query_.objective.tpot_ms = 5;
  EXPECT_GT(Foresee().tpot_relief_ms, 1000) << "half of the rows must end first";
}

}  // namespace
}  // namespace baton::router
