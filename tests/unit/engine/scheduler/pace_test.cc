// How much runs in a step beside streams that have objectives.
#include <gmock/gmock.h>

#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

// A decode step takes 10 ms and 1 for each row; a prompt token takes 1.
constexpr StepModel kModel{.prefill_base_ms = 5,
                           .prefill_token_ms = 1,
                           .decode_base_ms = 10,
                           .decode_row_ms = 1,
                           .profiled_prefill_tokens = 64,
                           .profiled_decode_rows = 8};

SchedulerOptions Options() {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 200;
  options.max_batch_tokens = 64;
  options.prefill_chunk_tokens = 64;
  options.tpot_margin = 1;
  options.prefix_caching = false;
  return options;
}

SequenceObjective Tpot(double ms) { return {.tpot_ms = ms}; }

struct PacedDriver : Driver {
  explicit PacedDriver(const SchedulerOptions& options = Options()) : Driver(options) {
    scheduler->SetStepModel(&model);
  }
  size_t Rows() {
    const size_t rows = Plan().rows.size();
    Commit();
    return rows;
  }
  // Prompt tokens of the next step.
  int64_t PromptTokens() {
    const int64_t tokens = Plan().Shape().prefill_tokens;
    Commit();
    return tokens;
  }
  StepModelTracker model{kModel};
};

TEST(JoinPace, ARowWaitsWhileItWouldBreakTheObjectivesOfOthers) {
  PacedDriver driver;
  const SequenceId first = driver.AddDecoding(Prompt(4, 1000), Tpot(12));
  driver.AddDecoding(Prompt(4, 2000), Tpot(12));
  EXPECT_EQ(driver.Rows(), 2u) << "12 ms";
  const SequenceId third = driver.AddDecoding(Prompt(4, 3000), Tpot(50));
  EXPECT_EQ(driver.Rows(), 2u);
  EXPECT_EQ(driver.Rows(), 2u);
  driver->Abort(first, false);
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
  EXPECT_EQ(driver.plan->rows[1].sequence, third);
}

TEST(JoinPace, TheMarginIsKeptFree) {
  SchedulerOptions options = Options();
  options.tpot_margin = 0.95;
  PacedDriver driver(options);
  driver.AddDecoding(Prompt(4, 1000), Tpot(12));
  EXPECT_EQ(driver.Rows(), 1u);
  driver.AddDecoding(Prompt(4, 2000), Tpot(50));
  EXPECT_EQ(driver.Rows(), 1u) << "12 ms are more than 95 % of 12";
}

TEST(JoinPace, NobodyWaitsForEver) {
  SchedulerOptions options = Options();
  options.join_patience_tokens = 3;
  PacedDriver driver(options);
  driver.AddDecoding(Prompt(4, 1000), Tpot(11));
  EXPECT_EQ(driver.Rows(), 1u);
  driver.AddDecoding(Prompt(4, 2000), Tpot(15));
  int waited = 0;
  while (driver.Rows() == 1 && waited < 100) ++waited;
  EXPECT_EQ(waited, 5) << "45 ms in steps of 11";
  EXPECT_EQ(driver.Rows(), 2u) << "and it stays";
}

TEST(JoinPace, AnIdleWorkerTakesWhateverComes) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(1));
  EXPECT_EQ(driver.Rows(), 1u);
}

TEST(JoinPace, AnObjectiveThatCannotBeMetAloneHoldsUpNobody) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(10.5));
  EXPECT_EQ(driver.Rows(), 1u);
  driver.AddDecoding(Prompt(4, 2000), Tpot(50));
  EXPECT_EQ(driver.Rows(), 2u);
}

TEST(JoinPace, WithoutObjectivesOrAModelAllJoin) {
  PacedDriver driver;
  for (int i = 0; i < 6; ++i) driver.AddDecoding(Prompt(4, 1000 * (i + 1)));
  EXPECT_EQ(driver.Rows(), 6u);
  driver->SetStepModel(nullptr);
  driver.AddDecoding(Prompt(4, 9000), Tpot(1));
  driver.AddDecoding(Prompt(4, 8000), Tpot(1));
  EXPECT_EQ(driver.Rows(), 8u);
}

