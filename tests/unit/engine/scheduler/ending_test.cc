#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <optional>
#include <string>

#include "engine/scheduler/finish_rules.h"
#include "engine/scheduler/sequence.h"
#include "engine/scheduler/spec_check.h"
#include "tests/unit/engine/scheduler/driver.h"

namespace baton {
namespace {

using Event = SequenceEvent;

GenerationSpec Samples(int32_t n, int32_t max_tokens = 1000) {
  GenerationSpec spec = Prompt(6);
  spec.num_samples = n;
  spec.stopping.max_tokens = max_tokens;
  return spec;
}

TEST(FinishRulesTest, EachRuleGivesItsReason) {
  struct Row {
    TokenId token;
    int32_t index;
    int32_t num_tokens;
    bool ignore_eos;
    int32_t min_tokens;
    std::optional<FinishReason> reason;
    TokenId stop_token;
  };
  constexpr TokenId kStop = 9;
  const std::vector<Row> rows = {
      {5, 0, 11, false, 0, std::nullopt, -1},
      {kDriverEos, 0, 11, false, 0, FinishReason::kStop, kDriverEos},
      {kDriverEos, 0, 11, true, 0, std::nullopt, -1},
      {kStop, 0, 11, true, 0, FinishReason::kStop, kStop},
      {kDriverEos, 1, 12, false, 2, std::nullopt, -1},
      {kDriverEos, 2, 13, false, 2, FinishReason::kStop, kDriverEos},
      {5, 9, 20, false, 0, FinishReason::kLength, -1},
      {kDriverEos, 9, 20, false, 0, FinishReason::kStop, kDriverEos},
      {5, 3, 100, false, 0, FinishReason::kLength, -1},
      {5, 3, 99, false, 0, std::nullopt, -1},
  };
  for (const Row& row : rows) {
    GenerationSpec spec = Prompt(10);
    spec.stopping = {.max_tokens = 10,
                     .min_tokens = row.min_tokens,
                     .ignore_eos = row.ignore_eos,
                     .stop_token_ids = {kStop}};
    const auto finish =
        FinishOf(spec, DriverOptions(),
                 TokenOutput{.sample = 4, .index = row.index, .token = row.token}, row.num_tokens);
    SCOPED_TRACE(testing::Message() << "token " << row.token << " index " << row.index);
    ASSERT_EQ(finish.has_value(), row.reason.has_value());
    if (!finish) continue;
    EXPECT_EQ(finish->reason, *row.reason);
    EXPECT_EQ(finish->stop_token, row.stop_token);
    EXPECT_EQ(finish->output_tokens, row.index + 1);
    EXPECT_EQ(finish->sample, 4);
  }
}

TEST(SpecCheckTest, RefusesEveryFieldOutsideItsRange) {
  using Change = std::function<void(GenerationSpec&)>;
  const std::vector<std::pair<std::string, Change>> changes = {
      {"prompt_length", [](auto& s) { s.prompt_length = 0; }},
      {"prompt_length", [](auto& s) { s.prompt_length = 11; }},
      {"prompt_length", [](auto& s) { s.tokens.clear(); }},
      {"maximum context length is 100 tokens", [](auto& s) { s.tokens.resize(100, 1); }},
      {"KV blocks", [](auto& s) { s.tokens.resize(65, 1); }},
      {"tokens[3]", [](auto& s) { s.tokens[3] = 5000; }},
      {"tokens[3]", [](auto& s) { s.tokens[3] = -1; }},
      {"num_samples", [](auto& s) { s.num_samples = 0; }},
      {"num_samples", [](auto& s) { s.num_samples = 2, s.prompt_length = 9; }},
      {"first_sample", [](auto& s) { s.first_sample = -1; }},
      {"max_tokens", [](auto& s) { s.stopping.max_tokens = 0; }},
      {"max_tokens", [](auto& s) { s.stopping.max_tokens = 1, s.prompt_length = 9; }},
      {"min_tokens", [](auto& s) { s.stopping.min_tokens = -1; }},
      {"temperature", [](auto& s) { s.sampling.temperature = -0.1f; }},
      {"temperature", [](auto& s) { s.sampling.temperature = std::nanf(""); }},
      {"top_p", [](auto& s) { s.sampling.top_p = 0; }},
      {"top_p", [](auto& s) { s.sampling.top_p = 1.1f; }},
      {"min_p", [](auto& s) { s.sampling.min_p = -0.1f; }},
      {"top_k", [](auto& s) { s.sampling.top_k = -1; }},
      {"presence_penalty", [](auto& s) { s.sampling.presence_penalty = 1e30f; }},
      {"frequency_penalty", [](auto& s) { s.sampling.frequency_penalty = std::nanf(""); }},
      {"repetition_penalty", [](auto& s) { s.sampling.repetition_penalty = 0; }},
      {"num_logprobs", [](auto& s) { s.sampling.num_logprobs = -2; }},
      {"num_prompt_logprobs", [](auto& s) { s.sampling.num_prompt_logprobs = -2; }},
      {"logit_bias[3]",
       [](auto& s) {
         s.sampling.logit_bias = {{3, std::nanf("")}};
       }},
  };
  SchedulerOptions options = DriverOptions();
  options.vocab_size = 5000;
  EXPECT_TRUE(CheckSpec(Prompt(10), options).ok());
  for (const auto& [field, change] : changes) {
    GenerationSpec spec = Prompt(10);
    change(spec);
    const absl::Status status = CheckSpec(spec, options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(status.ToString(), ::testing::HasSubstr(field));
  }
}

TEST(AddTest, RefusesWhenTheWaitingListIsFull) {
  Driver driver;
  for (int i = 0; i < 4; ++i) driver.Add(Prompt(4));
  EXPECT_EQ(driver->Add(Prompt(4), SequenceMode::kGenerate).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(AbortTest, EndsASequenceInEveryPhaseWithoutEvents) {
  for (const bool during_step : {false, true}) {
    for (int phase = 0; phase < 5; ++phase) {
      SCOPED_TRACE(testing::Message() << "phase " << phase << " during a step " << during_step);
      Driver driver;
      SequenceId id;
      if (phase == 0) id = driver.Add(Prompt(30));  // waiting, or its first chunk
      if (phase >= 1 && phase <= 2) {
        id = driver.Add(phase == 1 ? Prompt(30) : Samples(3));  // half done; decoding
        driver.Step();
      }
      if (phase >= 3) id = driver.Reserve(Samples(2)).sequence;  // landing; sealed
      if (phase == 4) driver.Seal(id, {7, kDriverEos});
      if (during_step && driver.Plan().empty()) continue;
      driver->Abort(id, false);
      driver->CheckInvariants();
      driver->Abort(id, false);
      EXPECT_TRUE(!during_step || driver.Commit().empty());
      driver->LandingReleased(id);
      EXPECT_TRUE(driver->TakeEvents().empty());
      EXPECT_FALSE(driver->HasWork());
      EXPECT_EQ(driver->Census().free + driver->Census().cached, 16);
      EXPECT_EQ(driver->num_running() + driver->num_waiting(), 0);
    }
  }
}

TEST(AbortTest, TakesBackTheEventsOfASequenceThatEndedAtSeal) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Samples(2, 1));
  driver.Seal(reservation.sequence, {7, 8});
  driver->Abort(reservation.sequence, false);
  EXPECT_TRUE(driver->TakeEvents().empty());
}

TEST(AbortBranchTest, TheOthersGoOnAndTheLastOneGivesDone) {
  for (const bool during_step : {false, true}) {
    Driver driver;
    const SequenceId id = driver.Add(Samples(3));
    driver.Step();
    for (int32_t sample = 0; sample < 3; ++sample) {
      if (during_step) driver.Plan();
      driver->AbortBranch(id, sample);
      driver->AbortBranch(id, sample);
      driver->CheckInvariants();
      const auto events = during_step ? driver.Commit() : driver.Step();
      EXPECT_EQ(Count<Event::BranchFinished>(events), 0);
      EXPECT_EQ(Count<Event::Token>(events), 2 - sample);
      EXPECT_EQ(Count<Event::Done>(events), sample == 2 ? 1 : 0);
    }
    driver->AbortBranch(id, 0);
    EXPECT_FALSE(driver->HasWork());
    EXPECT_EQ(driver->Census().free + driver->Census().cached, 16);
  }
}

TEST(AbortBranchTest, BeforeTheForkItIsRemembered) {
  Driver driver;
  const Reservation reservation = driver.Reserve(Samples(3));
  driver->AbortBranch(reservation.sequence, 1);
  driver->AbortBranch(reservation.sequence, 99);
  driver.Seal(reservation.sequence, {7, 8, 9});
  EXPECT_EQ(driver.Plan().rows.size(), 2u);
  driver.Commit();
  const SequenceId id = driver.Add(Samples(2));
  driver->AbortBranch(id, 0);
  driver->AbortBranch(id, 1);
  EXPECT_EQ(Count<Event::Done>(driver.Step()), 1);
}

TEST(BranchPhaseTest, TheTransitionTableIsTheDocumentedOne) {
  using P = BranchPhase;
  const std::vector<std::pair<P, P>> legal = {
      {P::kWaiting, P::kPrefill}, {P::kPrefill, P::kDecode}, {P::kPrefill, P::kHeld},
      {P::kPrefill, P::kWaiting}, {P::kDecode, P::kWaiting}, {P::kLanding, P::kDecode}};
  for (int a = 0; a < kNumBranchPhases; ++a) {
    for (int b = 0; b < kNumBranchPhases; ++b) {
      const auto from = static_cast<P>(a), to = static_cast<P>(b);
      const bool ends = to == P::kFinished && from != P::kFinished;
      EXPECT_EQ(IsLegalTransition(from, to),
                ends || std::ranges::find(legal, std::pair(from, to)) != legal.end())
          << a << " to " << b;
    }
  }
}

}  // namespace
}  // namespace baton
