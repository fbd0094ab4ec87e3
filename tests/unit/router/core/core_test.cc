// The router core against single stories that the random schedules do not tell apart.
#include "router/core/router_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace baton::router {
namespace {

using ::testing::HasSubstr;

class CoreTest : public ::testing::Test {
 protected:
  CoreTest() { options_.cluster.num_workers = 4; }

  RouterCore& core() {
    if (!core_.has_value()) core_.emplace(options_);
    return *core_;
  }
  void Feed(Event event) { Take(core().Handle(now_, std::move(event))); }
  void Advance(absl::Duration by) {
    now_ += by;
    Take(core().Tick(now_));
  }
  void Take(std::vector<Action> actions) {
    for (Action& action : actions) actions_.push_back(std::move(action));
  }
  // The actions of one type since the last call; the others are kept.
  template <typename A>
  std::vector<A> All() {
    std::vector<A> found;
    std::erase_if(actions_, [&](const Action& action) {
      const A* it = std::get_if<A>(&action);
      if (it != nullptr) found.push_back(*it);
      return it != nullptr;
    });
    return found;
  }
  template <typename A>
  A One() {
    std::vector<A> found = All<A>();
    EXPECT_EQ(found.size(), 1u) << typeid(A).name();
    return found.empty() ? A{} : found[0];
  }

  WorkerOrigin From(int32_t index) {
    return {WorkerIndex(index), SessionId(sessions_[static_cast<size_t>(index)])};
  }
  void Up(int32_t index, Role role, int32_t credits = 4) {
    sessions_[static_cast<size_t>(index)] = ++next_session_;
    WorkerUpEvent event{.from = From(index)};
    event.info = {.id = "w" + std::to_string(index),
                  .boot = BootId(next_session_),
                  .role = role,
                  .protocol_version = 1,
                  .model_fingerprint = 7,
                  .max_model_len = 100,
                  .block_size = 16,
                  .total_blocks = 100,
                  .max_batch_sequences = 10,
                  .prefill_credits = credits,
                  .step_model = model_};
    Feed(event);
  }
  void Down(int32_t index) { Feed(WorkerDownEvent{From(index), "killed"}); }
  void Submit(uint64_t id, int32_t prompt = 10, absl::Duration timeout = absl::Seconds(60)) {
    auto spec = std::make_shared<GenerationSpec>();
    spec->tokens.assign(static_cast<size_t>(prompt), 5);
    spec->prompt_length = prompt;
    spec->stopping.max_tokens = 8;
    Feed(SubmitEvent{.request = RequestId(id),
                     .spec = spec,
                     .arrival = now_,
                     .timeout = timeout,
                     .slo = {.ttft_ms = 100, .tpot_ms = 10}});
  }
  // Brings the request from its Reserve to decoding, with `tokens` tokens out.
  RequestKey Decode(int32_t tokens) {
    const SendReserve reserve = One<SendReserve>();
    const RequestKey key = reserve.key;
    Feed(ReservedEvent{From(reserve.worker.value()), key, "ticket", 0});
    const SendPrefill prefill = One<SendPrefill>();
    const int32_t first =
        static_cast<int32_t>(prefill.spec->tokens.size()) - prefill.spec->prompt_length;
    Feed(TokensEvent{From(prefill.worker.value()), key, {{0, first, 100 + first}}});
    Feed(PrefillDoneEvent{From(prefill.worker.value()), key, 0, 1, 20});
    Feed(SealedEvent{From(reserve.worker.value()), key, 500, 4, 2, "shm", 0});
    for (int32_t i = first + 1; i < tokens; ++i) {
      Feed(TokensEvent{From(reserve.worker.value()), key, {{0, i, 100 + i}}});
    }
    return key;
  }
  void Finish(const WorkerOrigin& from, const RequestKey& key, int32_t tokens) {
    FinishedEvent event{.from = from, .key = key, .decode_queue_ms = 3, .decode_ms = 30};
    event.finish = {.reason = FinishReason::kLength, .output_tokens = tokens};
    Feed(event);
  }

