#include "worker/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "tests/unit/worker/session_client.h"

namespace baton {
namespace {

using testing::HasSubstr;

RequestKey Key(uint64_t request, uint32_t attempt) { return {RequestId(request), attempt}; }

const CommandLimits kLimits{.max_model_len = 100, .vocab_size = 50};

GenerationSpec SampleSpec() {
  return {
      .tokens = {1, 2, 49},
      .prompt_length = 3,
      .num_samples = 2,
      .first_sample = 1,
      .sampling = {.temperature = 0.5f,
                   .top_p = 0.9f,
                   .min_p = 0.1f,
                   .top_k = 40,
                   .presence_penalty = 1.0f,
                   .frequency_penalty = -1.0f,
                   .repetition_penalty = 1.2f,
                   .seed = ~uint64_t{0},
                   .logit_bias = {{3, 5.0f}},
                   .num_logprobs = 4,
                   .num_prompt_logprobs = 0},
      .stopping = {.max_tokens = 20, .min_tokens = 2, .ignore_eos = true, .stop_token_ids = {7}},
      .cache_salt = 99};
}

TEST(Convert, ASpecComesBackAsItWas) {
  const GenerationSpec spec = SampleSpec();
  v1::GenerationSpec wire;
  SpecToProto(spec, &wire);
  const auto back = SpecFromProto(wire, kLimits);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->tokens, spec.tokens);
  EXPECT_EQ(back->prompt_length, spec.prompt_length);
  EXPECT_EQ(back->num_samples, spec.num_samples);
  EXPECT_EQ(back->first_sample, spec.first_sample);
  EXPECT_EQ(back->sampling, spec.sampling);
  EXPECT_EQ(back->stopping, spec.stopping);
  EXPECT_EQ(back->cache_salt, spec.cache_salt);
}

TEST(Convert, RefusesEveryNumberOutOfItsBoundsNamingTheField) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinite = std::numeric_limits<float>::infinity();
  struct Case {
    const char* field;
    std::function<void(v1::GenerationSpec&)> spoil;
  };
  const std::vector<Case> cases = {
      {"number of tokens", [](auto& s) { s.clear_tokens(); }},
      {"number of tokens", [](auto& s) { s.mutable_tokens()->Resize(100, 1); }},
      {"token", [](auto& s) { s.set_tokens(0, 50); }},
      {"token", [](auto& s) { s.set_tokens(0, -1); }},
      {"prompt_length", [](auto& s) { s.set_prompt_length(0); }},
      {"prompt_length", [](auto& s) { s.set_prompt_length(4); }},
      {"num_samples", [](auto& s) { s.set_num_samples(0); }},
      {"num_samples", [](auto& s) { s.set_num_samples(kMaxHandoffSamples + 1); }},
      {"num_samples", [](auto& s) { s.set_prompt_length(2); }},  // resumed with two samples
      {"first_sample", [](auto& s) { s.set_first_sample(-1); }},
      {"temperature", [](auto& s) { s.mutable_sampling()->set_temperature(-0.1f); }},
      {"temperature", [&](auto& s) { s.mutable_sampling()->set_temperature(nan); }},
      {"temperature", [&](auto& s) { s.mutable_sampling()->set_temperature(infinite); }},
      {"top_p", [](auto& s) { s.mutable_sampling()->set_top_p(0.0f); }},
      {"top_p", [](auto& s) { s.mutable_sampling()->set_top_p(1.1f); }},
      {"min_p", [](auto& s) { s.mutable_sampling()->set_min_p(1.1f); }},
      {"top_k", [](auto& s) { s.mutable_sampling()->set_top_k(-1); }},
      {"presence_penalty", [&](auto& s) { s.mutable_sampling()->set_presence_penalty(nan); }},
      {"frequency_penalty", [&](auto& s) { s.mutable_sampling()->set_frequency_penalty(nan); }},
      {"repetition_penalty", [](auto& s) { s.mutable_sampling()->set_repetition_penalty(0); }},
      {"num_logprobs", [](auto& s) { s.mutable_sampling()->set_num_logprobs(-2); }},
      {"num_logprobs", [](auto& s) { s.mutable_sampling()->set_num_logprobs(129); }},
      {"num_prompt_logprobs", [](auto& s) { s.mutable_sampling()->set_num_prompt_logprobs(129); }},
      {"logit_bias token",
       [](auto& s) { s.mutable_sampling()->mutable_logit_bias(0)->set_token(50); }},
      {"logit_bias", [&](auto& s) { s.mutable_sampling()->mutable_logit_bias(0)->set_bias(nan); }},
      {"number of logit_bias",
       [](auto& s) {
         for (int i = 0; i < 4096; ++i) s.mutable_sampling()->add_logit_bias();
       }},
      {"max_tokens", [](auto& s) { s.mutable_stopping()->set_max_tokens(0); }},
      {"max_tokens", [](auto& s) { s.mutable_stopping()->set_max_tokens(101); }},
      {"min_tokens", [](auto& s) { s.mutable_stopping()->set_min_tokens(21); }},
      {"stop_token_ids", [](auto& s) { s.mutable_stopping()->set_stop_token_ids(0, 50); }},
      {"number of stop_token_ids",
       [](auto& s) { s.mutable_stopping()->mutable_stop_token_ids()->Resize(257, 1); }},
      {"max_tokens",
       [](auto& s) {  // all of the output is there already
         s.set_num_samples(1);
         s.set_prompt_length(2);
         s.mutable_stopping()->set_min_tokens(0);
         s.mutable_stopping()->set_max_tokens(1);
       }},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    v1::GenerationSpec wire;
    SpecToProto(SampleSpec(), &wire);
    cases[i].spoil(wire);
    const auto spec = SpecFromProto(wire, kLimits);
    ASSERT_FALSE(spec.ok());
    EXPECT_TRUE(absl::IsInvalidArgument(spec.status()));
    EXPECT_THAT(std::string(spec.status().message()), HasSubstr(cases[i].field));
  }
}

