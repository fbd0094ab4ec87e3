// The small parts of the router core, each alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>

#include "router/core/cluster_view.h"
#include "router/core/placement.h"
#include "router/core/prefix_affinity.h"
#include "router/core/request_queue.h"
#include "router/core/retry_budget.h"
#include "router/core/slo.h"
#include "router/core/token_sequencer.h"

namespace baton::router {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// ------------------------------------------------------------------ queue

RequestQueue::Entry Entry(uint64_t number, int32_t priority, int64_t start_by_ms) {
  return {.priority = priority,
          .start_by = absl::FromUnixMillis(start_by_ms),
          .arrival_number = number,
          .request = RequestId(number),
          .bytes = 10};
}

TEST(RequestQueue, OrdersByPriorityThenSlackThenArrivalLikeASortedList) {
  const uint64_t seed = 5;
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  RequestQueue queue({.max_requests = 1000, .max_bytes = 100000});
  std::vector<RequestQueue::Entry> naive;
  for (uint64_t i = 0; i < 300; ++i) {
    naive.push_back(
        Entry(i, static_cast<int32_t>(random() % 3), static_cast<int64_t>(random() % 10)));
    queue.Push(naive.back());
    if (random() % 4 == 0) {
      const auto victim = naive.begin() + static_cast<int64_t>(random() % naive.size());
      queue.Remove(*victim);
      queue.Remove(*victim);  // a second time changes nothing
      naive.erase(victim);
    }
  }
  std::stable_sort(naive.begin(), naive.end());
  for (const RequestQueue::Entry& expected : naive) {
    ASSERT_FALSE(queue.empty());
    EXPECT_EQ(queue.front().request, expected.request);
    queue.Remove(queue.front());
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0);
}

TEST(RequestQueue, IsBoundedInCountAndInBytes) {
  RequestQueue queue({.max_requests = 2, .max_bytes = 25});
  EXPECT_TRUE(queue.HasRoom(25));
  EXPECT_FALSE(queue.HasRoom(26));
  queue.Push(Entry(1, 0, 0));
  EXPECT_FALSE(queue.HasRoom(16));
  queue.Push(Entry(2, 0, 0));
  EXPECT_FALSE(queue.HasRoom(0));
  queue.Push(Entry(3, 0, 0));  // one that comes back is taken all the same
  EXPECT_EQ(queue.size(), 3);
}

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
  cluster.TakeCredit(index);
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

// ------------------------------------------------------------------ placement

class PlacementTest : public ::testing::Test {
 protected:
  PlacementTest() : cluster_({.num_workers = 5}) {}
  void Add(int32_t index, Role role) {
    ASSERT_TRUE(
        cluster_.Up(absl::UnixEpoch(), Up(index, static_cast<uint64_t>(index) + 1, role)).ok());
  }
  void Report(int32_t index, const WorkerReport& report) {
    const WorkerOrigin from{WorkerIndex(index), SessionId(static_cast<uint64_t>(index) + 1)};
    ASSERT_TRUE(cluster_.Report(absl::UnixEpoch(), {from, report}));
  }
  ClusterView cluster_;
  PlacementQuery query_{.prompt_tokens = 64};
};

TEST_F(PlacementTest, TakesThePrefillWorkerWithLeastWorkAndTheDecodeWorkerWithMostRoom) {
  Add(0, Role::kPrefill);
  Add(1, Role::kPrefill);
  Add(2, Role::kDecode);
  Add(3, Role::kDecode);
  cluster_.TakeCredit(WorkerIndex(0));
  Report(2, {.running = 2, .free_blocks = 30});
  Report(3, {.running = 2, .free_blocks = 60});
  const std::optional<Placement> placement = ChoosePlacement(cluster_, query_);
  ASSERT_TRUE(placement.has_value());
  EXPECT_EQ(placement->prefill, WorkerIndex(1));
  EXPECT_EQ(placement->decode, WorkerIndex(3));
}

TEST_F(PlacementTest, PrefersTheWorkersThatHoldThePrefixUntilTheyAreBusier) {
  Add(0, Role::kPrefill);
  Add(1, Role::kPrefill);
  Add(2, Role::kDecode);
  Add(3, Role::kDecode);
  query_.affinity = {WorkerIndex(1), WorkerIndex(3), 3};
  std::optional<Placement> placement = ChoosePlacement(cluster_, query_);
  EXPECT_EQ(placement->prefill, WorkerIndex(1));
  EXPECT_EQ(placement->decode, WorkerIndex(3));
  cluster_.TakeCredit(WorkerIndex(1));
  Report(3, {.running = 9, .free_blocks = 10});
  placement = ChoosePlacement(cluster_, query_);
  EXPECT_EQ(placement->prefill, WorkerIndex(0));
  EXPECT_EQ(placement->decode, WorkerIndex(2));
}

TEST_F(PlacementTest, WaitsForACreditAndForRoom) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  cluster_.RefusedForRoom(absl::UnixEpoch(), WorkerIndex(1));
  EXPECT_FALSE(ChoosePlacement(cluster_, query_).has_value());
  Report(1, {.free_blocks = 101});
  EXPECT_TRUE(ChoosePlacement(cluster_, query_).has_value());
  cluster_.TakeCredit(WorkerIndex(0));
  cluster_.TakeCredit(WorkerIndex(0));
  EXPECT_FALSE(ChoosePlacement(cluster_, query_).has_value());
}