TEST(JoinPace, FollowsTheCorrectionsOfTheModel) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(14));
  EXPECT_EQ(driver.Rows(), 1u);
  const StepShape row{.decode_rows = 1, .decode_context = 4};
  for (int i = 0; i < 500; ++i)
    driver.model.Observe(row, 1.25 * driver.model.model().PredictMs(row));
  driver.AddDecoding(Prompt(4, 2000), Tpot(50));
  EXPECT_EQ(driver.Rows(), 1u) << "two rows take 15 ms now";
}

TEST(ChunkPace, AChunkLeavesTheRunningRowsTheirTpot) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(30));
  driver.Step();
  driver.Add(Prompt(60, 2000));
  const StepPlan& plan = driver.Plan();
  // 10 + 1 + 19 tokens would be 30; chunks end on blocks of 4.
  EXPECT_EQ(plan.Shape().prefill_tokens, 16);
  EXPECT_LE(kModel.PredictMs(plan.Shape()), 30);
  driver.Commit();
}

TEST(ChunkPace, TheTightestRowCountsAndAllPromptsTogether) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(50));
  driver.AddDecoding(Prompt(4, 2000), Tpot(24));
  driver.Step();
  driver.Add(Prompt(6, 3000));
  driver.Add(Prompt(60, 4000));
  const StepPlan& plan = driver.Plan();
  EXPECT_EQ(plan.Shape().decode_rows, 2);
  EXPECT_EQ(plan.Shape().prefill_tokens, 6 + 4) << "12 ms are left after 12 of decode";
  driver.Commit();
}

// Steps of the decode row alone until a prompt has its first chunk.
int StepsWaited(PacedDriver& driver) {
  int waited = 0;
  while (driver.PromptTokens() == 0 && waited < 1000) ++waited;
  return waited;
}

TEST(ChunkPace, APromptWithoutRoomWaitsForThePatienceAndThenGoesOnByABlock) {
  SchedulerOptions options = Options();
  options.patience = absl::Milliseconds(100);
  for (const bool has_objective : {true, false}) {
    PacedDriver driver(options);
    driver.AddDecoding(Prompt(4, 1000), Tpot(11));
    driver.Step();
    SequenceObjective objective;
    if (has_objective) objective.first_token_due = absl::UnixEpoch() + absl::Milliseconds(50);
    driver.Add(Prompt(20, 2000), objective);
    EXPECT_EQ(StepsWaited(driver), has_objective ? 14 : 10) << "steps take 11 ms";
    for (int i = 0; i < 4; ++i) EXPECT_EQ(driver.PromptTokens(), 4);
  }
}

TEST(ChunkPace, AFewStepsSaveAShortOne) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(11));
  driver.Step();
  driver.Add(Prompt(8, 2000), {.first_token_due = absl::UnixEpoch() + absl::Milliseconds(100)});
  EXPECT_EQ(StepsWaited(driver), 7) << "two steps of 15 ms from 77 ms on";
  EXPECT_EQ(driver.PromptTokens(), 4);
}

TEST(ChunkPace, WhatGetsNothingHoldsNoBlocksAndHoldsUpNobody) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(11));
  driver.Step();
  const SequenceId waits =
      driver.Add(Prompt(40, 2000), {.first_token_due = absl::UnixEpoch() + absl::Seconds(1)});
  EXPECT_EQ(driver.PromptTokens(), 0);
  EXPECT_EQ(driver->BlockTable(waits, 0).size(), 0u);
  GenerationSpec resumed = Prompt(20, 3000);
  resumed.prompt_length = 17;
  const SequenceId goes_on = driver.Add(std::move(resumed));  // due after it
  EXPECT_EQ(driver.PromptTokens(), 4);
  EXPECT_EQ(driver->BlockTable(goes_on, 0).size(), 5u);
  EXPECT_EQ(driver->BlockTable(waits, 0).size(), 0u);
}

TEST(ChunkPace, OneWhoseStreamStandsStillDoesNotWait) {
  PacedDriver driver;
  driver.AddDecoding(Prompt(4, 1000), Tpot(11));
  driver.Step();
  GenerationSpec resumed = Prompt(20, 2000);
  resumed.prompt_length = 17;  // three tokens are with its client
  driver.Add(std::move(resumed));
  EXPECT_EQ(StepsWaited(driver), 0);
}

TEST(ChunkPace, WhereNothingDecodesTheWholeStepIsForPrompts) {
  PacedDriver driver;
  driver.Add(Prompt(60, 2000), Tpot(11));
  EXPECT_EQ(driver.PromptTokens(), 60);
}

