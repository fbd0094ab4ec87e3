#include "prefill_worker/prefill_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "tests/unit/worker/fakes.h"

namespace baton {
namespace {

constexpr SessionId kRouter(1);
constexpr SessionId kOtherRouter(2);
constexpr RequestKey kKey{RequestId(7), 1};
constexpr int32_t kLayers = 2;
constexpr int32_t kBlockSize = 4;

GenerationSpec SpecOf(int32_t tokens, int32_t samples) {
  return {.tokens = std::vector<TokenId>(static_cast<size_t>(tokens), 5),
          .prompt_length = tokens,
          .num_samples = samples};
}

PrefillCommand CommandOf(RequestKey key, int32_t tokens = 6, int32_t first_missing = 0,
                         int32_t samples = 1) {
  const int32_t first_block = first_missing / kBlockSize;
  return {.key = key,
          .spec = SpecOf(tokens, samples),
          .deadline = absl::Seconds(60),
          .lease = absl::Seconds(10),
          .ticket = {.key = key,
                     .first_block = first_block,
                     .num_blocks = BlocksForTokens(tokens, kBlockSize) - first_block},
          .first_missing_token = first_missing};
}

// A core with recording ports, and each event that can reach it.
struct Bench {
  explicit Bench(int32_t credits = 4)
      : core({.num_layers = kLayers, .block_size = kBlockSize, .credits = credits}, scheduler,
             sender, routers) {}

  Trace trace;
  FakeScheduler scheduler{trace};
  FakeSender sender{trace};
  FakeRouters routers{trace};
  PrefillCore core;
  absl::Time now = absl::UnixEpoch();
  const std::vector<TokenId> row_tokens = std::vector<TokenId>(64, 5);
  const std::vector<BlockId> table = [] {
    std::vector<BlockId> blocks;
    for (int32_t i = 0; i < 16; ++i) blocks.push_back(BlockId(100 + i));
    return blocks;
  }();