v1::RouterMessage SamplePrefill() {
  v1::RouterMessage message;
  v1::Prefill* prefill = message.mutable_prefill();
  KeyToProto(5, 2, prefill->mutable_key());
  SpecToProto(SampleSpec(), prefill->mutable_spec());
  prefill->set_deadline_ms(1500);
  prefill->set_lease_ms(2500);
  prefill->set_ticket(EncodeTicket({.key = Key(5, 2), .num_blocks = 1, .mac = {77}}));
  prefill->mutable_destination()->set_host("10.0.0.1");
  prefill->mutable_destination()->set_port(9000);
  prefill->mutable_destination()->set_boot_id(42);
  prefill->mutable_destination()->set_machine_id("here");
  return message;
}

TEST(Convert, APrefillCarriesItsTicketAndDestination) {
  const auto command = CommandFromProto(SamplePrefill(), kLimits);
  ASSERT_TRUE(command.ok()) << command.status();
  const auto& prefill = std::get<PrefillCommand>(*command);
  EXPECT_EQ(prefill.key, Key(5, 2));
  EXPECT_EQ(prefill.deadline, absl::Milliseconds(1500));
  EXPECT_EQ(prefill.lease, absl::Milliseconds(2500));
  EXPECT_EQ(prefill.ticket.mac[0], 77);
  EXPECT_EQ(prefill.peer, (PeerAddress{"10.0.0.1", 9000, 42, "here"}));
}

TEST(Convert, AReserveWithoutALeaseGetsOneAndMayHaveNoDeadline) {
  v1::RouterMessage message;
  KeyToProto(5, 2, message.mutable_reserve()->mutable_key());
  SpecToProto(SampleSpec(), message.mutable_reserve()->mutable_spec());
  const auto command = CommandFromProto(message, kLimits);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(std::get<ReserveCommand>(*command).lease, kLimits.default_lease);
  EXPECT_EQ(std::get<ReserveCommand>(*command).deadline, absl::InfiniteDuration());
}

