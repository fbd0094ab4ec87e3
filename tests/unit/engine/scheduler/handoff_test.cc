#include <gmock/gmock.h>

#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using Event = SequenceEvent;

TEST(PrefillSideTest, GivesTheFirstTokensAndHoldsItsBlocksUntilRelease) {
  Driver driver;
  GenerationSpec spec = Prompt(10);
  spec.num_samples = 2;
  spec.first_sample = 3;
  const SequenceId id = driver.Add(spec, SequenceMode::kPrefillOnly);
  const auto events = driver.Step();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(std::get<Event::Token>(events[0].what).output.sample, 3);
  EXPECT_EQ(std::get<Event::Token>(events[1].what).output.sample, 4);
  EXPECT_EQ(std::get<Event::Token>(events[1].what).output.index, 0);
  EXPECT_TRUE(std::holds_alternative<Event::PromptDone>(events[2].what));
  EXPECT_EQ(driver->Census().in_use, 3);
  EXPECT_FALSE(driver->HasWork());
  driver->Release(id);
  EXPECT_EQ(driver->Census().cached, 2);
  EXPECT_EQ(driver->Census().free, 14);
  driver->Release(id);
}

TEST(PrefillSideTest, AFirstTokenThatEndsTheSampleIsLeftToTheDecodeSide) {
  Driver driver;
  driver.Add(Prompt(4), SequenceMode::kPrefillOnly);
  const auto events = driver.Step(kDriverEos);
  EXPECT_EQ(Count<Event::BranchFinished>(events), 0);
  EXPECT_EQ(Count<Event::PromptDone>(events), 1);
}

TEST(PrefillSideTest, AbortKeepsWhatIsBeingSentUntilRelease) {
  Driver driver;
  const SequenceId half = driver.Add(Prompt(30), SequenceMode::kPrefillOnly);
  driver.Step();
  driver->Abort(half, /*keep_pinned=*/true);
  driver->CheckInvariants();
  EXPECT_EQ(driver->num_running(), 0);
  EXPECT_EQ(driver->Census().in_use, 4) << "16 tokens were computed";
  EXPECT_EQ(driver->Census().reserved, 4);
  driver->Abort(half, true);
  EXPECT_EQ(driver->Census().in_use, 4);
  driver->Release(half);
  EXPECT_EQ(driver->Census().in_use + driver->Census().reserved, 0);
  // Not being sent: gone at once.
  const SequenceId other = driver.Add(Prompt(30, 5000), SequenceMode::kPrefillOnly);
  driver.Step();
  driver->Abort(other, false);
  EXPECT_EQ(driver->Census().in_use + driver->Census().reserved, 0);
}

TEST(PrefillSideTest, AbortAndReleaseDuringAStepTakeEffectAtCommit) {
  for (const bool released_too : {false, true}) {
    Driver driver;
    const SequenceId id = driver.Add(Prompt(10), SequenceMode::kPrefillOnly);
    driver.Plan();
    driver->Abort(id, true);
    if (released_too) driver->Release(id);
    EXPECT_EQ(driver->Census().in_use, 3) << "the forward pass still writes";
    EXPECT_TRUE(driver.Commit().empty());
    EXPECT_EQ(driver->Census().in_use, released_too ? 0 : 3);
    driver->Release(id);
    EXPECT_EQ(driver->Census().in_use, 0);
  }
}

TEST(DecodeSideTest, LandsSealsAndDecodesAfterTheFirstToken) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Prompt(10));
  EXPECT_EQ(reservation.first_missing_token, 0);
  EXPECT_EQ(reservation.landing_blocks.size(), 3u);
  EXPECT_EQ(driver->Census().landing, 3);
  EXPECT_FALSE(driver->HasWork()) << "H4: nothing runs before Seal";
  driver.Seal(reservation.sequence, {77});
  EXPECT_EQ(driver->Census().sealed, 3);
  const StepPlan::Row& row = driver.Plan().rows.at(0);
  EXPECT_EQ(driver->Census().in_use, 3);
  EXPECT_EQ(row.start_position, 10);
  EXPECT_THAT(row.tokens, ElementsAre(77));
  EXPECT_FALSE(row.is_prefill);
  const auto events = driver.Commit();
  EXPECT_EQ(First<Event::Token>(events).output.index, 1) << "prefill showed token 0";
}

