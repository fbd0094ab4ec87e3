#include "router/link/proto_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <random>

#include "proto/baton/v1/worker.pb.h"
#include "router/link/worker_link.h"

namespace baton::router {
namespace {

const WorkerOrigin kFrom{WorkerIndex(1), SessionId(2)};

v1::WorkerMessage GoodWelcome() {
  v1::WorkerMessage message;
  v1::Welcome* welcome = message.mutable_welcome();
  welcome->set_role(v1::WORKER_ROLE_DECODE);
  welcome->set_block_size(16);
  welcome->set_max_model_len(100);
  welcome->set_vocab_size(10);
  return message;
}

TEST(FromProto, BlockCountsThatNoPoolHasStillAddUp) {
  v1::WorkerMessage message;
  v1::BlockCensus* blocks = message.mutable_status()->mutable_blocks();
  for (auto set :
       {&v1::BlockCensus::set_free, &v1::BlockCensus::set_cached, &v1::BlockCensus::set_reserved,
        &v1::BlockCensus::set_landing, &v1::BlockCensus::set_sealed, &v1::BlockCensus::set_in_use,
        &v1::BlockCensus::set_quarantined}) {
    (blocks->*set)(INT32_MAX);
  }
  const auto event = FromProto(kFrom, message);
  ASSERT_TRUE(event.ok()) << event.status();
  const WorkerReport& report = std::get<WorkerReportEvent>(*event).report;
  EXPECT_GT(report.available_blocks(), report.free_blocks);
  EXPECT_GT(report.busy_blocks, report.free_blocks);
}

TEST(FromProto, RefusesWhatIsMissingOrOutOfRange) {
  using Edit = std::function<void(v1::WorkerMessage&)>;
  const std::pair<const char*, Edit> cases[] = {
      {"empty", [](v1::WorkerMessage&) {}},
      {"role", [](auto& m) { m = GoodWelcome(), m.mutable_welcome()->clear_role(); }},
      {"unknown role",
       [](auto& m) {
         m = GoodWelcome();
         m.mutable_welcome()->set_role(static_cast<v1::WorkerRole>(77));
       }},
      {"block size", [](auto& m) { m = GoodWelcome(), m.mutable_welcome()->set_block_size(0); }},
      {"credits", [](auto& m) { m = GoodWelcome(), m.mutable_welcome()->set_prefill_credits(-1); }},
      {"refusal reason", [](auto& m) { m.mutable_refused(); }},
      {"first missing token", [](auto& m) { m.mutable_reserved()->set_first_missing_token(-1); }},
      {"sample", [](auto& m) { m.mutable_tokens()->add_tokens()->set_sample(-1); }},
      {"index", [](auto& m) { m.mutable_tokens()->add_tokens()->set_index(-1); }},
      {"token", [](auto& m) { m.mutable_prompt_logprobs()->add_tokens()->set_token(-5); }},
      {"finish reason", [](auto& m) { m.mutable_finished()->set_finish_reason("tired"); }},
      {"finish sample",
       [](auto& m) {
         m.mutable_finished()->set_finish_reason("stop");
         m.mutable_finished()->set_sample(-1);
       }},
      {"too many top logprobs",
       [](auto& m) {
         v1::TokenOutput* token = m.mutable_tokens()->add_tokens();
         for (int i = 0; i < 5000; ++i) token->add_top_logprobs();
       }},
  };
  for (const auto& [name, edit] : cases) {
    v1::WorkerMessage message;
    edit(message);
    EXPECT_TRUE(absl::IsInvalidArgument(FromProto(kFrom, message).status())) << name;
  }
  v1::WorkerMessage good = GoodWelcome();
  EXPECT_TRUE(FromProto(kFrom, good).ok());
}

TEST(FromProto, NonsenseTimesAndCountsBecomeZero) {
  v1::WorkerMessage message;
  message.mutable_prefill_done()->set_prefill_ms(std::numeric_limits<double>::quiet_NaN());
  message.mutable_prefill_done()->set_queue_ms(-5);
  message.mutable_prefill_done()->set_cached_tokens(-5);
  const absl::StatusOr<Event> event = FromProto(kFrom, message);
  ASSERT_TRUE(event.ok());
  const auto& done = std::get<PrefillDoneEvent>(*event);
  EXPECT_EQ(done.prefill_ms, 0);
  EXPECT_EQ(done.queue_ms, 0);
  EXPECT_EQ(done.cached_tokens, 0);
  EXPECT_EQ(done.from.worker, kFrom.worker);
  EXPECT_EQ(done.from.session, kFrom.session);
}

TEST(FromProto, ReadsStepModelsAndTakesNonsenseAsNone) {
  v1::WorkerMessage message = GoodWelcome();
  v1::StepModel* model = message.mutable_welcome()->mutable_step_model();
  model->set_prefill_base_ms(1);
  model->set_prefill_token_ms(0.5);
  model->set_decode_row_ms(0.25);
  model->set_profiled_prefill_tokens(512);
  const auto up = [](v1::WorkerMessage from) {
    return std::get<WorkerUpEvent>(*FromProto(kFrom, from)).info.step_model;
  };
  EXPECT_TRUE(up(message).known());
  EXPECT_EQ(up(message).prefill_token_ms, 0.5);
  EXPECT_EQ(up(message).decode_row_ms, 0.25);
  EXPECT_FALSE(up(GoodWelcome()).known()) << "absent";
  model->set_decode_context_ms(-1);
  EXPECT_FALSE(up(message).known());
}

TEST(FromProto, ReadsTheWorkAtHandAndCorrections) {
  v1::WorkerMessage message;
  v1::WorkerStatus* status = message.mutable_status();
  for (const float factor : {1.0f, 1.5f, -3.0f, 2.0f}) status->add_prefill_factors(factor);
  status->set_decode_rows(7);
  status->set_decode_context_tokens(700);
  status->set_prefill_tokens_left(300);
  status->set_prefill_pairs_left(9e4);
  status->set_step_ms_total(std::numeric_limits<double>::infinity());
  status->set_calibrated_step_ms_total(250);
  const WorkerReport report = std::get<WorkerReportEvent>(*FromProto(kFrom, message)).report;
  EXPECT_EQ(report.prefill_factors.At(2), 1.5);
  EXPECT_EQ(report.prefill_factors.At(4), 1) << "nonsense";
  EXPECT_EQ(report.prefill_factors.At(1000), 2) << "the last one goes on";
  EXPECT_EQ(report.decode_factors, SizeFactors())
      << "a worker that says none is taken at its model's word";
  EXPECT_EQ(report.step_time.measured_ms, 0) << "nonsense";
  EXPECT_EQ(report.step_time.calibrated_ms, 250);
  EXPECT_EQ(report.decode_rows, 7);
  EXPECT_EQ(report.decode_context, 700);
  EXPECT_EQ(report.prefill_tokens_left, 300);
  EXPECT_EQ(report.prefill_pairs_left, 9e4);
}

void AddToken(int32_t index, v1::WorkerMessage* batch) {
  v1::Tokens* tokens = batch->mutable_batch()->add_messages()->mutable_tokens();
  tokens->mutable_key()->set_request(9);
  tokens->add_tokens()->set_index(index);
}

TEST(EventsFromProto, GivesTheMessagesOfABatchInOrder) {
  v1::WorkerMessage message;
  AddToken(5, &message);
  AddToken(6, &message);
  message.mutable_batch()->add_messages()->mutable_finished()->set_finish_reason("length");
  const auto events = EventsFromProto(kFrom, message);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 3u);
  EXPECT_EQ(std::get<TokensEvent>((*events)[0]).tokens.at(0).index, 5);
  EXPECT_EQ(std::get<TokensEvent>((*events)[1]).tokens.at(0).index, 6);
  EXPECT_TRUE(std::holds_alternative<FinishedEvent>((*events)[2]));
}

TEST(EventsFromProto, TakesAMessageThatIsNoBatch) {
  v1::WorkerMessage message = GoodWelcome();
  const auto events = EventsFromProto(kFrom, message);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_EQ(events->size(), 1u);
}

TEST(EventsFromProto, RefusesBatchesThatAreEmptyTooLongNestedOrBadInside) {
  using Edit = std::function<void(v1::Batch&)>;
  const std::pair<const char*, Edit> cases[] = {
      {"empty", [](v1::Batch&) {}},
      {"too long",
       [](v1::Batch& batch) {
         for (int32_t i = 0; i <= kMaxBatchMessages; ++i) batch.add_messages()->mutable_status();
       }},
      {"nested",
       [](v1::Batch& batch) {
         batch.add_messages()->mutable_batch()->add_messages()->mutable_status();
       }},
      {"welcome", [](v1::Batch& batch) { *batch.add_messages() = GoodWelcome(); }},
      {"bad inside", [](v1::Batch& batch) {
         batch.add_messages()->mutable_status();
         batch.add_messages()->mutable_tokens()->add_tokens()->set_index(-1);
       }}};
  for (const auto& [name, edit] : cases) {
    v1::WorkerMessage message;
    edit(*message.mutable_batch());
    EXPECT_TRUE(absl::IsInvalidArgument(EventsFromProto(kFrom, message).status())) << name;
  }
}

TEST(FromProto, ReadsKvEvents) {
  v1::WorkerMessage message;
  v1::KvEvents* events = message.mutable_kv_events();
  events->set_sequence(9);
  events->set_snapshot(true);
  events->add_stored(1);
  events->add_stored(2);
  events->add_removed(3);
  const auto event = std::get<KvCacheEvent>(*FromProto(kFrom, message));
  EXPECT_EQ(event.from.worker, kFrom.worker);
  EXPECT_EQ(event.sequence, 9u);
  EXPECT_TRUE(event.snapshot);
  EXPECT_THAT(event.stored, ::testing::ElementsAre(1, 2));
  EXPECT_THAT(event.removed, ::testing::ElementsAre(3));
}

TEST(ToProto, EveryCommandCarriesItsObjective) {
  const auto spec = std::make_shared<GenerationSpec>();
  const Objective objective{.ttft_left_ms = -5, .tpot_ms = 40};
  v1::RouterMessage message;
  ToProto(SendReserve{.spec = spec, .objective = objective}, &message);
  EXPECT_EQ(message.reserve().objective().ttft_left_ms(), -5);
  EXPECT_EQ(message.reserve().objective().tpot_ms(), 40);
  ToProto(SendPrefill{.spec = spec, .objective = objective}, &message);
  EXPECT_EQ(message.prefill().objective().tpot_ms(), 40);
  ToProto(SendGenerate{.spec = spec, .objective = objective}, &message);
  EXPECT_EQ(message.generate().objective().ttft_left_ms(), -5);
  ToProto(SendKvResync{WorkerIndex(0)}, &message);
  EXPECT_TRUE(message.has_kv_resync());
}

TEST(FromProto, RandomBytesNeverCrash) {
  const uint64_t seed = 31;
  std::mt19937_64 random(seed);
  int parsed = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = GoodWelcome().SerializeAsString();
    for (size_t i = 1 + random() % 8; i > 0; --i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    v1::WorkerMessage message;
    if (!message.ParseFromString(bytes)) continue;
    ++parsed;
    const absl::StatusOr<Event> event = FromProto(kFrom, message);
    EXPECT_TRUE(event.ok() || absl::IsInvalidArgument(event.status())) << "seed " << seed;
  }
  EXPECT_GT(parsed, 100);
}

TEST(ToProto, CarriesTheWholeSpecAndNeverAnEndlessDeadline) {
  auto spec = std::make_shared<GenerationSpec>();
  spec->tokens = {1, 2, 3};
  spec->prompt_length = 2;
  spec->num_samples = 1;
  spec->first_sample = 4;
  spec->cache_salt = 99;
  spec->sampling = {.temperature = 0.5f,
                    .top_p = 0.9f,
                    .min_p = 0.1f,
                    .top_k = 7,
                    .presence_penalty = 1,
                    .frequency_penalty = 2,
                    .repetition_penalty = 3,
                    .seed = 11,
                    .logit_bias = {{5, -1.5f}},
                    .num_logprobs = 2,
                    .num_prompt_logprobs = 0};
  spec->stopping = {.max_tokens = 9, .min_tokens = 1, .ignore_eos = true, .stop_token_ids = {8}};
  v1::RouterMessage message;
  ToProto(SendReserve{.worker = WorkerIndex(0),
                      .key = {RequestId(5), 6},
                      .spec = spec,
                      .time_left = absl::Microseconds(10),
                      .lease = absl::InfiniteDuration()},
          &message);
  const v1::Reserve& reserve = message.reserve();
  EXPECT_EQ(reserve.key().request(), 5u);
  EXPECT_EQ(reserve.key().attempt(), 6u);
  EXPECT_EQ(reserve.deadline_ms(), 1) << "0 would mean none";
  EXPECT_EQ(reserve.lease_ms(), 24 * 3600 * 1000);
  const v1::GenerationSpec& out = reserve.spec();
  EXPECT_THAT(out.tokens(), ::testing::ElementsAre(1, 2, 3));
  EXPECT_EQ(out.prompt_length(), 2);
  EXPECT_EQ(out.first_sample(), 4);
  EXPECT_EQ(out.cache_salt(), 99u);
  EXPECT_EQ(out.sampling().temperature(), 0.5f);
  EXPECT_EQ(out.sampling().top_k(), 7);
  EXPECT_EQ(out.sampling().repetition_penalty(), 3);
  EXPECT_EQ(out.sampling().seed(), 11u);
  EXPECT_EQ(out.sampling().logit_bias(0).bias(), -1.5f);
  EXPECT_EQ(out.sampling().num_logprobs(), 2);
  EXPECT_EQ(out.sampling().num_prompt_logprobs(), 0);
  EXPECT_EQ(out.stopping().max_tokens(), 9);
  EXPECT_TRUE(out.stopping().ignore_eos());
  EXPECT_THAT(out.stopping().stop_token_ids(), ::testing::ElementsAre(8));
}

TEST(ReconnectPause, GrowsToItsLimitAndIsNeverLessThanHalf) {
  const LinkOptions options{.reconnect_min = absl::Milliseconds(100),
                            .reconnect_max = absl::Seconds(1)};
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(ReconnectPause(options, 0, 0), absl::Milliseconds(50));
  EXPECT_LE(ReconnectPause(options, 0, most), absl::Milliseconds(100));
  EXPECT_EQ(ReconnectPause(options, 2, 0), absl::Milliseconds(200));
  EXPECT_EQ(ReconnectPause(options, 30, 0), absl::Milliseconds(500));
  EXPECT_LE(ReconnectPause(options, 30, most), absl::Seconds(1));
}

}  // namespace
}  // namespace baton::router