  void Prefill(PrefillCommand command, SessionId session = kRouter) {
    core.OnCommand(session, std::move(command), now);
  }
  void Abort(SessionId session, std::optional<int32_t> sample = std::nullopt) {
    core.OnCommand(session, AbortCommand{kKey, sample}, now);
  }
  StepPlan PlanOf(SequenceId sequence, int32_t start, int32_t count, bool ends_prompt) const {
    StepPlan plan;
    plan.rows.push_back({.sequence = sequence,
                         .tokens = std::span(row_tokens).first(static_cast<size_t>(count)),
                         .start_position = start,
                         .block_table = table,
                         .is_prefill = true,
                         .ends_prompt = ends_prompt});
    return plan;
  }
  void Layer(int32_t layer) { core.OnLayer(layer, PlanOf(SequenceId(1), 0, 6, true), now); }
  void Engine(std::vector<SequenceEvent> events) {
    core.OnStep({.events = std::move(events)}, now);
  }
  void Token() { Engine({{SequenceId(1), SequenceEvent::Token{{.token = 42}}}}); }
  void PromptDone() { Engine({{SequenceId(1), SequenceEvent::PromptDone{}}}); }
  void EngineFailed() {
    Engine({{SequenceId(1), SequenceEvent::Failed{absl::ResourceExhaustedError("full")}}});
  }
  void Sender(decltype(SenderEvent::what) what) { core.OnHandoff(SenderEvent{kKey, what}, now); }
};

// Brings kKey into `state`.
void Reach(Bench& bench, const std::string& state) {
  if (state == "none") return;
  bench.Prefill(CommandOf(kKey));
  if (state == "queued") return;
  bench.Layer(0);
  if (state == "computing") return;
  if (state == "closing") {
    bench.Abort(kRouter);
    return;
  }
  bench.Layer(1);
  bench.Token();
  bench.PromptDone();
}

struct Row {
  std::string state, event, next, calls;
};

const std::map<std::string, std::function<void(Bench&)>>& Events() {
  static const auto& events = *new std::map<std::string, std::function<void(Bench&)>>{
      {"prefill same key", [](Bench& b) { b.Prefill(CommandOf(kKey)); }},
      {"prefill higher attempt",
       [](Bench& b) {
         b.Prefill(CommandOf({kKey.request, 2}));
       }},
      {"abort", [](Bench& b) { b.Abort(kRouter); }},
      {"abort sample", [](Bench& b) { b.Abort(kRouter, 0); }},
      {"abort by another router", [](Bench& b) { b.Abort(kOtherRouter); }},
      {"session end", [](Bench& b) { b.core.OnSessionEnd(kRouter, b.now); }},
      {"another session's end", [](Bench& b) { b.core.OnSessionEnd(kOtherRouter, b.now); }},
      {"layer", [](Bench& b) { b.Layer(1); }},
      {"token", [](Bench& b) { b.Token(); }},
      {"prompt done", [](Bench& b) { b.PromptDone(); }},
      {"engine failed", [](Bench& b) { b.EngineFailed(); }},
      {"sender failed",
       [](Bench& b) {
         b.Sender(SenderEvent::Failed{HandoffFailure::kPeerLost, "gone"});
       }},
      {"delivered", [](Bench& b) { b.Sender(SenderEvent::Delivered{}); }},
      {"released", [](Bench& b) { b.Sender(SenderEvent::Released{}); }},
      {"deadline",
       [](Bench& b) {
         b.now += absl::Seconds(60);
         b.core.OnTime(b.now);
       }},
      {"before the deadline",
       [](Bench& b) {
         b.now += absl::Seconds(59);
         b.core.OnTime(b.now);
       }},
      {"drain", [](Bench& b) { b.core.OnCommand(kRouter, DrainCommand{}, b.now); }},
      {"engine broken",
       [](Bench& b) { b.core.OnEngineBroken(absl::InternalError("broken"), b.now); }},
  };
  return events;
}

const std::set<std::string> kStates = {"none", "queued", "computing", "sending", "closing"};

// What the engine cannot do: tokens come from a row that ran, PromptDone after the tokens.
const std::set<std::pair<std::string, std::string>> kImpossible = {
    {"queued", "token"},          {"queued", "prompt done"}, {"sending", "token"},
    {"computing", "prompt done"},  // in this test the token comes first; see the happy path
    {"sending", "prompt done"},
};

constexpr char kCancel[] = "sender.Abort; scheduler.Abort(pinned)";

std::vector<Row> Table() {
  std::vector<Row> table = {
      {"none", "prefill same key", "queued", "scheduler.Add; sender.Open"},
      {"none", "prefill higher attempt", "none", "scheduler.Add; sender.Open"},
      {"queued", "layer", "computing", "sender.Push(layer 1 blocks 0+2)"},
      {"computing", "layer", "computing", "sender.Push(layer 1 blocks 0+2)"},
      {"computing", "token", "computing", "reply Tokens(1)"},
      {"sending", "delivered", "closing", ""},
      {"closing", "released", "none", "scheduler.Release"},
  };
  for (const char* state : {"queued", "computing", "sending", "closing"}) {
    table.push_back({state, "prefill same key", state, "reply Refused(stale_attempt)"});
  }
  table.push_back({"closing", "prefill higher attempt", "closing", "scheduler.Add; sender.Open"});
  for (const char* state : {"queued", "computing", "sending"}) {
    const std::string cancel = kCancel;
    table.push_back({state, "prefill higher attempt", "closing",
                     cancel + "; reply Failed(aborted); scheduler.Add; sender.Open"});
    table.push_back({state, "abort", "closing", cancel + "; reply Failed(aborted)"});
    table.push_back({state, "session end", "closing", cancel});
    table.push_back({state, "deadline", "closing", cancel + "; reply Failed(deadline)"});
    table.push_back({state, "engine broken", "closing", cancel + "; reply Failed(internal)"});
    table.push_back(
        {state, "sender failed", "closing", "scheduler.Abort(pinned); reply Failed(peer_lost)"});
    table.push_back(
        {state, "engine failed", "closing", "sender.Abort; reply Failed(kv_exhausted)"});
    table.push_back({state, "released", "none",
                     "scheduler.Abort(pinned); reply Failed(internal); scheduler.Release"});
  }
  for (const char* state : {"queued", "computing"}) {
    table.push_back(
        {state, "delivered", "closing", std::string(kCancel) + "; reply Failed(internal)"});
  }
  return table;
}

TEST(PrefillCoreTransitions, EveryStateAndEventDoesWhatTheTableSays) {
  std::map<std::pair<std::string, std::string>, Row> expected;
  for (const Row& row : Table()) expected[{row.state, row.event}] = row;
  for (const std::string& state : kStates) {
    for (const auto& [event, apply] : Events()) {
      if (kImpossible.contains({state, event})) continue;
      SCOPED_TRACE(state + " + " + event);
      Bench bench;
      Reach(bench, state);
      ASSERT_EQ(bench.core.StateName(kKey), state);
      bench.trace.Take();
      apply(bench);
      bench.core.CheckInvariants();
      const auto found = expected.find({state, event});
      const Row row = found == expected.end() ? Row{state, event, state, ""} : found->second;
      EXPECT_EQ(bench.core.StateName(kKey), row.next);
      EXPECT_EQ(bench.trace.Take(), row.calls);
    }
  }
}

TEST(PrefillCore, RunsAPromptFromCommandToRelease) {
  Bench bench;
  bench.Prefill(CommandOf(kKey, /*tokens=*/6, 0, /*samples=*/2));
  bench.now += absl::Milliseconds(3);
  bench.Layer(0);
  bench.Layer(1);
  bench.now += absl::Milliseconds(10);
  bench.Engine({{SequenceId(1), SequenceEvent::Token{{.sample = 0, .token = 42}}},
                {SequenceId(1), SequenceEvent::Token{{.sample = 1, .token = 43}}},
                {SequenceId(1), SequenceEvent::PromptDone{.cached_tokens = 0}}});
  EXPECT_EQ(bench.trace.Take(),
            "scheduler.Add; sender.Open; sender.Push(layer 0 blocks 0+2); "
            "sender.Push(layer 1 blocks 0+2); reply Tokens(2); reply PrefillDone; "
            "sender.Finish(42,43)");
  const auto& done = std::get<PrefillDoneReply>(bench.routers.sent.back().reply.what);
  EXPECT_EQ(done.queue, absl::Milliseconds(3));
  EXPECT_EQ(done.prefill, absl::Milliseconds(10));
  EXPECT_EQ(bench.core.view().open, 1);
  bench.Sender(SenderEvent::Delivered{});
  EXPECT_EQ(bench.core.view().closing, 1);
  bench.Sender(SenderEvent::Released{});
  EXPECT_TRUE(bench.core.view().idle());
  EXPECT_EQ(bench.trace.Take(), "scheduler.Release");
}

TEST(PrefillCore, RefusesWhatItCannotServe) {
  Bench bench(/*credits=*/1);
  PrefillCommand foreign = CommandOf(kKey);
  foreign.ticket.key.attempt = 9;
  bench.Prefill(foreign);
  PrefillCommand shifted = CommandOf(kKey);
  shifted.first_missing_token = 3;
  bench.Prefill(shifted);
  PrefillCommand short_ticket = CommandOf(kKey);
  short_ticket.ticket.num_blocks = 1;
  bench.Prefill(short_ticket);
  EXPECT_EQ(bench.trace.Take(),
            "reply Refused(invalid); reply Refused(invalid); reply Refused(invalid)");
  bench.scheduler.next_add = absl::InvalidArgumentError("larger than the pool");
  bench.Prefill(CommandOf(kKey));
  bench.scheduler.next_add = absl::ResourceExhaustedError("waiting list full");
  bench.Prefill(CommandOf(kKey));
  EXPECT_EQ(bench.trace.Take(),
            "scheduler.Add; reply Refused(never_fits); scheduler.Add; reply Refused(no_room)");
  // A refused key was not accepted: it may come again.
  bench.scheduler.next_add = absl::OkStatus();
  bench.Prefill(CommandOf(kKey));
  EXPECT_EQ(bench.core.StateName(kKey), "queued");
  bench.trace.Take();
  bench.Prefill(CommandOf({RequestId(8), 1}));
  EXPECT_EQ(bench.trace.Take(), "reply Refused(no_room)");
  bench.core.OnDrain();
  bench.Prefill(CommandOf({RequestId(9), 1}));
  EXPECT_EQ(bench.trace.Take(), "reply Refused(draining)");
  bench.core.OnCommand(kRouter, ReserveCommand{.key = {RequestId(10), 1}}, bench.now);
  bench.core.OnCommand(kRouter, GenerateCommand{.key = {RequestId(10), 1}}, bench.now);
  EXPECT_EQ(bench.trace.Take(), "reply Refused(invalid); reply Refused(invalid)");
}

TEST(PrefillCore, GivesACreditBackWhenThePromptIsDone) {
  Bench bench(/*credits=*/2);
  EXPECT_EQ(bench.core.view().credits, 2);
  bench.Prefill(CommandOf(kKey));
  EXPECT_EQ(bench.core.view().credits, 1);
  bench.Layer(0);
  bench.Layer(1);
  bench.Token();
  bench.PromptDone();
  EXPECT_EQ(bench.core.view().credits, 2);
}

TEST(PrefillCore, SendsPromptLogprobsOnceBeforeTheFirstTokens) {
  Bench bench;
  PrefillCommand command = CommandOf(kKey);
  command.spec.sampling.num_prompt_logprobs = 0;
  bench.Prefill(command);
  bench.Layer(0);
  StepResult first{.prompt_logprobs = {{SequenceId(1), {{.index = 1}, {.index = 2}}}}};
  bench.core.OnStep(std::move(first), bench.now);
  bench.trace.Take();
  StepResult second{
      .events = {{SequenceId(1), SequenceEvent::Token{{.token = 42}}}},
      .prompt_logprobs = {{SequenceId(1), {{.index = 3}, {.index = 4}, {.index = 5}}}}};
  bench.core.OnStep(std::move(second), bench.now);
  EXPECT_EQ(bench.trace.Take(), "reply PromptLogprobs(6); reply Tokens(1)");
}

// The naive rule: after the chunk that covers token t, block t / block_size is final once its last
// token (or the prompt's) is computed; what was cached is final from the start; nothing below the
// first missing token is sent.
class PrefillPushes : public testing::TestWithParam<int32_t> {};

TEST_P(PrefillPushes, SendEachMissingBlockOfEachLayerOnceAndOnlyWhenFinal) {
  const int32_t chunk = GetParam();
  int cases = 0;
  for (int32_t tokens = 1; tokens <= 19; ++tokens) {
    for (int32_t missing = 0; missing <= tokens; missing += kBlockSize) {
      for (int32_t cached = 0; cached < tokens; ++cached) {
        SCOPED_TRACE(testing::Message() << tokens << " tokens, missing from " << missing
                                        << ", cached " << cached << ", chunk " << chunk);
        ++cases;
        Bench bench;
        bench.Prefill(CommandOf(kKey, tokens, missing));
        std::map<std::pair<int32_t, int32_t>, int> sent;  // (layer, logical block)
        for (int32_t start = cached; start < tokens; start += chunk) {
          const int32_t count = std::min(chunk, tokens - start);
          const bool ends = start + count == tokens;
          for (int32_t layer = 0; layer < kLayers; ++layer) {
            bench.core.OnLayer(layer, bench.PlanOf(SequenceId(1), start, count, ends), bench.now);
            for (const FakeSender::Pushed& push : std::exchange(bench.sender.pushes, {})) {
              ASSERT_FALSE(push.blocks.empty());
              for (size_t i = 0; i < push.blocks.size(); ++i) {
                const int32_t logical = push.first_block + static_cast<int32_t>(i);
                EXPECT_EQ(push.blocks[i], BlockId(100 + logical));
                ++sent[{push.layer, logical}];
                const int32_t last_token = std::min((logical + 1) * kBlockSize, tokens) - 1;
                // Layers at or below this one hold this chunk, higher ones what came before it.
                const int32_t computed = push.layer <= layer ? start + count : start;
                EXPECT_LT(last_token, computed) << "layer " << push.layer << " block " << logical;
              }
            }
          }
        }
        std::map<std::pair<int32_t, int32_t>, int> wanted;
        for (int32_t layer = 0; layer < kLayers; ++layer) {
          for (int32_t block = missing / kBlockSize; block < BlocksForTokens(tokens, kBlockSize);
               ++block) {
            wanted[{layer, block}] = 1;
          }
        }
        EXPECT_EQ(sent, wanted);
      }
    }
  }
  EXPECT_GT(cases, 400);
}

INSTANTIATE_TEST_SUITE_P(ChunkSizes, PrefillPushes, testing::Values(1, 2, 3, 4, 5, 7, 8, 64));

}  // namespace
}  // namespace baton