TEST(Convert, AnObjectiveIsCountedFromArrivalAndMayBeMissedAlready) {
  v1::RouterMessage message = SamplePrefill();
  message.mutable_prefill()->mutable_objective()->set_ttft_left_ms(-12.5f);
  message.mutable_prefill()->mutable_objective()->set_tpot_ms(40);
  const auto prefill = CommandFromProto(message, kLimits);
  ASSERT_TRUE(prefill.ok()) << prefill.status();
  const ObjectiveLeft objective = std::get<PrefillCommand>(*prefill).objective;
  EXPECT_EQ(objective.ttft_left, absl::Milliseconds(-12.5));
  EXPECT_EQ(objective.tpot_ms, 40);
  message.mutable_prefill()->clear_objective();
  EXPECT_EQ(std::get<PrefillCommand>(*CommandFromProto(message, kLimits)).objective.ttft_left,
            absl::InfiniteDuration());
  for (const float nonsense : {std::numeric_limits<float>::quiet_NaN(), 1e30f}) {
    v1::RouterMessage generate;
    SpecToProto(SampleSpec(), generate.mutable_generate()->mutable_spec());
    generate.mutable_generate()->mutable_objective()->set_ttft_left_ms(nonsense);
    EXPECT_THAT(CommandFromProto(generate, kLimits).status().ToString(),
                testing::HasSubstr("ttft_left_ms"));
    v1::RouterMessage reserve;
    SpecToProto(SampleSpec(), reserve.mutable_reserve()->mutable_spec());
    reserve.mutable_reserve()->mutable_objective()->set_tpot_ms(nonsense);
    EXPECT_THAT(CommandFromProto(reserve, kLimits).status().ToString(),
                testing::HasSubstr("tpot_ms"));
  }
}

TEST(Convert, RefusesAPrefillThatCannotBeSent) {
  const std::vector<std::function<void(v1::Prefill&)>> spoils = {
      [](auto& p) { p.set_ticket("garbage"); },
      [](auto& p) { p.clear_ticket(); },
      [](auto& p) { p.set_ticket(std::string(1000, 'x')); },
      [](auto& p) { p.set_first_missing_token(-1); },
      [](auto& p) { p.set_first_missing_token(4); },
      [](auto& p) { p.mutable_destination()->set_port(0); },
      [](auto& p) { p.mutable_destination()->set_port(65536); },
      [](auto& p) { p.mutable_destination()->clear_host(); },
      [](auto& p) { p.mutable_destination()->set_host(std::string(300, 'h')); },
      [](auto& p) { p.set_deadline_ms(-1); },
      [](auto& p) { p.set_lease_ms(std::numeric_limits<int32_t>::max()); },
      [](auto& p) { p.clear_spec(); },
  };
  for (size_t i = 0; i < spoils.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    v1::RouterMessage message = SamplePrefill();
    spoils[i](*message.mutable_prefill());
    EXPECT_FALSE(CommandFromProto(message, kLimits).ok());
    EXPECT_EQ(RefusableKey(message), Key(5, 2));
  }
}

TEST(Convert, AbortsNameASampleOrAll) {
  v1::RouterMessage message;
  KeyToProto(5, 2, message.mutable_abort()->mutable_key());
  EXPECT_FALSE(std::get<AbortCommand>(*CommandFromProto(message, kLimits)).sample.has_value());
  message.mutable_abort()->set_sample(0);
  EXPECT_EQ(std::get<AbortCommand>(*CommandFromProto(message, kLimits)).sample, 0);
  EXPECT_EQ(RefusableKey(message), std::nullopt);
  EXPECT_FALSE(CommandFromProto(v1::RouterMessage(), kLimits).ok());
}