TEST_F(PlacementTest, AvoidedWorkersComeLastAndNeverIsNever) {
  Add(0, Role::kPrefill);
  Add(1, Role::kDecode);
  Add(2, Role::kDecode);
  Report(1, {.free_blocks = 1});
  const std::vector<WorkerIndex> list = {WorkerIndex(2)};
  query_.avoid = list;
  EXPECT_EQ(ChoosePlacement(cluster_, query_)->decode, WorkerIndex(1));
  Report(1, {.free_blocks = 1, .draining = true});
  EXPECT_EQ(ChoosePlacement(cluster_, query_)->decode, WorkerIndex(2));
  query_.never = list;
  EXPECT_FALSE(ChoosePlacement(cluster_, query_).has_value());
  EXPECT_FALSE(CouldEverFit(cluster_, list));
}

TEST_F(PlacementTest, UsesWorkersOfRoleBothOnlyWithoutAPair) {
  Add(0, Role::kBoth);
  EXPECT_TRUE(ChoosePlacement(cluster_, query_)->in_place());
  Add(1, Role::kPrefill);
  EXPECT_TRUE(ChoosePlacement(cluster_, query_)->in_place());
  Add(2, Role::kDecode);
  EXPECT_FALSE(ChoosePlacement(cluster_, query_)->in_place());
}

// ------------------------------------------------------------------ affinity, budget, SLO

TEST(PrefixAffinity, FindsTheLongestRecordedPrefixAndForgetsTheOldest) {
  PrefixAffinity affinity(4);
  std::vector<TokenId> prompt(50, 1);
  const PrefixHashes long_hashes = HashPrefix(prompt, 16, 0);
  ASSERT_EQ(long_hashes.size(), 3u);
  prompt[40] = 2;  // the third block differs
  const PrefixHashes other = HashPrefix(prompt, 16, 0);
  affinity.Record(long_hashes, WorkerIndex(0), WorkerIndex(1));
  EXPECT_EQ(affinity.Find(other).blocks, 2);
  EXPECT_EQ(affinity.Find(other).prefill, WorkerIndex(0));
  EXPECT_EQ(affinity.Find(HashPrefix(prompt, 16, 9)).blocks, 0) << "another salt";
  affinity.Record(other, WorkerIndex(2), WorkerIndex(3));
  EXPECT_EQ(affinity.size(), 4u);
  EXPECT_EQ(affinity.Find(long_hashes).blocks, 3) << "its third block is its own";
  affinity.Forget(WorkerIndex(2));
  EXPECT_EQ(affinity.Find(other).prefill, kNoWorker);
  EXPECT_EQ(affinity.Find(other).decode, WorkerIndex(3));
  affinity.Forget(WorkerIndex(3));
  EXPECT_EQ(affinity.Find(other).blocks, 0);
}

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
