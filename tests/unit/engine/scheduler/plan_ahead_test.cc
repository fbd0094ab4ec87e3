// Steps that are planned before the tokens of the step in front of them are known.
#include <gtest/gtest.h>

#include <tuple>

#include "common/kv_layout.h"
#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

using RowShape = std::tuple<SequenceId, int32_t, int32_t, std::vector<BlockId>>;

// Which branch, at which position, in which blocks.
std::vector<RowShape> RowsOf(const StepPlan& plan) {
  std::vector<RowShape> rows;
  for (const StepPlan::Row& row : plan.rows) {
    rows.emplace_back(row.sequence, row.branch, row.start_position,
                      std::vector<BlockId>(row.block_table.begin(), row.block_table.end()));
  }
  return rows;
}

TEST(PlanAheadTest, IsWhatPlanGivesAfterCommit) {
  Driver ahead;
  Driver after;
  for (Driver* driver : {&ahead, &after}) {
    driver->AddDecoding(Prompt(4));
    driver->AddDecoding(Prompt(6, 2000));
  }
  for (int step = 0; step < 10; ++step) {
    ahead.Plan();
    after.Plan();
    const std::vector<RowShape> planned = RowsOf(ahead.PlanAhead());
    ASSERT_EQ(planned.size(), 2u);
    ahead.Commit();
    after.Commit();
    EXPECT_EQ(RowsOf(ahead.Plan()), planned);
    EXPECT_EQ(RowsOf(after.Plan()), planned);
    EXPECT_EQ(Count<SequenceEvent::Token>(ahead.Commit()), 2);
    after.Commit();
  }
}

TEST(PlanAheadTest, ARowSaysWhichTokenItTakes) {
  Driver driver;
  GenerationSpec ending = Prompt(4);
  ending.stopping.max_tokens = 2;  // the first of them is there
  driver.AddDecoding(ending);
  const SequenceId goes_on = driver.AddDecoding(Prompt(6, 2000));
  EXPECT_EQ(driver.Plan().rows.at(1).drawn_row, -1);
  const StepPlan& ahead = driver.PlanAhead();
  ASSERT_EQ(ahead.rows.size(), 1u) << "the other is as long as it may be";
  EXPECT_EQ(ahead.rows[0].sequence, goes_on);
  EXPECT_EQ(ahead.rows[0].drawn_row, 1);
  EXPECT_EQ(ahead.rows[0].tokens.size(), 1u);
  EXPECT_EQ(ahead.rows[0].start_position, 7);
  EXPECT_EQ(ahead.Shape().decode_rows, 1);
}

TEST(PlanAheadTest, StepsFollowOneAnotherWithoutAGap) {
  Driver driver;
  const SequenceId id = driver.AddDecoding(Prompt(4));
  driver.Plan();
  for (TokenId token = 600; token < 620; ++token) {
    ASSERT_EQ(driver.PlanAhead().rows.size(), 1u);
    EXPECT_EQ(First<SequenceEvent::Token>(driver.Commit(token)).output.token, token);
    EXPECT_TRUE(driver->InStep());
    driver.Plan();
    EXPECT_EQ(driver->Tokens(id, 0).back(), token);
  }
}

TEST(PlanAheadTest, ATokenThatEndsASequenceLeavesItsBlocksUntilTheStepBehindIsOver) {
  Driver driver;
  driver.AddDecoding(Prompt(4));
  driver.Plan();
  ASSERT_EQ(driver.PlanAhead().rows.size(), 1u);
  const int32_t taken = driver->Census().in_use;
  const auto events = driver.Commit(kDriverEos);
  EXPECT_EQ(Count<SequenceEvent::Done>(events), 1);
  EXPECT_EQ(driver->Census().in_use, taken) << "the step that runs reads and writes them";
  EXPECT_TRUE(driver->HasWork());
  const StepPlan& behind = driver.Plan();
  ASSERT_EQ(behind.rows.size(), 1u);
  EXPECT_TRUE(behind.rows[0].block_table.empty());
  EXPECT_TRUE(driver.Commit().empty()) << "its token is nobody's";
  EXPECT_EQ(driver->Census().in_use, 0);
  EXPECT_FALSE(driver->HasWork());
}

