// The small pure parts: fence, deadlines, sessions, conversion, pages and tables.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "tests/unit/worker/session_client.h"
#include "worker/attempt_fence.h"
#include "worker/convert.h"
#include "worker/deadline_queue.h"
#include "worker/health_page.h"
#include "worker/session_table.h"
#include "worker/startup_table.h"
#include "worker/status_loop.h"

namespace baton {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RequestKey Key(uint64_t request, uint32_t attempt) { return {RequestId(request), attempt}; }

// ------------------------------------------------------------------ fence and deadlines

TEST(AttemptFence, RefusesEqualAndLowerAttemptsOnceOneIsAccepted) {
  AttemptFence fence;
  EXPECT_TRUE(fence.IsFresh(Key(1, 0)));
  fence.Accept(Key(1, 5));
  EXPECT_FALSE(fence.IsFresh(Key(1, 5)));
  EXPECT_FALSE(fence.IsFresh(Key(1, 4)));
  EXPECT_TRUE(fence.IsFresh(Key(1, 6)));
  EXPECT_TRUE(fence.IsFresh(Key(2, 0)));
}

TEST(AttemptFence, ForgetsTheOldestRequestBeyondItsCapacity) {
  AttemptFence fence(2);
  fence.Accept(Key(1, 1));
  fence.Accept(Key(2, 1));
  fence.Accept(Key(1, 2));  // the same request: no new entry
  EXPECT_EQ(fence.size(), 2u);
  fence.Accept(Key(3, 1));
  EXPECT_EQ(fence.size(), 2u);
  EXPECT_TRUE(fence.IsFresh(Key(1, 1)));
  EXPECT_FALSE(fence.IsFresh(Key(2, 1)));
}

TEST(DeadlineQueue, GivesWhatIsDueInOrderAndNothingElse) {
  const absl::Time start = absl::UnixEpoch();
  DeadlineQueue queue;
  EXPECT_EQ(queue.Next(), absl::InfiniteFuture());
  queue.Add(start + absl::Seconds(2), Key(2, 1));
  queue.Add(start + absl::Seconds(1), Key(1, 1));
  queue.Add(start + absl::Seconds(1), Key(3, 1));
  queue.Add(absl::InfiniteFuture(), Key(4, 1));
  queue.Remove(start + absl::Seconds(1), Key(3, 1));
  EXPECT_EQ(queue.Next(), start + absl::Seconds(1));
  EXPECT_TRUE(queue.TakeDue(start).empty());
  EXPECT_THAT(queue.TakeDue(start + absl::Seconds(5)), ElementsAre(Key(1, 1), Key(2, 1)));
  EXPECT_EQ(queue.size(), 0u);
}

// ------------------------------------------------------------------ sessions

class SessionTableTest : public testing::Test {
 protected:
  absl::Status Admit(uint64_t session, HelloInfo hello) {
    replaced_.clear();
    return table_.Admit(SessionId(session), hello, now_, &replaced_);
  }
  HelloInfo Hello(const std::string& router, uint64_t epoch, int32_t lease_ms = 1000) const {
    return {.router_id = router,
            .router_epoch = epoch,
            .protocol_version = 1,
            .lease_ms = lease_ms,
            .model_fingerprint = 0};
  }
  void Open(uint64_t session) { ASSERT_TRUE(table_.Open(SessionId(session), now_).ok()); }

  absl::Time now_ = absl::UnixEpoch();
  SessionTable table_{{.protocol_version = 1, .model_fingerprint = 0xabc, .max_sessions = 3}};
  std::vector<SessionId> replaced_;
};

TEST_F(SessionTableTest, RefusesAnotherProtocolOrModelNamingBoth) {
  Open(1);
  HelloInfo hello = Hello("r", 1);
  hello.protocol_version = 2;
  absl::Status status = Admit(1, hello);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 2, this worker 1"));
  hello = Hello("r", 1);
  hello.model_fingerprint = 0xdef;
  status = Admit(1, hello);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("0000000000000def"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("0000000000000abc"));
  hello.model_fingerprint = 0xabc;
  EXPECT_TRUE(Admit(1, hello).ok());
}

TEST_F(SessionTableTest, ANewSessionOfARouterReplacesItsOldOneUnlessItsEpochIsOver) {
  Open(1);
  EXPECT_TRUE(Admit(1, Hello("r", 5)).ok());
  Open(2);
  EXPECT_TRUE(Admit(2, Hello("other", 1)).ok());
  EXPECT_TRUE(replaced_.empty());
  Open(3);
  EXPECT_TRUE(Admit(3, Hello("r", 6)).ok());
  EXPECT_THAT(replaced_, ElementsAre(SessionId(1)));
  Open(4);
  const absl::Status status = Admit(4, Hello("r", 5));
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("epoch 5 of router r is over"));
  table_.End(SessionId(3));
  EXPECT_FALSE(Admit(4, Hello("r", 5)).ok()) << "an epoch stays over when its successor leaves";
}