  CoreOptions options_;
  StepModel model_;  // of workers that come up
  std::optional<RouterCore> core_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<uint64_t> sessions_ = std::vector<uint64_t>(4, 0);
  uint64_t next_session_ = 0;
  std::vector<Action> actions_;
};

TEST_F(CoreTest, AccountsEachStageAndJudgesTheObjectives) {
  Up(0, Role::kPrefill);
  Submit(1);
  now_ += absl::Milliseconds(30);  // queued: no decode worker yet
  Up(1, Role::kDecode);
  const SendReserve reserve = One<SendReserve>();
  now_ += absl::Milliseconds(2);
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  now_ += absl::Milliseconds(78);
  Feed(TokensEvent{From(0), reserve.key, {{0, 0, 1}}});
  Feed(PrefillDoneEvent{From(0), reserve.key, 4, 1, 75});
  Feed(SealedEvent{From(1), reserve.key, 500, 6, 2, "tcp", 0});
  now_ += absl::Milliseconds(5);
  Feed(TokensEvent{From(1), reserve.key, {{0, 1, 2}}});
  Finish(From(1), reserve.key, 2);
  const CompleteRequest done = One<CompleteRequest>();
  const RequestTimings& timings = done.summary.timings;
  EXPECT_EQ(timings.queue_ms, 31);
  EXPECT_EQ(timings.reserve_ms, 2);
  EXPECT_EQ(timings.prefill_ms, 75);
  EXPECT_EQ(timings.transfer_ms, 6);
  EXPECT_EQ(timings.transfer_exposed_ms, 2);
  EXPECT_EQ(timings.decode_queue_ms, 3);
  EXPECT_EQ(timings.decode_ms, 30);
  EXPECT_EQ(timings.ttft_ms, 110);
  EXPECT_EQ(timings.tpot_ms, 5);
  EXPECT_EQ(timings.total_ms, 115);
  EXPECT_EQ(timings.transport, "tcp");
  EXPECT_EQ(done.summary.cached_tokens, 4);
  EXPECT_EQ(done.outcome.result, SloResult::kTtftMiss);
  EXPECT_EQ(done.outcome.missed_stage, Stage::kPrefill);
}

TEST_F(CoreTest, DispatchesOnlyWithACreditAndInSlackOrder) {
  Up(0, Role::kPrefill, 1);
  Up(1, Role::kDecode);
  Submit(1);
  Submit(2);
  now_ += absl::Milliseconds(1);
  Submit(3);
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(1));
  EXPECT_EQ(core().num_waiting(), 2);
  Feed(CancelEvent{RequestId(1)});
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(2));
  EXPECT_EQ(One<SendAbort>().key.request, RequestId(1));
}

TEST_F(CoreTest, ARefusedRequestWaitsForAReportOfRoom) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const SendReserve first = One<SendReserve>();
  Feed(RefusedEvent{From(1), first.key, RefusalReason::kNoRoom, ""});
  Advance(absl::Milliseconds(10));
  EXPECT_TRUE(All<SendReserve>().empty());
  Feed(WorkerReportEvent{From(1), {.free_blocks = 101, .credits = 4}});
  const SendReserve second = One<SendReserve>();
  EXPECT_GT(second.key.attempt, first.key.attempt) << "each dispatch is fenced";
  EXPECT_EQ(core().Find(RequestId(1))->lost_attempts, 0) << "a refusal is no failure";
}

TEST_F(CoreTest, AStopStringInTheTokensOfALostAttemptEndsTheRequestWhereverItIs) {
  Up(0, Role::kPrefill);
  Submit(1);  // queued: no decode worker yet
  Feed(SampleStoppedEvent{RequestId(1), 0});
  EXPECT_EQ(One<CompleteRequest>().request, RequestId(1));
  EXPECT_EQ(core().num_waiting(), 0);

  Up(1, Role::kDecode);
  Submit(2);
  EXPECT_EQ(One<SendReserve>().key.request, RequestId(2));  // reserving
  Feed(SampleStoppedEvent{RequestId(2), 0});
  EXPECT_EQ(One<CompleteRequest>().request, RequestId(2));
  EXPECT_EQ(One<SendAbort>().worker, WorkerIndex(1));
}

