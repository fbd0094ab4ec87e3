#include <gmock/gmock.h>

#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using Event = SequenceEvent;

TEST(PlannerTest, CutsAPromptIntoChunksThatEndOnBlocks) {
  Driver driver;
  driver.Add(Prompt(39));
  std::vector<int32_t> starts, lengths, samples;
  for (int i = 0; i < 3; ++i) {
    const StepPlan::Row& row = driver.Plan().rows.at(0);
    starts.push_back(row.start_position);
    lengths.push_back(static_cast<int32_t>(row.tokens.size()));
    samples.push_back(row.num_samples);
    EXPECT_TRUE(row.is_prefill);
    EXPECT_EQ(row.ends_prompt, i == 2);
    EXPECT_EQ(row.first_logit_token, i == 2 ? lengths.back() - 1 : lengths.back());
    driver.Commit();
  }
  EXPECT_THAT(starts, ElementsAre(0, 16, 32));
  EXPECT_THAT(lengths, ElementsAre(16, 16, 7));
  EXPECT_THAT(samples, ElementsAre(0, 0, 1));
  const StepPlan::Row& decode = driver.Plan().rows.at(0);
  EXPECT_FALSE(decode.is_prefill);
  EXPECT_EQ(decode.start_position, 39);
  EXPECT_THAT(decode.tokens, ElementsAre(500));
}

TEST(PlannerTest, DecodeRowsComeFirstAndPrefillGetsTheRestOfTheBudget) {
  SchedulerOptions options = DriverOptions();
  options.max_batch_tokens = 10;
  Driver driver(options);
  driver.Add(Prompt(3, 1000));
  driver.Add(Prompt(3, 2000));
  driver.Step();
  driver.Add(Prompt(30, 3000));
  const StepPlan& plan = driver.Plan();
  ASSERT_EQ(plan.rows.size(), 3u);
  EXPECT_FALSE(plan.rows[0].is_prefill);
  EXPECT_FALSE(plan.rows[1].is_prefill);
  EXPECT_TRUE(plan.rows[2].is_prefill);
  EXPECT_EQ(plan.rows[2].tokens.size(), 8u) << "10 tokens less 2 decode rows";
  EXPECT_EQ(plan.num_tokens, 10);
}

TEST(PlannerTest, WaitingSequencesStartInOrderAndNothingOvertakes) {
  SchedulerOptions options = DriverOptions();
  options.max_batch_tokens = 100;
  options.prefill_chunk_tokens = 100;
  options.num_blocks = 10;
  Driver driver(options);
  const SequenceId first = driver.Add(Prompt(24, 1000));   // 6 blocks
  const SequenceId second = driver.Add(Prompt(24, 2000));  // 6: does not fit now
  driver.Add(Prompt(4, 3000));                             // 1: would fit
  ASSERT_EQ(driver.Plan().rows.size(), 1u);
  EXPECT_EQ(driver.plan->rows[0].sequence, first);
  driver.Commit();
  EXPECT_EQ(driver->num_waiting(), 2);
  driver->Abort(first, false);
  ASSERT_GE(driver.Plan().rows.size(), 1u);
  EXPECT_EQ(driver.plan->rows[0].sequence, second);
}

TEST(PlannerTest, ANewcomerLeavesABlockForEachDecodingBranch) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 6;
  Driver driver(options);
  driver.Add(Prompt(7, 1000));  // 2 blocks
  driver.Add(Prompt(7, 2000));  // 2 blocks
  driver.Step();
  EXPECT_EQ(driver->num_running(), 2);
  driver.Add(Prompt(3, 3000));  // 1 block of 2, but 2 branches may grow
  driver.Step();
  EXPECT_EQ(driver->num_waiting(), 1);
  EXPECT_EQ(driver->preemptions_total(), 0u);
}

TEST(PlannerTest, AFullBatchAdmitsNoMore) {
  SchedulerOptions options = DriverOptions();
  options.max_batch_sequences = 2;
  Driver driver(options);
  for (int i = 0; i < 3; ++i) driver.Add(Prompt(3, 1000 * (i + 1)));
  driver.Step();
  EXPECT_EQ(driver->num_running(), 2);
  EXPECT_EQ(driver->num_waiting(), 1);
}

TEST(PlannerTest, MoreSamplesThanTheBatchHoldsStillRunOldestFirst) {
  SchedulerOptions options = DriverOptions();
  options.max_batch_sequences = 2;
  Driver driver(options);
  GenerationSpec spec = Prompt(3);
  spec.num_samples = 5;
  spec.stopping.max_tokens = 3;
  driver.Add(spec);
  int finished = 0;
  for (int i = 0; i < 20 && driver->HasWork(); ++i) {
    EXPECT_LE(driver.Plan().rows.size(), 2u);
    finished += Count<Event::BranchFinished>(driver.Commit());
  }
  EXPECT_EQ(finished, 5);
}

