// What the router core does for objectives: admission, placement in place, held first tokens.
#include <gmock/gmock.h>

#include "tests/unit/router/core/core_fixture.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

// Prefill 10 ms + 1 ms a token, decode 5 ms + 1 ms a row.
constexpr StepModel kModel{.prefill_base_ms = 10,
                           .prefill_token_ms = 1,
                           .decode_base_ms = 5,
                           .decode_row_ms = 1,
                           .profiled_prefill_tokens = 100,
                           .profiled_decode_rows = 10};

class SchedulingTest : public CoreTest {
 protected:
  void UpKnown(int32_t index, Role role) {
    model_ = kModel;
    Up(index, role);
  }
  void SubmitWith(uint64_t id, SloTarget slo, int32_t slo_class = 0, bool stated = true) {
    auto spec = std::make_shared<GenerationSpec>();
    spec->tokens.assign(50, 5);
    spec->prompt_length = 50;
    spec->stopping.max_tokens = 40;
    Feed(SubmitEvent{.request = RequestId(id),
                     .spec = spec,
                     .arrival = now_,
                     .timeout = absl::Seconds(60),
                     .slo = slo,
                     .slo_class = slo_class,
                     .slo_stated = stated});
  }
};

TEST_F(SchedulingTest, AnImpossibleObjectiveIsRefusedAtOnceNamingTheFloor) {
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  SubmitWith(1, {.ttft_ms = 15, .tpot_ms = 100});
  const FailRequest failed = One<FailRequest>();
  EXPECT_EQ(failed.error.code, RequestErrorCode::kOverloaded);
  EXPECT_EQ(failed.verdict, Verdict::kFloor);
  EXPECT_EQ(failed.outcome.result, SloResult::kRejected);
  EXPECT_THAT(failed.error.message, HasSubstr("needs 60 ms"));
  SubmitWith(2, {.ttft_ms = 40, .tpot_ms = 100}, 0, /*stated=*/false);
  EXPECT_TRUE(All<FailRequest>().empty()) << "an objective that nobody stated refuses nobody";
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(2));
}

TEST_F(SchedulingTest, AnIdleClusterTriesWhatItIsPredictedToMissByLittle) {
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  SubmitWith(1, {.ttft_ms = 40, .tpot_ms = 100});  // it is predicted to need 60 ms
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(1))
      << "or the prediction would stand for ever";
  SubmitWith(2, {.ttft_ms = 40, .tpot_ms = 100});
  EXPECT_EQ(One<FailRequest>().verdict, Verdict::kFloor) << "one at a time";
}

TEST_F(SchedulingTest, WhatWouldWaitTooLongIsRefusedUnlessAdmissionIsOff) {
  options_.conditional_disaggregation = false;
  for (const AdmissionMode mode : {AdmissionMode::kPredict, AdmissionMode::kOff}) {
    options_.admission.mode = mode;
    core_.reset();
    UpKnown(0, Role::kPrefill);
    UpKnown(1, Role::kDecode);
    int32_t refused = 0;
    for (uint64_t id = 1; id <= 10; ++id) SubmitWith(id, {.ttft_ms = 300, .tpot_ms = 100});
    for (const FailRequest& failed : All<FailRequest>()) {
      EXPECT_EQ(failed.verdict, Verdict::kTtft);
      EXPECT_EQ(failed.error.retry_after, absl::Seconds(1));
      ++refused;
    }
    // 60 ms each: 300 ms hold five, less a tenth for the slack.
    EXPECT_EQ(refused, mode == AdmissionMode::kOff ? 0 : 6);
  }
}

