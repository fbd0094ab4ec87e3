// The small parts of the router core, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/core/cluster_view.h"
#include "router/core/retry_budget.h"
#include "router/core/slo.h"
#include "router/core/token_sequencer.h"

namespace baton::router {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ------------------------------------------------------------------ sequencer

std::vector<int32_t> Indexes(const std::vector<TokenOutput>& tokens) {
  std::vector<int32_t> indexes;
  for (const TokenOutput& token : tokens) indexes.push_back(token.index);
  return indexes;
}

TEST(TokenSequencer, HoldsEarlyTokensAndTheEndUntilTheGapIsFilled) {
  TokenSequencer sequencer(0, 1);
  std::vector<TokenOutput> ready;
  ASSERT_TRUE(sequencer.Push({0, 2, 12}, &ready).ok());
  ASSERT_TRUE(sequencer.Push({0, 1, 11}, &ready).ok());
  ASSERT_TRUE(sequencer.Finish({.sample = 0, .output_tokens = 3}).ok());
  EXPECT_THAT(ready, IsEmpty());
  EXPECT_TRUE(sequencer.HasGap());
  EXPECT_THAT(sequencer.TakeFinishes(), IsEmpty());
  ASSERT_TRUE(sequencer.Push({0, 0, 10}, &ready).ok());
  EXPECT_THAT(Indexes(ready), ElementsAre(0, 1, 2));
  EXPECT_EQ(sequencer.TakeFinishes().size(), 1u);
  EXPECT_THAT(sequencer.TakeFinishes(), IsEmpty());
  EXPECT_TRUE(sequencer.AllEnded());
  EXPECT_FALSE(sequencer.HasGap());
}

TEST(TokenSequencer, DropsRepeatsAndRefusesARepeatThatDiffers) {
  TokenSequencer sequencer(0, 1);
  std::vector<TokenOutput> ready;
  ASSERT_TRUE(sequencer.Push({0, 0, 10}, &ready).ok());
  ASSERT_TRUE(sequencer.Push({0, 0, 10}, &ready).ok());
  EXPECT_EQ(ready.size(), 1u);
  EXPECT_FALSE(sequencer.Push({0, 0, 99}, &ready).ok());
}

TEST(TokenSequencer, RefusesSamplesThatWereNotAskedFor) {
  TokenSequencer sequencer(2, 2);
  std::vector<TokenOutput> ready;
  EXPECT_TRUE(sequencer.Push({2, 0, 1}, &ready).ok());
  EXPECT_TRUE(sequencer.Push({3, 0, 1}, &ready).ok());
  EXPECT_FALSE(sequencer.Push({1, 0, 1}, &ready).ok());
  EXPECT_FALSE(sequencer.Push({4, 0, 1}, &ready).ok());
  EXPECT_FALSE(sequencer.Finish({.sample = 4}).ok());
}

TEST(TokenSequencer, AStoppedSampleTakesNothingMore) {
  TokenSequencer sequencer(0, 2);
  std::vector<TokenOutput> ready;
  sequencer.Stop(0);
  sequencer.Stop(0);
  ASSERT_TRUE(sequencer.Push({0, 0, 1}, &ready).ok());
  ASSERT_TRUE(sequencer.Finish({.sample = 0, .output_tokens = 1}).ok());
  EXPECT_THAT(ready, IsEmpty());
  EXPECT_THAT(sequencer.TakeFinishes(), IsEmpty());
  EXPECT_FALSE(sequencer.AllEnded());
  sequencer.Stop(1);
  EXPECT_TRUE(sequencer.AllEnded());
}

TEST(TokenSequencer, BoundsWhatItHolds) {
  TokenSequencer sequencer(0, 1);
  std::vector<TokenOutput> ready;
  absl::Status status;
  int32_t index = 1;
  while (status.ok() && index < 100'000) status = sequencer.Push({0, index++, 1}, &ready);
  EXPECT_FALSE(status.ok());
}

// ------------------------------------------------------------------ cluster view

WorkerUpEvent Up(int32_t index, uint64_t session, Role role) {
  WorkerUpEvent event{.from = {WorkerIndex(index), SessionId(session)}};
  event.info = {.id = "w" + std::to_string(index),
                .boot = BootId(session),
                .role = role,
                .protocol_version = 1,
                .model_fingerprint = 7,
                .block_size = 16,
                .total_blocks = 100,
                .max_batch_sequences = 10,
                .prefill_credits = 2};
  return event;
}

TEST(ClusterView, RefusesAnotherModelProtocolOrASecondPathToAProcess) {
  ClusterView cluster({.num_workers = 4});
  const absl::Time now = absl::UnixEpoch();
  ASSERT_TRUE(cluster.Up(now, Up(0, 1, Role::kPrefill)).ok());
  WorkerUpEvent other_model = Up(1, 2, Role::kDecode);
  other_model.info.model_fingerprint = 8;
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster.Up(now, other_model)));
  WorkerUpEvent other_protocol = Up(2, 3, Role::kDecode);
  other_protocol.info.protocol_version = 2;
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster.Up(now, other_protocol)));
  WorkerUpEvent same_process = Up(3, 4, Role::kPrefill);
  same_process.info.boot = BootId(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster.Up(now, same_process)));
  EXPECT_FALSE(cluster.CanServe());
  ASSERT_TRUE(cluster.Up(now, Up(1, 5, Role::kDecode)).ok());
  EXPECT_TRUE(cluster.CanServe());
}