TEST(PlannerTest, APrefixHitSkipsFullBlocksButNeverTheWholePrompt) {
  Driver driver;
  const SequenceId first = driver.Add(Prompt(12));
  driver.Step();
  driver->Abort(first, false);
  EXPECT_EQ(driver->Census().cached, 3);
  driver.Add(Prompt(12));
  const StepPlan::Row& row = driver.Plan().rows.at(0);
  EXPECT_EQ(row.start_position, 8) << "the last block is computed again: its logits are needed";
  EXPECT_EQ(row.tokens.size(), 4u);
  EXPECT_EQ(driver->prefix_hit_tokens_total(), 8u);
  EXPECT_EQ(driver->prefix_query_tokens_total(), 24u);
}

TEST(PlannerTest, PromptLogprobsSwitchPrefixHitsOff) {
  Driver driver;
  const SequenceId first = driver.Add(Prompt(12));
  driver.Step();
  driver->Abort(first, false);
  GenerationSpec spec = Prompt(12);
  spec.sampling.num_prompt_logprobs = 0;
  driver.Add(spec);
  const StepPlan::Row& row = driver.Plan().rows.at(0);
  EXPECT_EQ(row.start_position, 0);
  EXPECT_EQ(row.first_logit_token, 0);
}

TEST(PlannerTest, SamplesShareThePromptAndCopyItsPartialBlock) {
  Driver driver;
  GenerationSpec spec = Prompt(6);
  spec.num_samples = 3;
  const SequenceId id = driver.Add(spec);
  EXPECT_EQ(driver.Plan().rows.at(0).num_samples, 3);
  driver.Commit();
  EXPECT_EQ(driver->num_running(), 3);
  EXPECT_EQ(driver->Census().in_use, 2) << "all share both blocks";
  const StepPlan& plan = driver.Plan();
  EXPECT_EQ(plan.copies.size(), 2u) << "the last one may write in place";
  EXPECT_EQ(plan.rows.size(), 3u);
  std::vector<BlockId> second_blocks;
  for (int32_t branch = 0; branch < 3; ++branch) {
    EXPECT_EQ(driver->BlockTable(id, branch)[0], driver->BlockTable(id, 0)[0]);
    second_blocks.push_back(driver->BlockTable(id, branch)[1]);
  }
  std::ranges::sort(second_blocks);
  EXPECT_EQ(std::ranges::adjacent_find(second_blocks), second_blocks.end());
  driver.Commit();
  EXPECT_EQ(driver->Census().in_use, 4);
}

TEST(PlannerTest, AFullLastBlockIsNotCopied) {
  Driver driver;
  GenerationSpec spec = Prompt(8);
  spec.num_samples = 3;
  driver.Add(spec);
  driver.Step();
  EXPECT_TRUE(driver.Plan().copies.empty());
  driver.Commit();
}

TEST(PlannerTest, ACopySourceIsHeldUntilTheCopyIsDone) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 3;
  Driver driver(options);
  GenerationSpec spec = Prompt(6);
  spec.num_samples = 3;
  driver.Add(spec);
  driver.Step();
  // The first sample gets the last block; the others are preempted and let go of the source.
  EXPECT_EQ(driver.Plan().copies.size(), 1u);
  EXPECT_EQ(driver->preemptions_total(), 2u);
  EXPECT_EQ(driver->Census().in_use, 3);
  driver.Commit();
  EXPECT_EQ(driver->Census().in_use, 2);
}

TEST(PlannerTest, OutOfBlocksPreemptsTheYoungestWhichGoesOnLater) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 5;
  options.prefix_caching = false;
  Driver driver(options);
  GenerationSpec old_spec = Prompt(8, 1000), young_spec = Prompt(7, 2000);
  old_spec.stopping.max_tokens = 5;
  young_spec.stopping.max_tokens = 5;
  const SequenceId older = driver.Add(old_spec);
  const SequenceId younger = driver.Add(young_spec);
  std::vector<int32_t> young_indexes;
  int done = 0;
  for (int i = 0; i < 30 && driver->HasWork(); ++i) {
    for (const Event& event : driver.Step()) {
      if (event.sequence == younger && std::holds_alternative<Event::Token>(event.what)) {
        young_indexes.push_back(std::get<Event::Token>(event.what).output.index);
      }
      done += std::holds_alternative<Event::Done>(event.what);
      EXPECT_FALSE(event.sequence == younger && done == 0 &&
                   std::holds_alternative<Event::Done>(event.what))
          << older << " is served first";
    }
  }
  EXPECT_EQ(done, 2);
  EXPECT_GE(driver->preemptions_total(), 1u);
  EXPECT_THAT(young_indexes, ElementsAre(0, 1, 2, 3, 4)) << "no token twice, none missing";
  EXPECT_EQ(driver->Census().free, 5);
}