TEST(DecodeSideTest, LandedBlocksAreAPrefixForTheNextOne) {
  Driver driver;
  const Reservation first = driver.Reserve(Prompt(12));
  EXPECT_TRUE(driver.Reserve(Prompt(12)).first_missing_token == 0) << "not verified yet";
  driver.Seal(first.sequence, {77});
  const Reservation second = driver.Reserve(Prompt(12));
  EXPECT_EQ(second.first_missing_token, 12) << "even the last full block: prefill draws the token";
  EXPECT_TRUE(second.landing_blocks.empty());
  EXPECT_EQ(driver.Reserve(Prompt(14)).landing_blocks.size(), 1u);
  driver.Seal(second.sequence, {88});
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
  EXPECT_EQ(driver.Commit().size(), 2u);
}

TEST(DecodeSideTest, SamplesForkAtSeal) {
  Driver driver;
  GenerationSpec spec = Prompt(6);
  spec.num_samples = 3;
  const Reservation reservation = driver.Reserve(spec);
  EXPECT_EQ(reservation.landing_blocks.size(), 2u) << "one prompt for all samples";
  driver.Seal(reservation.sequence, {7, 8, kDriverEos});
  const auto finished = driver->TakeEvents();
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(First<Event::BranchFinished>(finished).finish.sample, 2);
  EXPECT_EQ(First<Event::BranchFinished>(finished).finish.stop_token, kDriverEos);
  EXPECT_EQ(First<Event::BranchFinished>(finished).finish.output_tokens, 1);
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
  EXPECT_EQ(driver.plan->copies.size(), 1u);
  driver.Commit();
}

TEST(DecodeSideTest, AFirstTokenMayEndEverything) {
  Driver driver;
  GenerationSpec spec = Prompt(6);
  spec.stopping.max_tokens = 1;
  const Reservation reservation = driver.Reserve(spec);
  driver.Seal(reservation.sequence, {7});
  EXPECT_TRUE(driver->HasWork()) << "its events wait to be taken";
  const auto events = driver.Step();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(First<Event::BranchFinished>(events).finish.reason, FinishReason::kLength);
  EXPECT_EQ(Count<Event::Done>(events), 1);
  EXPECT_EQ(driver->Census().free + driver->Census().cached, 16);
}

TEST(DecodeSideTest, AnAbortedReservationIsQuarantinedUntilTheTransportLetsGo) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Prompt(10));
  driver->Abort(reservation.sequence, false);
  driver->Abort(reservation.sequence, false);
  driver->CheckInvariants();
  EXPECT_EQ(driver->Census().quarantined, 3);
  EXPECT_EQ(driver->Seal(reservation.sequence, std::vector<TokenId>{7}).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(driver->Census().free, 13);
  driver->LandingReleased(reservation.sequence);
  EXPECT_EQ(driver->Census().free, 16);
  driver->LandingReleased(reservation.sequence);
  driver->CheckInvariants();
}

TEST(DecodeSideTest, TheTransportMayLetGoBeforeTheAbort) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Prompt(10));
  driver->LandingReleased(reservation.sequence);
  EXPECT_EQ(driver->Census().landing, 3);
  driver->Abort(reservation.sequence, false);
  EXPECT_EQ(driver->Census().free, 16);
}

TEST(DecodeSideTest, LandingReleasedLeavesASealedSequenceAlone) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Prompt(10));
  driver.Seal(reservation.sequence, {7});
  driver->LandingReleased(reservation.sequence);
  EXPECT_EQ(driver->Census().sealed, 3);
  EXPECT_EQ(driver.Plan().rows.size(), 1u);
  driver.Commit();
}