TEST_F(SchedulingTest, AClassThatIsKeptLongerTakesThePlaceOfOneThatIsShed) {
  options_.conditional_disaggregation = false;
  // With a small weight, so that its share alone does not bring it through in time.
  options_.slo_classes = {{.name = "chat", .weight = 0.2}, {.name = "batch", .shed_order = 1}};
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  for (uint64_t id = 1; id <= 4; ++id) SubmitWith(id, {.ttft_ms = 280, .tpot_ms = 100}, 1);
  EXPECT_TRUE(All<FailRequest>().empty());
  SubmitWith(5, {.ttft_ms = 1000, .tpot_ms = 100}, 0);
  EXPECT_TRUE(All<FailRequest>().empty()) << "it has the time";
  Feed(CancelEvent{RequestId(5)});
  All<FailRequest>();
  SubmitWith(6, {.ttft_ms = 290, .tpot_ms = 100}, 0);
  const std::vector<FailRequest> shed = All<FailRequest>();
  EXPECT_FALSE(shed.empty());
  for (const FailRequest& failed : shed) {
    EXPECT_EQ(failed.verdict, Verdict::kShed);
    EXPECT_GT(failed.error.retry_after, absl::ZeroDuration());
    EXPECT_LE(failed.request, RequestId(4));
  }
  SubmitWith(7, {.ttft_ms = 10'000, .tpot_ms = 100}, 1);
  EXPECT_EQ(One<FailRequest>().verdict, Verdict::kShed) << "its class stays out for a while";
  now_ += absl::Seconds(3);
  SubmitWith(8, {.ttft_ms = 10'000, .tpot_ms = 100}, 1);
  EXPECT_TRUE(All<FailRequest>().empty());
}

TEST_F(SchedulingTest, CommandsCarryWhatIsLeftOfTheObjective) {
  UpKnown(0, Role::kPrefill);
  SubmitWith(1, {.ttft_ms = 1000, .tpot_ms = 77});
  now_ += absl::Milliseconds(200);
  UpKnown(1, Role::kDecode);
  const SendReserve reserve = One<SendReserve>();
  EXPECT_DOUBLE_EQ(reserve.objective.ttft_left_ms, 800);
  EXPECT_DOUBLE_EQ(reserve.objective.tpot_ms, 77);
  now_ += absl::Milliseconds(3);
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  EXPECT_DOUBLE_EQ(One<SendPrefill>().objective.ttft_left_ms, 797);
}

TEST_F(SchedulingTest, ARequestWaitsForANeighboursStatedTpotOnly) {
  for (const bool stated : {true, false}) {
    options_.conditional_disaggregation = false;
    core_.reset();
    UpKnown(0, Role::kPrefill);
    UpKnown(1, Role::kDecode);
    SubmitWith(1, {.ttft_ms = 5000, .tpot_ms = 6.5}, 0, stated);  // 6 ms alone, 7 ms with another
    Decode(1);
    SubmitWith(2, {.ttft_ms = 5000, .tpot_ms = 100});
    if (stated) {
      EXPECT_TRUE(All<SendReserve>().empty());
      Feed(CancelEvent{RequestId(1)});
    }
    EXPECT_EQ(One<SendReserve>().key.request, RequestId(2));
  }
}

TEST_F(SchedulingTest, PredictionsAreToldWithTheOutcome) {
  options_.conditional_disaggregation = false;
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  now_ += absl::Milliseconds(5);
  SubmitWith(1, {.ttft_ms = 1000, .tpot_ms = 100});
  const RequestKey key = Decode(3);
  Finish(From(1), key, 3);
  const CompleteRequest done = One<CompleteRequest>();
  EXPECT_DOUBLE_EQ(done.prediction.ttft_ms.value_or(0), 60);
  EXPECT_DOUBLE_EQ(done.prediction.tpot_ms.value_or(0), 6);
}

TEST_F(SchedulingTest, AShortPromptGoesToTheDecodeWorkerAloneAndCountsAsItsCredit) {
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  SubmitWith(1, {.ttft_ms = 1000, .tpot_ms = 100});
  One<SendReserve>();
  SubmitWith(2, {.ttft_ms = 1000, .tpot_ms = 100});  // the prefill worker is busy
  const SendGenerate generate = One<SendGenerate>();
  EXPECT_EQ(core().cluster().worker(WorkerIndex(1)).placed_prefills, 1);
  EXPECT_EQ(generate.worker, WorkerIndex(1));
  EXPECT_EQ(generate.path, Path::kInPlace);
  Feed(TokensEvent{From(1), generate.key, {{0, 0, 100}}});
  Finish(From(1), generate.key, 1);
  One<CompleteRequest>();
  EXPECT_EQ(core().cluster().worker(WorkerIndex(1)).placed_prefills, 0);
  EXPECT_EQ(core().cluster().worker(WorkerIndex(1)).placed_rows, 1) << "of the other request";
}

TEST_F(SchedulingTest, LostKvEventsAreAskedForAgain) {
  Up(0, Role::kPrefill);
  Feed(KvCacheEvent{.from = From(0), .sequence = 1, .snapshot = true, .stored = {1, 2}});
  EXPECT_EQ(core().prefixes()[static_cast<size_t>(Role::kPrefill)].entries(), 2u);
  Feed(KvCacheEvent{.from = From(0), .sequence = 3, .stored = {3}});
  EXPECT_EQ(One<SendKvResync>().worker, WorkerIndex(0));
  EXPECT_EQ(core().prefixes()[static_cast<size_t>(Role::kPrefill)].entries(), 0u);
  Feed(KvCacheEvent{.from = From(0), .sequence = 4, .snapshot = true, .stored = {1}});
  EXPECT_EQ(core().prefixes()[static_cast<size_t>(Role::kPrefill)].entries(), 1u);
  Down(0);
  EXPECT_EQ(core().prefixes()[static_cast<size_t>(Role::kPrefill)].entries(), 0u);
}

TEST_F(SchedulingTest, APromptThatIsRefusedInPlaceStopsNoHandoffs) {
  UpKnown(0, Role::kPrefill);
  UpKnown(1, Role::kDecode);
  SubmitWith(1, {.ttft_ms = 1000, .tpot_ms = 100});
  One<SendReserve>();
  SubmitWith(2, {.ttft_ms = 1000, .tpot_ms = 100});
  const SendGenerate generate = One<SendGenerate>();
  Feed(CancelEvent{RequestId(1)});
  Feed(RefusedEvent{From(1), generate.key, RefusalReason::kNoRoom, "prompts"});
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(2));
}

// ------------------------------------------------------------------ holding first tokens

// Request 1 is on both workers, request 2 in place on the decode worker, in its way.
class HoldTest : public SchedulingTest {
 protected:
  void Start(double ttft_ms) {
    UpKnown(0, Role::kPrefill);
    UpKnown(1, Role::kDecode);
    SubmitWith(1, {.ttft_ms = ttft_ms, .tpot_ms = 20});
    key_ = One<SendReserve>().key;
    Feed(ReservedEvent{From(1), key_, "ticket", 0});
    SubmitWith(2, {.ttft_ms = 5000, .tpot_ms = 100});
    other_ = One<SendGenerate>().key;
    now_ += absl::Milliseconds(20);
  }
  void FirstToken() {
    Feed(TokensEvent{From(0), key_, {{0, 0, 100}}});
    Feed(PrefillDoneEvent{From(0), key_, 0, 1, 20});
  }
  void Seal() { Feed(SealedEvent{From(1), key_, 500, 4, 2, "shm", 0}); }
  size_t NumOut() { return All<EmitToken>().size(); }

  RequestKey key_, other_;
};

TEST_F(HoldTest, AFirstTokenWaitsForItsDecodeWorkersStep) {
  Start(1000);
  FirstToken();
  Seal();
  EXPECT_EQ(NumOut(), 0u);
  now_ += absl::Milliseconds(30);
  Feed(JoinedEvent{From(1), key_});
  EXPECT_EQ(One<EmitToken>().token.token, 100);
  now_ += absl::Milliseconds(6);
  Feed(TokensEvent{From(1), key_, {{0, 1, 101}}});
  Finish(From(1), key_, 2);
  const RequestTimings timings = One<CompleteRequest>().summary.timings;
  EXPECT_EQ(timings.ttft_ms, 50);
  EXPECT_EQ(timings.tpot_ms, 6);
}

TEST_F(HoldTest, NotWhereNothingIsInTheWay) {
  Start(1000);
  Feed(CancelEvent{other_.request});
  FirstToken();
  EXPECT_EQ(NumOut(), 1u);
}

TEST_F(HoldTest, NotLongerThanItsTtftAllows) {
  Start(100);
  FirstToken();
  Advance(absl::Milliseconds(69));
  EXPECT_EQ(NumOut(), 0u);
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(NumOut(), 1u) << "a tenth of the objective is left";
  Feed(JoinedEvent{From(1), key_});
  EXPECT_EQ(NumOut(), 0u) << "once";
}

TEST_F(HoldTest, TheNextTokenBringsItAlong) {
  Start(1000);
  FirstToken();
  Seal();
  Feed(TokensEvent{From(1), key_, {{0, 1, 101}}});
  const std::vector<EmitToken> tokens = All<EmitToken>();
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].token.index, 0);
  EXPECT_EQ(tokens[1].token.index, 1);
}

TEST_F(HoldTest, SoDoesTheEnd) {
  Start(1000);
  FirstToken();
  Seal();
  actions_.clear();
  Finish(From(1), key_, 1);  // the first token was the last
  ASSERT_EQ(actions_.size(), 3u);
  EXPECT_TRUE(std::holds_alternative<EmitToken>(actions_[0]));
  EXPECT_TRUE(std::holds_alternative<EmitSampleFinish>(actions_[1]));
  EXPECT_TRUE(std::holds_alternative<CompleteRequest>(actions_[2]));
}

TEST_F(HoldTest, ALostAttemptLetsItGo) {
  Start(1000);
  FirstToken();
  Feed(FailedEvent{From(1), key_, FailureReason::kChecksum, ""});
  EXPECT_EQ(NumOut(), 1u);
  EXPECT_FALSE(core().Find(key_.request)->joined);
}

}  // namespace
}  // namespace baton::router