TEST(PlanAheadTest, TheOtherBranchesOfASequenceGoOn) {
  Driver driver;
  GenerationSpec spec = Prompt(6);
  spec.num_samples = 2;
  const Reservation reservation = driver.Reserve(spec);
  driver.Seal(reservation.sequence, {500, 501});
  EXPECT_EQ(driver.Plan().copies.size(), 1u);
  EXPECT_TRUE(driver.PlanAhead().copies.empty()) << "each has a last block of its own by now";
  const std::vector<std::vector<SampledToken>> sampled = {{{.token = kDriverEos}},
                                                          {{.token = 600}}};
  EXPECT_EQ(Count<SequenceEvent::BranchFinished>(driver->Commit(sampled)), 1);
  driver->CheckInvariants();
  ASSERT_EQ(driver.Plan().rows.size(), 2u);
  const StepPlan& ahead = driver.PlanAhead();
  ASSERT_EQ(ahead.rows.size(), 1u);
  EXPECT_EQ(ahead.rows[0].branch, 1);
  EXPECT_EQ(ahead.rows[0].drawn_row, 1);
  EXPECT_EQ(Count<SequenceEvent::Token>(driver.Commit(601)), 1) << "the other's is nobody's";
  EXPECT_EQ(driver.Plan().rows.size(), 1u);
}

TEST(PlanAheadTest, AnAbortWaitsForTheStepBehind) {
  for (const bool whole : {true, false}) {
    Driver driver;
    const SequenceId id = driver.AddDecoding(Prompt(4));
    driver.Plan();
    ASSERT_EQ(driver.PlanAhead().rows.size(), 1u);
    const int32_t taken = driver->Census().in_use;
    whole ? driver->Abort(id, false) : driver->AbortBranch(id, 0);
    driver->CheckInvariants();
    EXPECT_EQ(Count<SequenceEvent::Token>(driver.Commit()), 0) << whole;
    EXPECT_EQ(driver->Census().in_use, taken) << whole;
    driver.Plan();
    EXPECT_TRUE(driver.PlanAhead().empty()) << whole;
    EXPECT_EQ(Count<SequenceEvent::Token>(driver.Commit()), 0) << whole;
    EXPECT_EQ(driver->Census().in_use, 0) << whole;
  }
}

// A peer may write to landing blocks at any time.
TEST(PlanAheadTest, NobodyLandsInBlocksThatTheStepBehindWrites) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 3;
  options.prefix_caching = false;
  Driver driver(options);
  driver.AddDecoding(Prompt(6));
  driver.Plan();
  ASSERT_EQ(driver.PlanAhead().rows.size(), 1u);
  driver.Commit(kDriverEos);
  EXPECT_TRUE(absl::IsResourceExhausted(driver->Reserve(Prompt(6)).status()));
  driver.Plan();
  driver.Commit();
  EXPECT_TRUE(driver->Reserve(Prompt(6)).ok());
}

TEST(PlanAheadTest, NothingIsPlannedBesideWhatElseCouldRun) {
  {
    Driver driver;
    driver.AddDecoding(Prompt(4));
    driver.Add(Prompt(40, 2000));
    EXPECT_EQ(driver.Plan().rows.size(), 2u);
    EXPECT_TRUE(driver.PlanAhead().empty()) << "a prompt is computed";
  }
  {
    SchedulerOptions options = DriverOptions();
    options.max_batch_sequences = 1;
    Driver driver(options);
    driver.AddDecoding(Prompt(4));
    driver.Add(Prompt(4, 2000));
    driver.Plan();
    EXPECT_TRUE(driver.PlanAhead().empty()) << "a prompt waits";
  }
  {
    Driver driver;
    driver.AddDecoding(Prompt(4));
    const Reservation reservation = driver.Reserve(Prompt(4, 2000));
    driver.Plan();
    driver.Seal(reservation.sequence, {500});
    EXPECT_TRUE(driver.PlanAhead().empty()) << "a sealed sequence is to join";
  }
}

TEST(PlanAheadTest, NobodyGivesWayForIt) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 5;
  options.prefix_caching = false;
  Driver driver(options);
  driver.AddDecoding(Prompt(6));
  driver.AddDecoding(Prompt(6, 2000));
  driver.Plan();
  ASSERT_EQ(driver.PlanAhead().rows.size(), 2u) << "the last token in two blocks";
  driver.Commit();
  driver.Plan();
  EXPECT_TRUE(driver.PlanAhead().empty()) << "two need a block, one is there";
  driver.Commit();
  EXPECT_EQ(driver->preemptions_total(), 0u);
  EXPECT_EQ(driver.Plan().rows.size(), 1u) << "as without: the younger is preempted";
  EXPECT_EQ(driver->preemptions_total(), 1u);
}

TEST(PlanAheadDeathTest, AStepIsCommittedOnceItWasPlanned) {
  Driver driver;
  driver.AddDecoding(Prompt(4));
  EXPECT_DEATH(driver->PlanAhead(), "without an open step");
  driver.Plan();
  ASSERT_EQ(driver.PlanAhead().rows.size(), 1u);
  EXPECT_DEATH(driver->PlanAhead(), "twice");
  driver.Commit();
  EXPECT_DEATH(driver.Commit(), "that Plan has not given");
}

}  // namespace
}  // namespace baton