TEST(ClusterView, AWorkerIsOverdueAfterThreeMissedHeartbeatsOrAHungStep) {
  ClusterView cluster({.num_workers = 2});
  const absl::Time start = absl::UnixEpoch();
  ASSERT_TRUE(cluster.Up(start, Up(0, 1, Role::kPrefill)).ok());
  ASSERT_TRUE(cluster.Up(start, Up(1, 2, Role::kDecode)).ok());
  EXPECT_EQ(cluster.NextOverdue(), start + absl::Seconds(3));
  const absl::Time later = start + absl::Milliseconds(2900);
  EXPECT_THAT(cluster.Overdue(later), IsEmpty());
  WorkerReportEvent report{.from = {WorkerIndex(1), SessionId(2)}};
  ASSERT_TRUE(cluster.Report(later, report));
  EXPECT_THAT(cluster.Overdue(start + absl::Seconds(3)), ElementsAre(WorkerIndex(0)));
  report.report.current_step_age_ms = 60'001;
  ASSERT_TRUE(cluster.Report(later, report));
  EXPECT_THAT(cluster.Overdue(later), ElementsAre(WorkerIndex(1)));
}

TEST(ClusterView, EventsOfAnEarlierSessionChangeNothing) {
  ClusterView cluster({.num_workers = 1});
  const absl::Time now = absl::UnixEpoch();
  ASSERT_TRUE(cluster.Up(now, Up(0, 2, Role::kBoth)).ok());
  EXPECT_FALSE(cluster.Down({WorkerIndex(0), SessionId(1)}));
  EXPECT_FALSE(cluster.Report(now, {.from = {WorkerIndex(0), SessionId(1)}}));
  EXPECT_TRUE(cluster.CanServe());
  EXPECT_TRUE(cluster.Down({WorkerIndex(0), SessionId(2)}));
  EXPECT_FALSE(cluster.CanServe());
}

TEST(ClusterView, CreditsAreTheSmallerOfReportedAndOwnCount) {
  ClusterView cluster({.num_workers = 1});
  const WorkerIndex index(0);
  ASSERT_TRUE(cluster.Up(absl::UnixEpoch(), Up(0, 1, Role::kPrefill)).ok());
  EXPECT_EQ(cluster.worker(index).free_credits(), 2);
  cluster.TakeCredit(absl::UnixEpoch(), index, 10);
  // Sent before the worker had our request: it still says 2.
  WorkerReportEvent report{.from = {index, SessionId(1)}, .report = {.credits = 2}};
  ASSERT_TRUE(cluster.Report(absl::UnixEpoch(), report));
  EXPECT_EQ(cluster.worker(index).free_credits(), 1);
  report.report.credits = 0;  // another router's requests
  ASSERT_TRUE(cluster.Report(absl::UnixEpoch(), report));
  EXPECT_EQ(cluster.worker(index).free_credits(), 0);
}

TEST(ClusterView, ADecodeWorkerWithoutRoomIsAskedAgainWhenItReportsMoreOrAfterAWhile) {
  ClusterView cluster({.num_workers = 1});
  const WorkerIndex index(0);
  absl::Time now = absl::UnixEpoch();
  ASSERT_TRUE(cluster.Up(now, Up(0, 1, Role::kDecode)).ok());
  WorkerReportEvent report{.from = {index, SessionId(1)}, .report = {.free_blocks = 5}};
  ASSERT_TRUE(cluster.Report(now, report));
  cluster.RefusedForRoom(now, index);
  ASSERT_TRUE(cluster.Report(now + absl::Milliseconds(50), report));
  EXPECT_TRUE(cluster.worker(index).out_of_room);
  report.report.free_blocks = 6;
  ASSERT_TRUE(cluster.Report(now + absl::Milliseconds(60), report));
  EXPECT_FALSE(cluster.worker(index).out_of_room);
  cluster.RefusedForRoom(now, index);
  ASSERT_TRUE(cluster.Report(now + absl::Milliseconds(260), report));
  EXPECT_FALSE(cluster.worker(index).out_of_room);
}

// ------------------------------------------------------------------ budget, SLO

TEST(RetryBudget, IsAShareOfTheRequests) {
  RetryBudget budget(0.2, 2);
  EXPECT_TRUE(budget.TryTake());
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
  for (int i = 0; i < 6; ++i) budget.OnRequest();
  EXPECT_TRUE(budget.TryTake());
  EXPECT_FALSE(budget.TryTake());
}

TEST(JudgeSlo, ChargesAMissToTheLongestStageOfItsSide) {
  const SloTarget target{.ttft_ms = 100, .tpot_ms = 10};
  StageTimes stages{.queue_ms = 70,
                    .reserve_ms = 5,
                    .prefill_ms = 40,
                    .transfer_ms = 500,
                    .transfer_exposed_ms = 1,
                    .decode_queue_ms = 3,
                    .decode_ms = 90};
  EXPECT_EQ(JudgeSlo(target, 100, 10, stages).result, SloResult::kGood);
  EXPECT_FALSE(JudgeSlo(target, 100, 10, stages).missed_stage.has_value());
  EXPECT_EQ(JudgeSlo(target, 101, 10, stages).result, SloResult::kTtftMiss);
  EXPECT_EQ(JudgeSlo(target, 101, 10, stages).missed_stage, Stage::kQueue);
  EXPECT_EQ(JudgeSlo(target, 1, 11, stages).result, SloResult::kTpotMiss);
  EXPECT_EQ(JudgeSlo(target, 1, 11, stages).missed_stage, Stage::kDecode);
  EXPECT_EQ(JudgeSlo(target, 101, 11, stages).result, SloResult::kBoth);
  EXPECT_EQ(JudgeSlo(target, 1, std::nullopt, stages).result, SloResult::kGood) << "one token";
  stages.transfer_exposed_ms = 91;
  EXPECT_EQ(JudgeSlo(target, 1, 11, stages).missed_stage, Stage::kTransfer);
}

}  // namespace
}  // namespace baton::router
