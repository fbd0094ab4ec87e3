// Whole clusters of production cores under random faults, and proof that it would see bugs. The
// long run is `baton sim explore`, which ./test.sh starts.
#include "sim/faults/fault_sim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "sim/faults/explore.h"
#include "sim/faults/shrink.h"

namespace baton::sim {
namespace {

using testing::HasSubstr;

constexpr int64_t kSeeds = 1500;

const Mutations& MutationsOf(std::string_view name) {
  for (const Mutant& mutant : Mutants()) {
    if (mutant.name == name) return mutant.mutations;
  }
  throw std::invalid_argument("no such mutant");
}

TEST(FaultSim, KeepsTheInvariantsUnderRandomFaults) {
  const ExploreResult result = Explore({.first_seed = 1, .seeds = kSeeds, .mutant_seeds = 0});
  ASSERT_TRUE(result.violations.empty())
      << "seed " << result.violations[0].seed << ": " << result.violations[0].what;
  EXPECT_EQ(result.runs, kSeeds);
  // The schedules must reach both ends, or the test shows nothing.
  EXPECT_GT(result.completed, 2 * kSeeds);
  EXPECT_GT(result.failed, kSeeds / 10);
  EXPECT_GT(result.payload_blocks, 5 * kSeeds);
  EXPECT_GT(result.ejections.workers, kSeeds / 100);
  EXPECT_GT(result.ejections.pairs, kSeeds / 100);
}

TEST(FaultSim, ThreadsShareTheSeedsAndFindTheSame) {
  const ExploreResult one = Explore({.first_seed = 7, .seeds = 60, .mutant_seeds = 0, .jobs = 1});
  const ExploreResult three = Explore({.first_seed = 7, .seeds = 60, .mutant_seeds = 0, .jobs = 3});
  EXPECT_EQ(one.events, three.events);
  EXPECT_EQ(one.completed, three.completed);
  EXPECT_EQ(one.payload_blocks, three.payload_blocks);
}

TEST(FaultSim, ASeedIsOneHistory) {
  const Schedule schedule = MakeSchedule(42);
  const Mutations none;
  const FaultResult first = FaultSim(schedule, none, /*record=*/true).Run();
  const FaultResult again = FaultSim(schedule, none, /*record=*/true).Run();
  ASSERT_EQ(first.history.size(), again.history.size());
  for (size_t i = 0; i < first.history.size(); ++i) {
    EXPECT_EQ(first.history[i].at, again.history[i].at);
    EXPECT_EQ(first.history[i].what, again.history[i].what);
  }
  EXPECT_GT(first.history.size(), 10u);
}

TEST(FaultSim, RequestsWithoutFaultsAllComplete) {
  Schedule schedule = MakeSchedule(3);
  schedule.workers = {{router::Role::kPrefill, 100, 32}, {router::Role::kDecode, 100, 32}};
  schedule.faults.clear();
  for (PlannedRequest& request : schedule.requests) {
    request.cancel_after.reset();
    request.timeout = absl::Seconds(30);
  }
  const FaultResult result = FaultSim(schedule, {}, /*record=*/false).Run();
  EXPECT_EQ(result.violation, "");
  EXPECT_EQ(result.completed, static_cast<int32_t>(schedule.requests.size()));
}

TEST(FaultSim, ADecodeWorkerThatDiesInMidStreamIsTakenOver) {
  Schedule schedule{.seed = 1};
  schedule.workers = {{router::Role::kPrefill, 100, 32},
                      {router::Role::kDecode, 100, 32},
                      {router::Role::kDecode, 100, 32}};
  PlannedRequest request;
  request.id = RequestId(1);
  request.at = absl::Milliseconds(100);
  request.spec = {.tokens = {5, 6, 7, 8, 9, 10}, .prompt_length = 6};
  request.spec.stopping = {.max_tokens = 60, .ignore_eos = true};
  request.timeout = absl::Seconds(20);
  schedule.requests = {request};
  // Both, one of which decodes at that moment.
  int32_t taken_over = 0;
  for (const int32_t worker : {1, 2}) {
    Schedule one = schedule;
    one.faults = {{.kind = FaultKind::kCrash,
                   .at = absl::Milliseconds(250),
                   .length = absl::Seconds(1),
                   .worker = worker}};
    const FaultResult result = FaultSim(one, {}, /*record=*/true).Run();
    EXPECT_EQ(result.violation, "");
    EXPECT_EQ(result.completed, 1) << "worker " << worker;
    taken_over += std::any_of(result.history.begin(), result.history.end(), [](const auto& line) {
      return line.what.find("request 1/2") != std::string::npos;
    });
  }
  EXPECT_EQ(taken_over, 1);
}

class CaughtMutantTest : public testing::TestWithParam<const char*> {};

TEST_P(CaughtMutantTest, AndItsScheduleIsMadeShorter) {
  const Mutations& mutations = MutationsOf(GetParam());
  for (uint64_t seed = 1; seed <= 500; ++seed) {
    const Schedule schedule = MakeSchedule(seed);
    const std::string what = FaultSim(schedule, mutations, /*record=*/false).Run().violation;
    if (what.empty() || schedule.requests.size() < 4) continue;  // some must be beside the point
    const Schedule small = Shrink(schedule, mutations);
    EXPECT_LE(small.requests.size(), schedule.requests.size());
    EXPECT_LE(small.faults.size(), schedule.faults.size());
    const FaultResult result = FaultSim(small, mutations, /*record=*/true).Run();
    EXPECT_EQ(result.violation.substr(0, result.violation.find(':')),
              what.substr(0, what.find(':')));
    EXPECT_LT(small.requests.size() + small.faults.size() + small.workers.size(),
              schedule.requests.size() + schedule.faults.size() + schedule.workers.size());
    EXPECT_THAT(result.history.back().who, HasSubstr("VIOLATION"));
    return;
  }
  FAIL() << GetParam() << " survived";
}

// One of each layer; `baton sim explore` runs them all.
INSTANTIATE_TEST_SUITE_P(Layers, CaughtMutantTest,
                         testing::Values("early_unpin", "release_before_sent", "lose_abort",
                                         "index_before_seal", "resume_off_by_one"));

TEST(Mutants, HaveNamesOfTheirOwn) {
  std::vector<std::string_view> names;
  for (const Mutant& mutant : Mutants()) names.push_back(mutant.name);
  EXPECT_GE(names.size(), 15u);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace baton::sim