TEST_F(CoreTest, ARequestThatFitsNoWorkerFailsAtOnce) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Up(2, Role::kDecode);
  Submit(1);
  SendReserve reserve = One<SendReserve>();
  Feed(RefusedEvent{From(reserve.worker.value()), reserve.key, RefusalReason::kNeverFits, "big"});
  EXPECT_TRUE(All<FailRequest>().empty());
  reserve = One<SendReserve>();
  Feed(RefusedEvent{From(reserve.worker.value()), reserve.key, RefusalReason::kNeverFits, "big"});
  EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kNeverFits);
}

TEST_F(CoreTest, RefusesWhatTheContextOrTheQueueCannotHold) {
  options_.queue.max_requests = 1;
  Up(0, Role::kPrefill);
  Submit(1, 100);
  FailRequest failed = One<FailRequest>();
  EXPECT_EQ(failed.error.code, RequestErrorCode::kContextLength);
  EXPECT_THAT(failed.error.message, HasSubstr("maximum context length is 100 tokens"));
  Submit(2);
  Submit(3);
  failed = One<FailRequest>();
  EXPECT_EQ(failed.error.code, RequestErrorCode::kOverloaded);
  EXPECT_EQ(failed.outcome.result, SloResult::kRejected);
  EXPECT_GE(failed.error.retry_after, absl::Seconds(1));
  Feed(DrainEvent{});
  Submit(4);
  EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kDraining);
}

TEST_F(CoreTest, RetryAfterFollowsThePaceOfDispatch) {
  options_.queue.max_requests = 10;
  Up(0, Role::kPrefill, 1);
  Up(1, Role::kDecode);
  for (uint64_t id = 1; id <= 11; ++id) Submit(id);
  for (uint64_t id = 1; id <= 4; ++id) {  // one every 4 s
    now_ += absl::Seconds(4);
    Feed(WorkerReportEvent{From(0), {.free_blocks = 100, .credits = 4}});
    Feed(WorkerReportEvent{From(1), {.free_blocks = 100}});
    Feed(CancelEvent{RequestId(id)});
  }
  for (uint64_t id = 12; id <= 16; ++id) Submit(id);
  const std::vector<FailRequest> failed = All<FailRequest>();
  const FailRequest& refused = failed.back();
  ASSERT_EQ(refused.error.code, RequestErrorCode::kOverloaded);
  EXPECT_EQ(refused.error.retry_after, absl::Seconds(20)) << "half of 10 at 4 s each";
}

TEST_F(CoreTest, TheDeadlineNamesThePhaseAndAbortsBothWorkers) {
  Up(0, Role::kPrefill);
  Submit(1, 10, absl::Milliseconds(500));
  Advance(absl::Milliseconds(500));
  EXPECT_THAT(One<FailRequest>().error.message, HasSubstr("queued"));
  Up(1, Role::kDecode);
  Submit(2, 10, absl::Milliseconds(500));
  const SendReserve reserve = One<SendReserve>();
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  EXPECT_EQ(core().NextTick(), now_ + absl::Milliseconds(500));
  Advance(absl::Milliseconds(500));
  const FailRequest failed = One<FailRequest>();
  EXPECT_EQ(failed.error.code, RequestErrorCode::kDeadline);
  EXPECT_THAT(failed.error.message, HasSubstr("in prefill"));
  EXPECT_EQ(All<SendAbort>().size(), 2u);
}