TEST_F(SessionTableTest, SessionsExpireWithoutHelloOrHeartbeat) {
  Open(1);
  Open(2);
  ASSERT_TRUE(Admit(2, Hello("r", 1, /*lease_ms=*/2000)).ok());
  EXPECT_FALSE(table_.Heartbeat(SessionId(1), now_)) << "not admitted";
  now_ += absl::Milliseconds(1900);
  EXPECT_TRUE(table_.Heartbeat(SessionId(2), now_));
  now_ += absl::Milliseconds(1900);
  EXPECT_TRUE(table_.TakeExpired(now_).empty());
  now_ += absl::Milliseconds(100);
  auto expired = table_.TakeExpired(now_);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].session, SessionId(2));
  EXPECT_THAT(expired[0].reason, HasSubstr("no heartbeat of router r for 2s"));
  now_ += absl::Seconds(5);
  expired = table_.TakeExpired(now_);
  ASSERT_EQ(expired.size(), 1u);
  EXPECT_EQ(expired[0].session, SessionId(1));
  EXPECT_THAT(expired[0].reason, HasSubstr("no Hello"));
}

TEST_F(SessionTableTest, RefusesMoreSessionsThanItMayHold) {
  Open(1);
  Open(2);
  Open(3);
  EXPECT_TRUE(absl::IsResourceExhausted(table_.Open(SessionId(4), now_)));
  table_.End(SessionId(2));
  EXPECT_TRUE(table_.Open(SessionId(4), now_).ok());
}

// ------------------------------------------------------------------ conversion

const RequestLimits kLimits{.max_model_len = 100, .vocab_size = 50};

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
  prefill->set_ticket(EncodeTicket({.key = Key(5, 2), .nonce = 77, .num_blocks = 1}));
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
  EXPECT_EQ(prefill.ticket.nonce, 77u);
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

// ------------------------------------------------------------------ pages and tables

TEST(HealthPage, SaysWhatThePhaseIs) {
  HealthFacts facts{.load_done_bytes = 30, .load_total_bytes = 120, .version = "1.2.3"};
  EXPECT_EQ(HealthPage("/livez", facts).status, 200);
  EXPECT_EQ(HealthPage("/readyz", facts).status, 503);
  EXPECT_EQ(HealthPage("/readyz", facts).body, "loading 25%\n");
  facts.phase = WorkerPhase::kReady;
  EXPECT_EQ(HealthPage("/readyz", facts).status, 200);
  EXPECT_EQ(HealthPage("/health", facts).status, 200);
  facts.phase = WorkerPhase::kDraining;
  EXPECT_EQ(HealthPage("/readyz", facts).status, 503);
  EXPECT_EQ(HealthPage("/livez", facts).status, 200);
  facts.phase = WorkerPhase::kBroken;
  EXPECT_EQ(HealthPage("/livez", facts).status, 503);
  EXPECT_EQ(HealthPage("/version", facts).body, "{\"version\": \"1.2.3\"}\n");
  EXPECT_EQ(HealthPage("/nothing", facts).status, 404);
}

TEST(StatsLine, IsSilentWhenNothingRan) {
  StatusSnapshot before{.steps_completed = 10};
  EXPECT_TRUE(MakeStatsLine(before, before, absl::Seconds(10)).silent);
  StatusSnapshot now = before;
  now.steps_completed = 20;
  now.role.prompt_tokens = 500;
  now.role.generation_tokens = 1000;
  now.blocks = {.free = 60, .in_use = 25, .cached = 15};
  now.prefix_query_tokens_total = 200;
  now.prefix_hit_tokens_total = 50;
  const StatsLine line = MakeStatsLine(before, now, absl::Seconds(10));
  EXPECT_FALSE(line.silent);
  EXPECT_DOUBLE_EQ(line.prompt_tokens_per_s, 50.0);
  EXPECT_DOUBLE_EQ(line.generation_tokens_per_s, 100.0);
  EXPECT_DOUBLE_EQ(line.kv_usage_percent, 25.0);
  EXPECT_DOUBLE_EQ(line.prefix_hit_percent, 25.0);
}

TEST(StartupTable, RendersAlignedRowsWithWholeContexts) {
  const StartupTable table = MakeStartupTable(
      {.worker_id = "decode-0",
       .role = "decode",
       .model = {.name = "demo",
                 .architecture = "LlamaForCausalLM",
                 .weight_dtype = "bf16",
                 .max_model_len = 100,
                 .num_parameters = 2500000,
                 .weight_bytes = 5000000,
                 .kernels = "avx2"},
       .kv_layout = {.num_layers = 2, .num_kv_heads = 1, .head_dim = 64, .block_size = 16},
       .num_blocks = 25,
       .max_batch_sequences = 8,
       .num_threads = 1,
       .transport = "auto",
       .control_port = 9100});
  const std::string text = RenderStartupTable(table);
  EXPECT_THAT(text, HasSubstr("decode-0 (decode)\n  model"));
  EXPECT_THAT(text, HasSubstr("demo (LlamaForCausalLM, 2.5 M parameters)"));
  EXPECT_THAT(text, HasSubstr("25 of 16 tokens"));
  EXPECT_THAT(text, HasSubstr("4.0 whole contexts fit; 8 samples in a batch"));
  EXPECT_THAT(text, HasSubstr("admin port    none\n"));
}

}  // namespace
}  // namespace baton