TEST(Chunking, AFixedChunkIsOfAllPromptsTogetherAndOnlyBesideDecodeRows) {
  SchedulerOptions options = Options();
  options.chunking = Chunking::kFixed;
  options.prefill_chunk_tokens = 12;
  PacedDriver driver(options);
  driver.Add(Prompt(8, 1000), Tpot(11));
  driver.Add(Prompt(8, 2000), Tpot(11));
  EXPECT_EQ(driver.PromptTokens(), 16) << "nothing decodes";
  driver.Add(Prompt(8, 3000));
  driver.Add(Prompt(8, 4000));
  EXPECT_EQ(driver.PromptTokens(), 12) << "whatever the objectives";
}

TEST(Chunking, OffRunsWholePromptsFirstAndDecodesInBetween) {
  SchedulerOptions options = Options();
  options.chunking = Chunking::kOff;
  options.max_batch_tokens = 32;
  options.prefill_chunk_tokens = 4;
  PacedDriver driver(options);
  driver.AddDecoding(Prompt(4, 1000), Tpot(14));
  EXPECT_EQ(driver.Rows(), 1u);
  driver.Add(Prompt(80, 2000));
  driver.Add(Prompt(20, 3000));
  driver.Add(Prompt(12, 4000));
  StepShape shape = driver.Plan().Shape();
  EXPECT_EQ(shape.prefill_tokens, 80) << "more than a batch, but whole";
  EXPECT_EQ(shape.decode_rows, 0);
  driver.Commit();
  EXPECT_EQ(driver.Plan().Shape().prefill_tokens, 32) << "two fit a batch";
  driver.Commit();
  shape = driver.Plan().Shape();
  EXPECT_EQ(shape.prefill_tokens, 0);
  EXPECT_EQ(shape.decode_rows, 4);
}

// Three that fill a pool in which the oldest is the third to need another block.
SchedulerOptions Tight() {
  SchedulerOptions options = Options();
  options.num_blocks = 3 + 1 + 5 + 2;
  return options;
}
constexpr int32_t kOldest = 10;
constexpr int32_t kCheap = 4;
constexpr int32_t kDear = 19;

TEST(Preemption, TheCheapestToComputeAgainOfTheYoungerGivesWay) {
  PacedDriver driver(Tight());
  const SequenceId oldest = driver.Add(Prompt(kOldest, 1000));
  const SequenceId cheap = driver.Add(Prompt(kCheap, 2000));
  const SequenceId dear = driver.Add(Prompt(kDear, 3000));
  while (driver->preemptions_total() == 0) driver.Step();
  EXPECT_EQ(driver->BlockTable(cheap, 0).size(), 0u) << "though it is not the youngest";
  EXPECT_EQ(driver->BlockTable(dear, 0).size(), 6u);
  EXPECT_EQ(driver->BlockTable(oldest, 0).size(), 4u);
}

TEST(Preemption, WithoutAnObjectiveGoesFirstWhateverItCosts) {
  PacedDriver driver(Tight());
  driver.Add(Prompt(kOldest, 1000), Tpot(500));
  const SequenceId cheap = driver.Add(Prompt(kCheap, 2000), Tpot(500));
  const SequenceId dear = driver.Add(Prompt(kDear, 3000));
  while (driver->preemptions_total() == 0) driver.Step();
  EXPECT_EQ(driver->BlockTable(dear, 0).size(), 0u);
  EXPECT_EQ(driver->BlockTable(cheap, 0).size(), 2u);
}

TEST(Preemption, AnOlderOneNeverGivesWayToAYoungerOne) {
  PacedDriver driver(Tight());
  const SequenceId oldest = driver.Add(Prompt(kCheap, 1000));
  driver.Add(Prompt(kDear, 2000), Tpot(500));
  const SequenceId youngest = driver.Add(Prompt(kOldest, 3000), Tpot(500));
  while (driver->preemptions_total() == 0) driver.Step();
  EXPECT_EQ(driver->BlockTable(youngest, 0).size(), 0u) << "it is the one that needs a block";
  EXPECT_EQ(driver->BlockTable(oldest, 0).size(), 2u) << "cheap, and without an objective";
}

}  // namespace
}  // namespace baton