TEST_F(CoreTest, ADecodeWorkerThatDoesNotAnswerReserveIsLeftForAnother) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Up(2, Role::kDecode);
  Submit(1);
  const SendReserve first = One<SendReserve>();
  Advance(absl::Seconds(2));
  EXPECT_EQ(One<SendAbort>().worker, first.worker);
  EXPECT_NE(One<SendReserve>().worker, first.worker);
}

TEST_F(CoreTest, ALostPrefillWorkerCostsTheClientNothing) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const SendReserve reserve = One<SendReserve>();
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  One<SendPrefill>();
  Feed(TokensEvent{From(0), reserve.key, {{0, 0, 100}}});
  Up(2, Role::kPrefill);
  Down(0);
  EXPECT_EQ(One<SendAbort>().worker, WorkerIndex(1)) << "the reservation is given back";
  const RequestKey key = Decode(3);
  EXPECT_EQ(key.attempt, reserve.key.attempt + 1);
  Finish(From(1), key, 3);
  EXPECT_EQ(One<CompleteRequest>().summary.timings.attempts, 2);
  EXPECT_EQ(All<EmitToken>().size(), 3u) << "the first token came twice and went out once";
}

TEST_F(CoreTest, APrefillWorkerIsNotMissedAfterTheSeal) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const RequestKey key = Decode(2);
  Down(0);
  EXPECT_TRUE(All<FailRequest>().empty());
  Finish(From(1), key, 2);
  EXPECT_EQ(One<CompleteRequest>().summary.timings.attempts, 1);
}

TEST_F(CoreTest, ALostDecodeWorkerIsReplacedMidStream) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  Decode(4);
  Up(2, Role::kDecode);
  Down(1);
  const std::vector<SendReserve> again = All<SendReserve>();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].worker, WorkerIndex(2));
  ASSERT_EQ(again[0].spec->tokens.size(), 13u) << "prompt and all emitted tokens but the last";
  EXPECT_EQ(again[0].spec->tokens[12], 102);
  actions_.push_back(again[0]);
  const RequestKey key = Decode(6);
  Finish(From(2), key, 6);
  One<CompleteRequest>();
  std::vector<int32_t> indexes;
  for (const EmitToken& token : All<EmitToken>()) indexes.push_back(token.token.index);
  EXPECT_THAT(indexes, ::testing::ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST_F(CoreTest, WithoutAnotherDecodeWorkerDispatchedRequestsFailAndQueuedOnesWaitABit) {
  Up(0, Role::kPrefill, 1);
  Up(1, Role::kDecode);
  Submit(1);
  Decode(3);
  Submit(2);  // takes the only credit, is reserving
  Submit(3);  // queued
  Down(1);
  const FailRequest failed = One<FailRequest>();
  EXPECT_EQ(failed.request, RequestId(1));
  EXPECT_EQ(failed.error.code, RequestErrorCode::kDecodeLost);
  EXPECT_EQ(core().num_waiting(), 2);
  Feed(WorkerReportEvent{From(0), {.free_blocks = 100, .credits = 1}});
  Advance(absl::Seconds(2));
  Feed(WorkerReportEvent{From(0), {.free_blocks = 100, .credits = 1}});
  Advance(absl::Milliseconds(1900));
  EXPECT_TRUE(All<FailRequest>().empty());
  Advance(absl::Milliseconds(200));
  const std::vector<FailRequest> waited = All<FailRequest>();
  ASSERT_EQ(waited.size(), 2u);
  for (const FailRequest& each : waited) {
    EXPECT_EQ(each.error.code, RequestErrorCode::kNoWorkers);
    EXPECT_GT(each.error.retry_after, absl::ZeroDuration());
  }
  EXPECT_EQ(core().num_running() + core().num_waiting(), 0);
}

TEST_F(CoreTest, ARequestThatWasOnTwoDyingWorkersIsQuarantined) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Up(2, Role::kPrefill);
  Up(3, Role::kPrefill);
  Submit(1);
  for (int death = 0; death < 2; ++death) {
    const SendReserve reserve = One<SendReserve>();
    Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
    Down(One<SendPrefill>().worker.value());
  }
  EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kQuarantined);
}