TEST(Convert, RepliesKeepWhatTheySay) {
  v1::WorkerMessage message;
  ReplyToProto({Key(5, 2), TokensReply{.tokens = {{.sample = 1,
                                                   .index = 3,
                                                   .token = 9,
                                                   .logprob = -0.5f,
                                                   .top_logprobs = {{9, -0.5f}, {8, -1.0f}}}},
                                       .with_logprobs = true}},
               &message);
  ASSERT_TRUE(message.has_tokens());
  EXPECT_EQ(message.tokens().key().request(), 5u);
  EXPECT_EQ(message.tokens().key().attempt(), 2u);
  EXPECT_EQ(message.tokens().tokens(0).logprob(), -0.5f);
  EXPECT_EQ(message.tokens().tokens(0).top_logprobs_size(), 2);

  ReplyToProto({Key(5, 2), TokensReply{.tokens = {{.token = 9}}}}, &message);
  EXPECT_FALSE(message.tokens().tokens(0).has_logprob());

  ReplyToProto({Key(5, 2), FinishedReply{.finish = {.sample = 1,
                                                    .reason = FinishReason::kStop,
                                                    .stop_token = 4,
                                                    .output_tokens = 12},
                                         .cached_tokens = 8,
                                         .times = {.queue = absl::Milliseconds(1),
                                                   .prefill = absl::Milliseconds(2),
                                                   .decode_queue = absl::Milliseconds(3),
                                                   .decode = absl::Milliseconds(4)}}},
               &message);
  EXPECT_EQ(message.finished().finish_reason(), "stop");
  EXPECT_EQ(message.finished().stop_token(), 4);
  EXPECT_EQ(message.finished().queue_ms(), 1.0);
  EXPECT_EQ(message.finished().prefill_ms(), 2.0);
  EXPECT_EQ(message.finished().decode_queue_ms(), 3.0);
  EXPECT_EQ(message.finished().decode_ms(), 4.0);
}

TEST(Convert, AStatusTellsTheAgeOfTheStepThatRuns) {
  const absl::Time now = absl::UnixEpoch() + absl::Seconds(10);
  StatusSnapshot snapshot{.steps_completed = 4};
  v1::WorkerStatus status;
  StatusToProto(snapshot, 1, now, &status);
  EXPECT_EQ(status.current_step_age_ms(), 0.0);
  snapshot.step_started = now - absl::Milliseconds(250);
  StatusToProto(snapshot, 2, now, &status);
  EXPECT_EQ(status.current_step_age_ms(), 250.0);
  EXPECT_EQ(status.steps_completed(), 4u);
}

TEST(Convert, KvBatchesKeepTheirNumberAndOrder) {
  v1::KvEvents events;
  KvBatchToProto(
      {.sequence = 9, .snapshot = true, .changes = {.removed = {5, 4}, .stored = {~0ull}}},
      &events);
  EXPECT_EQ(events.sequence(), 9u);
  EXPECT_TRUE(events.snapshot());
  EXPECT_THAT(events.removed(), testing::ElementsAre(5, 4));
  EXPECT_THAT(events.stored(), testing::ElementsAre(~0ull));
  v1::RouterMessage resync;
  resync.mutable_kv_resync();
  const auto command = CommandFromProto(resync, kLimits);
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_TRUE(std::holds_alternative<KvResyncCommand>(*command));
  EXPECT_EQ(RefusableKey(resync), std::nullopt);
}

TEST(Convert, AStatusTellsTheWorkAtHandAndTheFactors) {
  const StatusSnapshot snapshot{.step_time = {.measured_ms = 750, .calibrated_ms = 250},
                                .prefill_factors = SizeFactors(1.5f),
                                .decode_factors = SizeFactors(0.75f),
                                .step_error_ratio = 0.0625,
                                .work_at_hand = {.prefill_tokens = 3000,
                                                 .prefill_pairs = 1e12,
                                                 .decode_rows = 7,
                                                 .decode_context = int64_t{1} << 40}};
  v1::WorkerStatus status;
  StatusToProto(snapshot, 1, absl::UnixEpoch(), &status);
  ASSERT_EQ(status.prefill_factors_size(), SizeFactors::kSizes);
  EXPECT_EQ(status.prefill_factors(3), 1.5);
  EXPECT_EQ(status.decode_factors(SizeFactors::kSizes - 1), 0.75);
  EXPECT_EQ(status.step_error_ratio(), 0.0625);
  EXPECT_EQ(status.step_ms_total(), 750);
  EXPECT_EQ(status.calibrated_step_ms_total(), 250);
  EXPECT_EQ(status.decode_rows(), 7);
  EXPECT_EQ(status.decode_context_tokens(), int64_t{1} << 40);
  EXPECT_EQ(status.prefill_tokens_left(), 3000);
  EXPECT_EQ(status.prefill_pairs_left(), 1e12);
}

}  // namespace
}  // namespace baton
