// Which prompts are computed first, and which wait for one another.
#include <gmock/gmock.h>

#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

using ::testing::ElementsAre;

// One prompt a step.
SchedulerOptions OneAtATime() {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 64;
  options.max_batch_tokens = options.prefill_chunk_tokens = 16;
  options.patience = absl::Seconds(5);
  return options;
}

SequenceObjective Due(double arrived_s, double ttft_s) {
  const absl::Time arrived = absl::UnixEpoch() + absl::Seconds(arrived_s);
  return {.arrived = arrived, .first_token_due = arrived + absl::Seconds(ttft_s)};
}
SequenceObjective Arrived(double arrived_s) {
  return {.arrived = absl::UnixEpoch() + absl::Seconds(arrived_s)};
}

// The sequences in the order in which their prompts start.
std::vector<SequenceId> StartOrder(Driver& driver, int count) {
  std::vector<SequenceId> order;
  for (int i = 0; i < 40 && static_cast<int>(order.size()) < count; ++i) {
    for (const StepPlan::Row& row : driver.Plan().rows) {
      if (row.is_prefill && !std::ranges::count(order, row.sequence)) order.push_back(row.sequence);
    }
    driver.Commit();
  }
  return order;
}

TEST(PromptOrder, IsThatInWhichFirstTokensAreDue) {
  Driver driver(OneAtATime());
  const SequenceId late = driver.Add(Prompt(16, 1000), Due(0, 4));
  const SequenceId soon = driver.Add(Prompt(16, 2000), Due(1, 1));
  const SequenceId between = driver.Add(Prompt(16, 3000), Due(0.5, 2));
  EXPECT_THAT(StartOrder(driver, 3), ElementsAre(soon, between, late));
}

TEST(PromptOrder, WithoutAnObjectiveComesAfterThoseWithOneButNotForEver) {
  Driver driver(OneAtATime());
  const SequenceId patient = driver.Add(Prompt(16, 1000), Arrived(0));
  const SequenceId same = driver.Add(Prompt(16, 2000), Arrived(0));
  const SequenceId due = driver.Add(Prompt(16, 3000), Due(3, 1));
  const SequenceId later = driver.Add(Prompt(16, 4000), Due(4.5, 1));
  EXPECT_THAT(StartOrder(driver, 4), ElementsAre(due, patient, same, later));
}

TEST(PromptOrder, WhatCanNoLongerBeInTimePushesNobodyBack) {
  const StepModelTracker model(StepModel{.prefill_token_ms = 10, .profiled_prefill_tokens = 16});
  Driver driver(OneAtATime());
  driver->SetStepModel(&model);
  const SequenceId missed = driver.Add(Prompt(16, 1000), Due(0, -1));
  const SequenceId hopeless = driver.Add(Prompt(16, 2000), Due(0, 0.15));  // takes 0.16
  const SequenceId possible = driver.Add(Prompt(16, 3000), Due(0, 0.17));
  EXPECT_THAT(StartOrder(driver, 3), ElementsAre(possible, missed, hopeless));
}

TEST(PromptOrder, AMoreUrgentOneGoesBeforeTheNextChunkOfOneThatHasStarted) {
  Driver driver(OneAtATime());
  const SequenceId lengthy = driver.Add(Prompt(60, 1000), Due(0, 4));
  driver.Step();
  const SequenceId urgent = driver.Add(Prompt(10, 2000), Due(0, 1));
  const StepPlan& plan = driver.Plan();
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_EQ(plan.rows[0].sequence, urgent);
  EXPECT_EQ(plan.rows[1].sequence, lengthy);
  EXPECT_EQ(plan.rows[1].tokens.size(), 4u) << "what is left of 16, up to a block's end";
}