TEST_F(CoreTest, ASecondLossWithoutADeathIsAnErrorNamingTheSide) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  for (int attempt = 0; attempt < 2; ++attempt) {
    const SendReserve reserve = One<SendReserve>();
    Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
    Feed(FailedEvent{From(1), reserve.key, FailureReason::kChecksum, ""});
  }
  const FailRequest failed = One<FailRequest>();
  EXPECT_EQ(failed.error.code, RequestErrorCode::kPrefillLost);
  EXPECT_THAT(failed.error.message, HasSubstr("checksum"));
}

TEST_F(CoreTest, TheRetryBudgetBoundsRetries) {
  options_.retry_capacity = 0.5;
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const SendReserve reserve = One<SendReserve>();
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  Feed(FailedEvent{From(1), reserve.key, FailureReason::kChecksum, ""});
  EXPECT_THAT(One<FailRequest>().error.message, HasSubstr("retry budget"));
}

TEST_F(CoreTest, ASilentWorkerIsDeadAfterThreeHeartbeats) {
  Up(0, Role::kBoth);
  Submit(1);
  One<SendGenerate>();
  Advance(absl::Milliseconds(2999));
  EXPECT_TRUE(All<CloseSession>().empty());
  Advance(absl::Milliseconds(1));
  EXPECT_EQ(One<CloseSession>().worker, WorkerIndex(0));
  EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kDecodeLost);
}

TEST_F(CoreTest, ATokenThatIsMissingForGoodIsAnErrorNeverASkip) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const RequestKey key = Decode(2);
  Feed(TokensEvent{From(1), key, {{0, 3, 103}}});
  EXPECT_EQ(One<FailRequest>().error.code, RequestErrorCode::kInternal);
  EXPECT_EQ(All<EmitToken>().size(), 2u);
}

TEST_F(CoreTest, TheDecodeStreamMayOvertakeThePrefillStream) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  Submit(1);
  const SendReserve reserve = One<SendReserve>();
  Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
  Feed(SealedEvent{From(1), reserve.key, 500, 4, 2, "shm", 0});
  Feed(TokensEvent{From(1), reserve.key, {{0, 1, 101}}});
  Finish(From(1), reserve.key, 2);
  EXPECT_TRUE(All<EmitToken>().empty());
  Feed(TokensEvent{From(0), reserve.key, {{0, 0, 100}}});
  EXPECT_EQ(All<EmitToken>().size(), 2u);
  One<EmitSampleFinish>();
  EXPECT_TRUE(All<CompleteRequest>().empty()) << "the times of prefill are a moment away";
  Feed(PrefillDoneEvent{From(0), reserve.key, 0, 1, 20});
  EXPECT_EQ(One<CompleteRequest>().summary.timings.prefill_ms, 20);
}

TEST_F(CoreTest, AnAnswerThatIsWholeCompletesEvenIfThePrefillWorkerNeverReports) {
  Up(0, Role::kPrefill);
  Up(1, Role::kDecode);
  for (uint64_t id = 1; id <= 2; ++id) {
    Submit(id, 10, absl::Seconds(1));
    const SendReserve reserve = One<SendReserve>();
    Feed(ReservedEvent{From(1), reserve.key, "ticket", 0});
    Feed(TokensEvent{From(0), reserve.key, {{0, 0, 100}}});
    Feed(SealedEvent{From(1), reserve.key, 500, 4, 2, "shm", 0});
    Finish(From(1), reserve.key, 1);
    EXPECT_TRUE(All<CompleteRequest>().empty());
    if (id == 1) {
      Advance(absl::Seconds(1));
    } else {
      Down(0);
    }
    One<CompleteRequest>();
    EXPECT_TRUE(All<FailRequest>().empty());
  }
}

// ------------------------------------------------------------------ scheduling

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

}  // namespace
}  // namespace baton::router
