// The small pure parts: fence, deadlines, sessions, pages and tables.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/attempt_fence.h"
#include "worker/deadline_queue.h"
#include "worker/health_page.h"
#include "worker/load_meter.h"
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

TEST(LoadMeter, TellsRateAndWhatIsLeft) {
  constexpr int64_t kGib = int64_t{1} << 30;
  const absl::Time begin = absl::UnixEpoch();
  LoadMeter meter(begin);
  EXPECT_FALSE(meter.Update(kGib, 8 * kGib, begin + absl::Seconds(1)));
  EXPECT_EQ(meter.point().Numbers(), "1 of 8 GiB, 1.07 GB/s, 7s left");
  EXPECT_EQ(meter.point().Bar(), "[##..................]  12 %  1 of 8 GiB, 1.07 GB/s, 7s left");
  EXPECT_TRUE(meter.Update(2 * kGib, 8 * kGib, begin + absl::Seconds(5)));
  EXPECT_FALSE(meter.Update(3 * kGib, 8 * kGib, begin + absl::Seconds(9)));
  EXPECT_TRUE(meter.Update(4 * kGib, 8 * kGib, begin + absl::Seconds(10)));
  meter.Update(8 * kGib, 8 * kGib, begin + absl::Milliseconds(12500));
  EXPECT_EQ(meter.point().InTotal(), "8 GiB in 12.5s (0.687 GB/s)");
}

TEST(LoadMeter, DoesNotGuess) {
  LoadMeter meter(absl::UnixEpoch());
  EXPECT_EQ(meter.point().Bar(), "[....................]   0 %  0 GiB, 0 GB/s");
  meter.Update(0, 1 << 20, absl::UnixEpoch() + absl::Seconds(1));
  EXPECT_EQ(meter.point().Numbers(), "0 of 0.000977 GiB, 0 GB/s");
  meter.Update(5 << 20, 0, absl::UnixEpoch());
  EXPECT_EQ(meter.point().gb_per_s(), 0);
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
       .kv_copies = 4,
       .num_blocks = 25,
       .max_batch_sequences = 8,
       .num_threads = 1,
       .placement = "threads on any CPU; memory from any node",
       .step_model = {.prefill_base_ms = 1,
                      .prefill_token_ms = 0.1,
                      .decode_base_ms = 2,
                      .decode_row_ms = 0.5,
                      .profiled_prefill_tokens = 256,
                      .profiled_decode_rows = 8,
                      .profiled_context_tokens = 4096},
       .transport = "auto",
       .control_port = 9100});
  const std::string text = RenderStartupTable(table);
  EXPECT_THAT(text, HasSubstr("decode-0 (decode)\n  model"));
  EXPECT_THAT(text, HasSubstr("demo (LlamaForCausalLM, 2.5 M parameters)"));
  EXPECT_THAT(text, HasSubstr("25 of 16 tokens (0.000763 GiB, 400 tokens, 4 copies of each head)"));
  EXPECT_THAT(text, HasSubstr("4.0 whole contexts fit; 8 samples in a batch"));
  EXPECT_THAT(text, HasSubstr("admin port    none\n"));
  EXPECT_THAT(text, HasSubstr("placement     threads on any CPU; memory from any node\n"));
  EXPECT_THAT(text, HasSubstr("step times    prefill 52.2 ms (extrapolated) for 512 tokens; decode "
                              "2.5 ms for 1 row, 6 ms for 8\n"));
}

}  // namespace
}  // namespace baton
