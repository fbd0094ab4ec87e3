// The router core against single stories that the random schedules do not tell apart.
#include <gmock/gmock.h>

#include "tests/unit/router/core/core_fixture.h"

namespace baton::router {
namespace {

using ::testing::HasSubstr;

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

TEST_F(CoreTest, AnOlderSessionThatSpeaksLastIsNotListenedTo) {
  Up(0, Role::kPrefill);
  const WorkerOrigin older = From(0);
  Up(0, Role::kPrefill);
  const WorkerOrigin current = From(0);
  ASSERT_LT(older.session.value(), current.session.value());
  Feed(WorkerUpEvent{.from = older, .info = core().cluster().worker(older.worker).info});
  EXPECT_TRUE(core().cluster().IsCurrent(current));
  Feed(WorkerDownEvent{current, "killed"});
  Feed(WorkerUpEvent{.from = older, .info = core().cluster().worker(older.worker).info});
  EXPECT_FALSE(core().cluster().worker(older.worker).alive);
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
  EXPECT_EQ(One<SendAbort>().worker, WorkerIndex(0))
      << "which may not have heard of the seal, and would hold its blocks for as long as a peer "
         "may "
         "be silent";
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

}  // namespace
}  // namespace baton::router