TEST(PlannerTest, APrefillOnlySequenceIsNeverPreempted) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 6;
  options.prefix_caching = false;
  Driver driver(options);
  const SequenceId decoding = driver.Add(Prompt(8, 1000));
  driver.Step();
  const SequenceId pinned = driver.Add(Prompt(8, 2000), SequenceMode::kPrefillOnly);
  // 3 + 2 blocks and one to grow; when that is full the decoding one must wait.
  for (int i = 0; i < 12; ++i) driver.Step();
  EXPECT_EQ(driver->BlockTable(pinned, 0).size(), 2u);
  EXPECT_EQ(driver->num_running(), 0);
  EXPECT_EQ(driver->num_waiting(), 1);
  EXPECT_FALSE(driver->HasWork()) << "it waits for the pinned blocks";
  driver->Release(pinned);
  EXPECT_TRUE(driver->HasWork());
  EXPECT_EQ(driver.Plan().rows.at(0).sequence, decoding);
}

TEST(PlannerTest, NotEvenInTheMiddleOfItsPrompt) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 7;
  options.max_batch_tokens = 2;  // one token of the prompt beside each decode row
  options.prefix_caching = false;
  Driver driver(options);
  driver.Add(Prompt(8, 1000));
  while (driver->num_waiting() > 0 || driver.Step().empty()) driver.Step();
  const SequenceId pinned = driver.Add(Prompt(12, 2000), SequenceMode::kPrefillOnly);
  driver.Step();
  ASSERT_EQ(driver->BlockTable(pinned, 0).size(), 3u);
  const auto table = driver->BlockTable(pinned, 0);
  const std::vector<BlockId> blocks(table.begin(), table.end());
  while (driver->preemptions_total() == 0) driver.Step();
  EXPECT_THAT(driver->BlockTable(pinned, 0), ::testing::ElementsAreArray(blocks));
  EXPECT_EQ(driver->num_running(), 1) << "the older, decoding one gave way";
  int done = 0;
  for (int i = 0; i < 20; ++i) done += Count<Event::PromptDone>(driver.Step());
  EXPECT_EQ(done, 1);
}

TEST(PlannerTest, ALoneSequenceThatOutgrowsThePoolFails) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 3;
  Driver driver(options);
  driver.Add(Prompt(8));
  std::vector<SequenceEvent> last;
  int tokens = 0;
  for (int i = 0; i < 20 && driver->HasWork(); ++i) {
    last = driver.Step();
    tokens += Count<Event::Token>(last);
  }
  EXPECT_EQ(tokens, 5) << "12 tokens fit; the thirteenth, drawn from them, does not";
  ASSERT_EQ(Count<Event::Failed>(last), 1);
  EXPECT_THAT(First<Event::Failed>(last).status.ToString(), ::testing::HasSubstr("kv_exhausted"));
  EXPECT_FALSE(driver->HasWork());
  EXPECT_EQ(driver->Census().free + driver->Census().cached, 3);
}

TEST(PlannerTest, HasWorkIsTrueWhileSomethingCanRun) {
  Driver driver;
  EXPECT_FALSE(driver->HasWork());
  EXPECT_TRUE(driver.Plan().empty());
  GenerationSpec spec = Prompt(3);
  spec.stopping.max_tokens = 1;
  driver.Add(spec);
  EXPECT_TRUE(driver->HasWork());
  driver.Step();
  EXPECT_FALSE(driver->HasWork());
}

TEST(PlannerTest, TellsTheWorkAtHand) {
  Driver driver;
  const SequenceId first = driver.Add(Prompt(12));
  driver.Step();
  driver->Abort(first, false);
  EXPECT_EQ(driver->WorkAtHand().prefill_tokens, 0);
  driver.Add(Prompt(3, 5000));
  driver.Step();  // decodes with 4 tokens
  driver.Add(Prompt(20, 3000));
  driver.Step();           // a chunk of 16
  driver.Add(Prompt(12));  // 8 of them are cached
  StepShape work = driver->WorkAtHand();
  EXPECT_EQ(work.decode_rows, 1);
  EXPECT_EQ(work.decode_context, 5);
  StepShape left = StepShape::Prefill(4, 16);
  left += StepShape::Prefill(4, 8);
  EXPECT_EQ(work.prefill_tokens, left.prefill_tokens);
  EXPECT_EQ(work.prefill_pairs, left.prefill_pairs);
}

TEST(PlannerDeathTest, PlanAndCommitAlternate) {
  Driver driver;
  driver.Add(Prompt(3));
  EXPECT_DEATH((void)driver->Commit({}), "Commit without Plan");
  driver.Plan();
  EXPECT_DEATH((void)driver->Plan(), "Plan before Commit");
  EXPECT_DEATH((void)driver->Commit({}), "0 of 1 rows");
  const std::vector<std::vector<SampledToken>> none(1);
  EXPECT_DEATH((void)driver->Commit(none), "0 tokens for 1 samples");
}

}  // namespace
}  // namespace baton