TEST(DecodeSideTest, RefusesAtOnceWhenThereIsNoRoom) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 6;
  Driver driver(options);
  driver.Reserve(Prompt(16));
  const auto refused = driver->Reserve(Prompt(12, 3000));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.status().ToString(), ::testing::HasSubstr("2 KV blocks available"));
  driver->CheckInvariants();
  EXPECT_EQ(driver->Census().landing, 4);
  EXPECT_EQ(driver->Reserve(Prompt(25)).status().code(), absl::StatusCode::kInvalidArgument)
      << "7 blocks never fit";
}

TEST(DecodeSideTest, ReservationsCountAgainstTheBatch) {
  SchedulerOptions options = DriverOptions();
  options.max_batch_sequences = 2;
  Driver driver(options);
  driver.Reserve(Prompt(2, 1000));
  driver.Reserve(Prompt(2, 2000));
  EXPECT_EQ(driver->Reserve(Prompt(2, 3000)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(DecodeSideTest, PreemptedSequencesComeBeforeNewReservations) {
  SchedulerOptions options = DriverOptions();
  options.num_blocks = 5;
  options.prefix_caching = false;
  Driver driver(options);
  driver.Add(Prompt(8, 1000));
  driver.Add(Prompt(7, 2000));
  while (driver->preemptions_total() == 0) driver.Step();
  EXPECT_EQ(driver->Reserve(Prompt(1, 3000)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(DecodeSideTest, SealRefusesWhatDoesNotFitTheReservation) {
  SchedulerOptions options = DriverOptions();
  options.vocab_size = 2000;
  Driver driver(options);
  const auto seal = [&](SequenceId id, std::vector<TokenId> tokens) {
    return driver->Seal(id, tokens).code();
  };
  EXPECT_EQ(seal(SequenceId(99), {1}), absl::StatusCode::kNotFound);
  const Reservation reservation = driver.Reserve(Prompt(4));
  EXPECT_EQ(seal(reservation.sequence, {}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(seal(reservation.sequence, {7, 7}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(seal(reservation.sequence, {2000}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(seal(reservation.sequence, {-1}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(seal(reservation.sequence, {7}), absl::StatusCode::kOk);
  EXPECT_EQ(seal(reservation.sequence, {7}), absl::StatusCode::kFailedPrecondition);
}

TEST(DecodeSideTest, ReserveAndSealDuringAStepLeaveThePlanAlone) {
  Driver driver;
  const SequenceId running = driver.Add(Prompt(4, 1000));
  const Reservation first = driver.Reserve(Prompt(6, 2000));
  driver.Plan();
  driver.Seal(first.sequence, {7});
  const Reservation second = driver.Reserve(Prompt(6, 3000));
  ASSERT_EQ(driver.plan->rows.size(), 1u);
  EXPECT_EQ(driver.plan->rows[0].sequence, running);
  EXPECT_EQ(driver.plan->rows[0].tokens[0], 1000);
  EXPECT_EQ(Count<Event::Token>(driver.Commit()), 1);
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
  driver.Commit();
  EXPECT_EQ(driver->Census().landing, static_cast<int32_t>(second.landing_blocks.size()));
}

TEST(DecodeSideTest, AResumedSequenceContinuesItsIndexes) {
  Driver driver;
  GenerationSpec spec = Prompt(10);
  spec.prompt_length = 7;  // three tokens were emitted by an earlier attempt
  spec.first_sample = 2;
  const SequenceId id = driver.Add(spec);
  auto events = driver.Step();
  EXPECT_EQ(First<Event::Token>(events).output.index, 3);
  EXPECT_EQ(First<Event::Token>(events).output.sample, 2);
  driver->Abort(id, false);
  const Reservation reservation = driver.Reserve(spec);
  driver.Seal(reservation.sequence, {7});
  events = driver.Step();
  EXPECT_EQ(First<Event::Token>(events).output.index, 4);
}

}  // namespace
}  // namespace baton