TEST(PromptOrder, APreemptedOneComesBeforeAllThatNeverRan) {
  SchedulerOptions options = OneAtATime();
  options.num_blocks = 5;
  options.prefix_caching = false;
  options.max_batch_tokens = options.prefill_chunk_tokens = 32;
  Driver driver(options);
  driver.Add(Prompt(8, 1000));
  const SequenceId preempted = driver.Add(Prompt(7, 2000), Arrived(100));
  while (driver->preemptions_total() == 0) driver.Step();
  driver.Add(Prompt(4, 3000), Due(0, 0.5));
  std::vector<SequenceId> started;
  for (int i = 0; i < 100 && started.empty(); ++i) {
    for (const StepPlan::Row& row : driver.Plan().rows) {
      if (row.is_prefill) started.push_back(row.sequence);
    }
    driver.Commit();
    if (i == 5) driver->Abort(SequenceId(1), false);
  }
  ASSERT_FALSE(started.empty());
  EXPECT_EQ(started[0], preempted);
}

TEST(SharedPrefix, APromptWaitsForTheBlocksThatAnotherIsComputing) {
  SchedulerOptions options = OneAtATime();
  options.max_batch_tokens = 48;
  Driver driver(options);
  const SequenceId first = driver.Add(Prompt(40, 1000));
  GenerationSpec shares = Prompt(40, 1000);
  for (size_t i = 24; i < 40; ++i) shares.tokens[i] = 7000 + static_cast<TokenId>(i);
  const SequenceId second = driver.Add(shares);
  const SequenceId other = driver.Add(Prompt(8, 3000));
  const auto planned = [&] {
    std::vector<SequenceId> sequences;
    for (const StepPlan::Row& row : driver.Plan().rows) sequences.push_back(row.sequence);
    return sequences;
  };
  EXPECT_THAT(planned(), ElementsAre(first, other)) << "it holds up nobody";
  driver.Commit();
  EXPECT_THAT(planned(), ElementsAre(other, first)) << "16 of the 24 tokens are there";
  driver.Commit();
  EXPECT_THAT(planned(), ElementsAre(other, first, second));
  EXPECT_EQ(driver.plan->rows[2].start_position, 24) << "nothing is computed twice";
  driver.Commit();
  EXPECT_EQ(driver->prefix_hit_tokens_total(), 24u);
}

TEST(SharedPrefix, ATenantsPromptDoesNotWaitForAnothers) {
  SchedulerOptions options = OneAtATime();
  options.max_batch_tokens = 48;
  Driver driver(options);
  driver.Add(Prompt(40, 1000));
  GenerationSpec salted = Prompt(40, 1000);
  salted.cache_salt = 5;
  driver.Add(salted);
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
}

TEST(SharedPrefix, NobodyWaitsForLessThanAnotherStepCosts) {
  const StepModelTracker model(
      StepModel{.prefill_base_ms = 100, .prefill_token_ms = 1, .profiled_prefill_tokens = 48});
  SchedulerOptions options = OneAtATime();
  options.max_batch_tokens = 48;
  Driver driver(options);
  driver->SetStepModel(&model);
  driver.Add(Prompt(24, 1000));
  driver.Add(Prompt(24, 1000));
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
}

TEST(SharedPrefix, PromptLogprobsNeedEveryTokenSoTheyWaitForNothing) {
  SchedulerOptions options = OneAtATime();
  options.max_batch_tokens = 48;
  Driver driver(options);
  driver.Add(Prompt(24, 1000));
  GenerationSpec scored = Prompt(24, 1000);
  scored.sampling.num_prompt_logprobs = 0;
  driver.Add(scored);
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
}

TEST(SharedPrefix, EndsWithTheOneThatWasAhead) {
  SchedulerOptions options = OneAtATime();
  options.max_batch_tokens = 48;
  Driver driver(options);
  const SequenceId first = driver.Add(Prompt(40, 1000));
  const SequenceId second = driver.Add(Prompt(40, 1000));
  driver.Step();
  driver->Abort(first, false);
  ASSERT_EQ(driver.Plan().rows.size(), 1u);
  EXPECT_EQ(driver.plan->rows[0].sequence, second);
  EXPECT_EQ(driver.plan->rows[0].start_position, 16);
}

}  // namespace
}  // namespace baton
